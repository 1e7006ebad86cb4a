"""A Linux board reached with OpenSSH's own client: `ssh://user@host:port`. The board needs sh and busybox's tools."""

import contextlib
import hashlib
import os
import re
import secrets
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgeslim.bounds import MOST_WORDS_BYTES
from edgeslim.deploy.bounds import Watch, lines_of, tail_of
from edgeslim.deploy.exit_status import ended, program, timed_out
from edgeslim.deploy.ssh_connection import Connection
from edgeslim.errors import BadInput, DeviceFailed
from edgeslim.resources import whole_file
from edgeslim.units import show_bytes
from edgeslim.work_folders import has_gone, process_name, work_folder

COMMAND_TIMEOUT_S = 60.0
TRANSFER_TIMEOUT_S = 3600.0
RETRY_S = 1.0
MOST_DIGITS = 15  # of a file's size in bytes
SPARE_BYTES = 1 << 20  # left free on the device beyond what is sent
LARGEST_LOOK_BYTES = 65536
TRAILER = "edgeslim-ended"

_WORD = r"[A-Za-z0-9_.][A-Za-z0-9_.%+-]*"  # of a user or a host: nothing that ssh or a shell takes for more than a name
_ADDRESS = re.compile(rf"ssh://(?:({_WORD})@)?({_WORD}|\[[0-9a-fA-F:]+\])(?::(\d{{1,5}}))?/?")

# Runs a program in a session of its own, where it outlives the connection and can be killed as a whole; the last line
# of stderr says how it ended, and whether the kernel's log names it as killed for want of memory.
_RUN = """
cd {folder} || exit 1
if command -v setsid >/dev/null; then apart=setsid; else apart=; fi
$apart sh -c 'echo $$ >{pid_file}; exec "$@"' sh {words} </dev/null &
wait $!
status=$?
pid=$(cat {pid_file})
rm -f {pid_file}
memory=
if [ $status = 137 ] && dmesg 2>/dev/null | grep -q "Killed process $pid "; then memory=oom; fi
echo "{trailer} $status $memory" >&2
"""


@dataclass(frozen=True)
class _File:
    """A file to send, by the name it has on the device."""

    path: Path
    name: str
    size: int
    sha256: str

    @staticmethod
    def of(path: Path) -> "_File":
        if not path.is_file():
            raise BadInput(f"{path} does not exist")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return _File(path, path.name, path.stat().st_size, digest)


