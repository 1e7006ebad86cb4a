"""An aarch64 Debian emulated by QEMU: a real second machine, reached over ssh, whose disk survives a reboot."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeslim.bundled import bundled

BOOT_TIMEOUT_S = 120.0
READY = "edgeslim: ready"
REMOTE = "/root/edgeslim"  # on its disk, which survives a reboot
INSTALL = "run tools/install_emulator"


class EmulatedMachine:
    """One machine in a folder; `start` boots it, with another size of memory or other kernel words each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "console.log"
        self._qemu: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.address = f"ssh://root@127.0.0.1:{self.port}"
        self.ssh_config = folder / "ssh_config"

    def start(self, ram_mib: int = 1024, kernel_words: str = "") -> None:
        """Boot it and wait until its ssh server listens."""
        self.stop()
        self._log.unlink(missing_ok=True)
        command = [
            *("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "1", "-m", str(ram_mib)),
            *("-nographic", "-nodefaults", "-serial", f"file:{self._log}"),
            *("-kernel", self._folder / "kernel", "-initrd", self._folder / "initrd.gz"),
            *("-append", f"console=ttyAMA0 quiet panic=-1 random.trust_cpu=on {kernel_words}"),
            *("-drive", f"file={self._folder / 'disk.img'},format=raw,if=none,id=disk"),
            *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22,restrict=on"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
        ]
        errors = self._folder / "qemu.log"
        with errors.open("wb") as stderr:
            self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)
        self.wait_for_boots(1)

    def wait_for_boots(self, count: int) -> None:
        """Wait until it has booted so many times since `start`."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while self.boots() < count:
            assert self._qemu is not None, "the machine was not started"
            assert self._qemu.poll() is None, (self._folder / "qemu.log").read_text()
            assert time.monotonic() < deadline, f"no boot in {BOOT_TIMEOUT_S:g} s:\n{self._log.read_text()}"
            time.sleep(0.1)

    def boots(self) -> int:
        """Return how often it has booted since `start`."""
        return self._log.read_text(errors="replace").count(READY) if self._log.exists() else 0

    def ssh(self, script: str) -> str:
        """Run a script there, beside edgeslim's own connection, and return its stdout."""
        words = ["ssh", "-F", str(self.ssh_config), "-p", str(self.port), "root@127.0.0.1", script]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout

    def trust(self) -> None:
        """Write an OpenSSH configuration that holds the machine's host key."""
        known = self._folder / "known_hosts"
        keys = subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", str(self.port), "127.0.0.1"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        known.write_text(keys.stdout)
        self.write_config(self.ssh_config, known)

    def write_config(self, config: Path, known_hosts: Path, key: Path | None = None) -> Path:
        """Write an OpenSSH configuration with these known hosts and, by default, the key that the machine takes."""
        config.write_text(
            f"Host 127.0.0.1\n  IdentityFile {key or self._folder / 'key'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {known_hosts}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
        )
        return config

    def stop(self) -> None:
        """Cut its power."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None


@contextmanager
def running_machine(folder: Path) -> Iterator[EmulatedMachine]:
    """Make a machine in `folder`, boot it, and let edgeslim know how to reach it and where to keep its files there."""
    one = make_machine(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESLIM_SSH_CONFIG", str(one.ssh_config))
        patch.setenv("EDGESLIM_REMOTE", REMOTE)
        try:
            one.start()
            one.trust()
            yield one
        finally:
            one.stop()


def make_machine(folder: Path) -> EmulatedMachine:
    """Make a machine and the key that opens it; skips where QEMU or what makes the machine is not installed."""
    for tool in ("qemu-system-aarch64", "ssh", "ssh-keygen", "ssh-keyscan"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; {INSTALL}")
    make_key(folder / "key")
    recipe = bundled("runtimes") / "emulator" / "make_machine"
    made = subprocess.run(
        ["bash", recipe, folder, folder / "key.pub"], capture_output=True, text=True, check=False, timeout=600
    )
    if "is not installed" in made.stderr:
        pytest.skip(f"{made.stderr.strip()}; {INSTALL}")
    assert made.returncode == 0, made.stderr
    return EmulatedMachine(folder)


def make_key(file: Path) -> Path:
    """Make a key pair for ssh without a passphrase; return the private key's file."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
