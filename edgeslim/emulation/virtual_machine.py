"""An aarch64 Debian in QEMU: a real kernel with a chosen processor and memory, reached over ssh, made once and kept."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeslim.devices.machine import available_bytes
from edgeslim.errors import BadInput, ToolFailed
from edgeslim.resources import bundled, default_store, with_parent
from edgeslim.sealed import is_made, sealed_folder
from edgeslim.units import show_memory
from edgeslim.work_folders import work_folder

LEAST_RAM_BYTES = 64 * 2**20  # with less the kernel does not come up
BOOT_TIMEOUT_S, MAKE_TIMEOUT_S = 120.0, 600.0
POLL_S = 0.1
LAST_LINES = 12
READY = "edgeslim: ready "  # what runtimes/emulator/init says once its ssh server listens, with its host key behind
KIND = "machines"  # among what is kept
REMOTE = "/root/edgeslim"  # on its disk, which survives a reboot
# What runs a machine, and what makes one -> the Debian package.
TO_RUN = {"qemu-system-aarch64": "qemu-system-arm", "ssh": "openssh-client"}
TO_MAKE = {
    "ssh-keygen": "openssh-client",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "cpio": "cpio",
    "mke2fs": "e2fsprogs",
    "gzip": "gzip",
}


class VirtualMachine:
    """One machine; `start` boots it, each time with an unwritten disk, and a reboot inside keeps the disk.

    `made` is the folder of `made_machine`, which is only read; `folder` takes what belongs to this session.
    """

    def __init__(self, made: Path, folder: Path, qemu_cpu: str) -> None:
        self._made, self._folder, self._cpu = made, folder, qemu_cpu
        self._log, self._errors = folder / "console.log", folder / "qemu.log"
        self._qemu: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.address = f"ssh://root@127.0.0.1:{self.port}"
        self.ssh_config = folder / "ssh_config"

    def start(
        self, ram_bytes: int, *, kernel_words: str = "", options: Sequence[str] = (), timeout_s: float = BOOT_TIMEOUT_S
    ) -> None:
        """Boot it and wait until its ssh server listens; `options` are QEMU's.

        Raises ToolFailed with the console's last lines where it does not come up.
        """
        self.stop()
        self._log.unlink(missing_ok=True)
        with self._errors.open("wb") as stderr:
            self._qemu = subprocess.Popen(
                with_parent([*self._command(ram_bytes, kernel_words), *options]),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={**os.environ, "TMPDIR": str(self._folder)},
                start_new_session=True,
            )
        self.wait_for_boots(1, timeout_s)
        self._trust()

    def wait_for_boots(self, count: int, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until it has booted so many times since `start`; ToolFailed as `start`."""
        deadline = time.monotonic() + timeout_s
        while self.boots() < count:
            if self._qemu is None or self._qemu.poll() is not None:
                raise ToolFailed(f"qemu-system-aarch64 ended before the machine was up:\n{_end(self._errors)}")
            if time.monotonic() > deadline:
                raise ToolFailed(
                    f"the emulated machine was not up after {timeout_s:g} s; its console ended with:\n{_end(self._log)}"
                )
            time.sleep(POLL_S)

    def boots(self) -> int:
        """Return how often it has booted since `start`."""
        return len(self._ready_lines())

    def stop(self) -> None:
        """Cut its power."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def write_config(self, config: Path, known_hosts: Path, key: Path | None = None) -> Path:
        """Write an OpenSSH configuration with these known hosts and, by default, the key that the machine takes."""
        config.write_text(
            f'Host 127.0.0.1\n  IdentityFile "{key or self._made / "key"}"\n  IdentitiesOnly yes\n'
            f'  UserKnownHostsFile "{known_hosts}"\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n',
            encoding="utf-8",
        )
        return config

    def _ready_lines(self) -> list[str]:
        """Return what whole lines say behind READY: the host key of each boot."""
        if not self._log.exists():
            return []
        whole = self._log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [line.partition(READY)[2].strip() for line in whole if READY in line]

    def _trust(self) -> None:
        """Know the machine by the key that its own console showed, which no other machine can write to."""
        known = self._folder / "known_hosts"
        kind, key = self._ready_lines()[-1].split()[:2]
        known.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n", encoding="utf-8")
        self.write_config(self.ssh_config, known)

    def _command(self, ram_bytes: int, kernel_words: str) -> list[str]:
        return [
            *("qemu-system-aarch64", "-M", "virt", "-cpu", self._cpu, "-smp", "1"),
            *("-m", f"{ram_bytes // 1024}K", "-nographic", "-nodefaults", "-serial", f"file:{self._log}"),
            *("-kernel", str(self._made / "kernel"), "-initrd", str(self._made / "initrd.gz")),
            *("-append", f"console=ttyAMA0 quiet panic=-1 random.trust_cpu=on {kernel_words}"),
            *("-drive", f"file={self._made / 'disk.img'},format=raw,if=none,id=disk,snapshot=on"),
            *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22,restrict=on"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
        ]


@contextmanager
def running_machine(
    qemu_cpu: str, ram_bytes: int, *, options: Sequence[str] = (), timeout_s: float = BOOT_TIMEOUT_S
) -> Iterator[VirtualMachine]:
    """Boot a machine with a core that QEMU knows ("cortex-a72") and so much memory; it ends with the context.

    The first call makes the machine (`made_machine`). Raises BadInput for a size that cannot be, and ToolFailed.
    """
    require_ram(ram_bytes)
    made = made_machine()
    with work_folder() as folder:
        machine = VirtualMachine(made, folder, qemu_cpu)
        try:
            machine.start(ram_bytes, options=options, timeout_s=timeout_s)
            yield machine
        finally:
            machine.stop()


def require_ram(ram_bytes: int) -> None:
    """Raise BadInput for a memory that the machine cannot boot with, or that this one does not have free."""
    if ram_bytes < LEAST_RAM_BYTES:
        raise BadInput(
            f"an emulated machine with {show_memory(ram_bytes)} of memory: its own kernel needs "
            f"{show_memory(LEAST_RAM_BYTES)} to come up"
        )
    free = available_bytes()
    if ram_bytes > free:
        raise BadInput(
            f"an emulated machine with {show_memory(ram_bytes)} of memory: this one has {show_memory(free)} available"
        )


def missing_tools() -> dict[str, str]:
    """Return what is not installed of that which makes and runs the machine, with the Debian package that brings it."""
    made = is_made(default_store(), KIND, _recipe())
    return {tool: package for tool, package in {**TO_RUN, **({} if made else TO_MAKE)}.items() if not _found(tool)}


def cure(missing: dict[str, str]) -> str:
    """Return the command that installs what `missing_tools` found."""
    return f"apt-get install {' '.join(dict.fromkeys(missing.values()))}"


def made_machine() -> Path:
    """Return the folder with kernel, initrd.gz, disk.img and the key that opens the machine, made by the first call.

    It is kept under the hash of its recipe. Raises ToolFailed where a tool is missing,
    apt does not reach Debian's packages, or it cannot be kept.
    """
    missing = missing_tools()
    if missing:
        raise ToolFailed(
            f"the emulated machine needs {', '.join(missing)}: run tools/install_emulator of edgeslim's repository, "
            f"or {cure(missing)}"
        )
    return sealed_folder(default_store(), KIND, _recipe(), _make)


def _make(into: Path) -> None:
    """Make key and machine; what the recipe needs on the way lies beside it."""
    recipe = bundled("runtimes") / "emulator" / "make_machine"
    with work_folder(into.parent) as work:
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgeslim", "-f", str(into / "key")], work)
        _run(["bash", str(recipe), str(into), str(into / "key.pub")], work)


def _run(command: list[str], work: Path) -> None:
    """Run a program that leaves nothing behind, even when it is interrupted; ToolFailed with its words if it fails."""
    with (work / "words").open("w+b") as words:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env={**os.environ, "TMPDIR": str(work), "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            code = child.wait(MAKE_TIMEOUT_S)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ToolFailed(f"the emulated machine was not made after {MAKE_TIMEOUT_S:g} s") from error
            raise
    if code:
        raise ToolFailed(f"the emulated machine cannot be made:\n{_end(work / 'words')}")


def _recipe() -> str:
    """Return the name of the machine of the present recipe."""
    digest = hashlib.sha256()
    for name in ("make_machine", "init"):
        digest.update(hashlib.sha256((bundled("runtimes") / "emulator" / name).read_bytes()).digest())
    return f"aarch64-{digest.hexdigest()[:32]}"


def _found(tool: str) -> str | None:
    """Return where a tool lies; those of file systems lie where only root looks."""
    return shutil.which(tool, path=os.pathsep.join(filter(None, [os.environ.get("PATH"), "/usr/sbin", "/sbin"])))


def _end(file: Path) -> str:
    """Return the last lines of a log, indented."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (nothing was said)"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