class SshTarget:
    """A board over ssh; `close` removes what this session left there, but for what was sent to be kept."""

    def __init__(self, address: str, connection: Connection, root: str, run_folder: str) -> None:
        self.address = address
        self._connection = connection
        self._root, self._run_folder = root, run_folder
        self._runs = 0

    def push(self, *files: Path, keep: bool = False) -> str:
        """Bring files to the device, side by side in a folder that their content names; return the first one's path.

        What is there already is not sent, and what was cut short is continued. DeviceFailed ("disk-full") where there
        is no room, before anything is sent or when it runs out on the way; nothing half-sent is left then.
        """
        sent = [_File.of(file) for file in files]
        content = "\n".join(f"{one.sha256} {one.name}" for one in sent)
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        folder = f"{self._root}/kept/{name}" if keep else f"{self._run_folder}/{name}"
        begun, free_bytes = self._begun(folder, sent)
        missing_bytes = sum(one.size - begun[one.name] for one in sent if one.name in begun)
        if missing_bytes + SPARE_BYTES > free_bytes:
            raise DeviceFailed(
                f"{self.address}: {show_bytes(missing_bytes)} are to be sent, {show_bytes(free_bytes)} are free in "
                f"{self._root}",
                "disk-full",
            )
        for one in sent:
            if one.name in begun:
                self._send(one, f"{folder}/{one.name}", begun[one.name])
        return f"{folder}/{sent[0].name}"

    def run(self, argv: Sequence[str], timeout_s: float) -> Iterator[str]:
        """Run a program in a session of its own on the device and yield its stdout line by line as it comes.

        It is killed there when `timeout_s` seconds have passed and when the iterator is closed or this process is
        interrupted; when the connection is cut it works on, and the error has the status "lost".
        """
        self._runs += 1
        pid_file = f"pid-{self._runs}"
        words = shlex.join(argv)
        script = _RUN.format(folder=shlex.quote(self._run_folder), pid_file=pid_file, words=words, trailer=TRAILER)
        with tempfile.TemporaryFile() as stderr:
            child = self._connection.start(script, stderr)
            last, complete = "", False
            with Watch({stderr: MOST_WORDS_BYTES}, timeout_s, partial(self._stop, child, pid_file)) as watch:
                try:
                    for last in lines_of(child.stdout, program(argv)) if child.stdout else ():
                        yield last
                    child.wait()
                    complete = True
                finally:
                    if not complete:
                        self._stop(child, pid_file)
                    if child.stdout is not None:
                        child.stdout.close()
            words_of_stderr = tail_of(stderr)
        watch.require_bounded(program(argv))
        if watch.late:
            raise timed_out(argv, timeout_s, words_of_stderr)
        self._require_success(argv, child.returncode, last, words_of_stderr)

    def pull(self, remote: str, to: Path) -> None:
        """Copy the device's file to `to` through a `.part` file, its SHA-256 compared; DeviceFailed if it is absent.

        Of a file that grows, as a log does, it is what was there at first.
        """
        file = shlex.quote(remote)
        told = self._connection.ask(
            f"[ -f {file} ] || exit 0; size=$(wc -c <{file}); head -c $size {file} | sha256sum; echo $size",
            COMMAND_TIMEOUT_S,
        ).split()
        if not told:
            raise DeviceFailed(f"{remote} does not exist on {self.address}")
        if not told[-1].isdecimal() or len(told[-1]) > MOST_DIGITS:
            raise DeviceFailed(f"{self.address} tells no size of {remote}: {told[-1][:40]!r}", "protocol")
        with whole_file(to) as part:
            with part.open("wb") as stream:
                self._connection.copy_out(f"head -c {told[-1]} {file}", stream, TRANSFER_TIMEOUT_S, int(told[-1]))
            if _File.of(part).sha256 != told[0]:
                raise DeviceFailed(f"{remote} changed or was damaged on its way from {self.address}", "lost")

    def look(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return path -> text of every small file that a shell pattern matches, 64 KiB at most of each."""
        mark = secrets.token_hex(16)
        script = (
            f"for file in {' '.join(patterns)}; do\n"
            f'[ -f "$file" ] && [ -r "$file" ] || continue\n'
            f"printf '\\n{mark} %s\\n' \"$file\"\n"
            f"head -c {LARGEST_LOOK_BYTES} \"$file\" 2>/dev/null || printf '{mark}'\n"
            "done; true"
        )
        text = self._connection.ask(script, COMMAND_TIMEOUT_S)
        found = {}
        for part in text.split(f"\n{mark} ")[1:]:
            path, _, content = part.partition("\n")
            if not content.endswith(mark):
                found[path] = content
        return found

    def work_path(self, name: str) -> str:
        """Return a path in this session's folder on the device."""
        return f"{self._run_folder}/{name}"

    def reconnect(self, timeout_s: float) -> None:
        """Try until the device answers again; DeviceFailed ("unreachable") if it does not, or what it refuses us."""
        deadline = time.monotonic() + timeout_s
        self._connection.drop()
        while True:
            try:
                self._connection.ask("true", COMMAND_TIMEOUT_S)
            except DeviceFailed as error:
                if error.status not in ("unreachable", "lost", "timeout"):
                    raise
                if time.monotonic() > deadline:
                    raise DeviceFailed(f"{self.address} did not answer for {timeout_s:g} s", "unreachable") from error
                time.sleep(RETRY_S)
            else:
                return

    def close(self) -> None:
        """Remove this session's folder on the device and end the connection; a device that is gone is left as it is."""
        with contextlib.suppress(DeviceFailed):
            self._connection.ask(f"rm -rf {shlex.quote(self._run_folder)}", COMMAND_TIMEOUT_S)
        self._connection.drop()

    def _begun(self, folder: str, files: Sequence[_File]) -> tuple[dict[str, int], int]:
        """Return how many bytes of each file that is not whole are on the device, and the free bytes there."""
        names = " ".join(shlex.quote(one.name) for one in files)
        told = self._connection.ask(
            f"mkdir -p {shlex.quote(folder)} && cd {shlex.quote(folder)} || exit 1\n"
            f"for file in {names}; do\n"
            '[ -f "$file" ] && continue\n'
            'if [ -f "$file.part" ]; then wc -c <"$file.part"; else echo 0; fi; echo "$file"\n'
            "done\ndf -Pk . | tail -n 1 | awk '{print $4}'",
            COMMAND_TIMEOUT_S,
        ).splitlines()
        begun = {name: int(size) for size, name in zip(told[:-1:2], told[1:-1:2], strict=True)}
        sizes = {one.name: one.size for one in files}
        return {name: size if size <= sizes[name] else 0 for name, size in begun.items()}, int(told[-1]) * 1024

    def _send(self, file: _File, remote: str, begun_bytes: int) -> None:
        """Send what is missing of a file, compare its SHA-256 on the device, and give it its name."""
        part, mode = shlex.quote(remote + ".part"), "755" if os.access(file.path, os.X_OK) else "644"
        try:
            told = self._sent(file, part, begun_bytes)
            if told != file.sha256 and begun_bytes:  # what was begun is of another file, or damaged
                told = self._sent(file, part, 0)
            if told != file.sha256:
                raise DeviceFailed(f"{file.path.name} arrived damaged on {self.address}; it was removed there")
            self._connection.ask(f"chmod {mode} {part} && mv {part} {shlex.quote(remote)}", COMMAND_TIMEOUT_S)
        except DeviceFailed as error:
            if error.status != "lost":  # then the part is continued next time
                with contextlib.suppress(DeviceFailed):
                    self._connection.ask(f"rm -f {part}", COMMAND_TIMEOUT_S)
            raise

    def _sent(self, file: _File, part: str, begun_bytes: int) -> str:
        """Send a file from a byte on, and return the SHA-256 of what then lies in `part` on the device."""
        with file.path.open("rb") as stream:
            stream.seek(begun_bytes)
            self._connection.copy_in(stream, f"cat {'>>' if begun_bytes else '>'}{part}", TRANSFER_TIMEOUT_S)
        return self._connection.ask(f"sha256sum {part}", COMMAND_TIMEOUT_S).partition(" ")[0]

    def _stop(self, child: "subprocess.Popen[bytes]", pid_file: str) -> None:
        """Kill a program on the device and the ssh that waits for it."""
        with contextlib.suppress(DeviceFailed):
            folder = shlex.quote(self._run_folder)
            self._connection.ask(f"cd {folder} && kill -9 -$(cat {pid_file}) 2>/dev/null; true", COMMAND_TIMEOUT_S)
        child.kill()
        child.wait()

    def _require_success(self, argv: Sequence[str], returncode: int, last: str, stderr: str) -> None:
        """Raise what a finished program's trailer says, or what ssh says where there is none."""
        trailer = re.search(rf"^{TRAILER} (\d+) (oom)?$", stderr, re.MULTILINE)
        if trailer is None:
            raise self._connection.failure(returncode, stderr)
        status = int(trailer[1])
        if status:
            rest = stderr.replace(trailer[0], "")
            raise ended(argv, status, last, rest, out_of_memory=trailer[2] is not None)


def _is_abandoned(name: str) -> bool:
    """Tell whether a folder on the device is of a session whose process, here, has gone: a killed one left it."""
    parts = name.split("-")
    return len(parts) == 3 and parts[0] == "run" and has_gone(parts[1])


@contextmanager
def open_target(
    address: str, *, config: Path | None = None, root: str | None = None, called: str | None = None
) -> Iterator[SshTarget]:
    """Yield the board at `ssh://user@host:port`; user and port may be left to OpenSSH's configuration.

    `config` is that configuration and `root` edgeslim's folder on the board, by default what EDGESLIM_SSH_CONFIG and
    EDGESLIM_REMOTE say; `called` stands for the address in what is said of it. Raises BadInput for another form of
    address, ToolFailed without an ssh client, and DeviceFailed.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise BadInput(f"target `{address}`: expected ssh://user@host:port, such as ssh://pi@192.168.1.20:22")
    user, host, port = found.groups()
    called = called or address
    with work_folder() as folder:
        host = f"{user}@{host.strip('[]')}" if user else host.strip("[]")
        connection = Connection(called, host, port, folder, config)
        wanted = root or os.environ.get("EDGESLIM_REMOTE")
        if wanted is not None and not wanted.isprintable():
            raise BadInput(
                f"EDGESLIM_REMOTE is {wanted!r}; expected one folder of the device, without control characters"
            )
        top_folder = shlex.quote(wanted) if wanted else "${XDG_CACHE_HOME:-$HOME/.cache}/edgeslim"
        name = f"run-{process_name()}-{secrets.token_hex(8)}"
        try:
            script = f'umask 077; root={top_folder}; mkdir -p "$root/kept" "$root/{name}" && cd "$root" && pwd && ls'
            top, *there = connection.ask(script, COMMAND_TIMEOUT_S).splitlines()
            if left := [one for one in there if _is_abandoned(one)]:
                words = " ".join(shlex.quote(f"{top}/{one}") for one in left)
                connection.ask(f"rm -rf {words}", COMMAND_TIMEOUT_S)
            target = SshTarget(called, connection, top, f"{top}/{name}")
            try:
                yield target
            finally:
                target.close()
        finally:
            connection.drop()
