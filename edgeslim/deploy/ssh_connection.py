"""One connection of OpenSSH's client: scripts run at the other end, bytes copied in and out, failures told apart."""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from edgeslim.bounds import MOST_WORDS_BYTES
from edgeslim.deploy.bounds import Watch, tail_of
from edgeslim.errors import DeviceFailed, ToolFailed
from edgeslim.resources import with_parent

CONNECT_TIMEOUT_S, ALIVE_INTERVAL_S, ALIVE_COUNT = 15, 5, 3
POLL_S = 0.02
SSH_FAILED = 255  # OpenSSH's exit code for its own failures

# What is said, by OpenSSH or by a program at the other end -> the status.
_WORDS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "host-key-changed"),
    ("Host key verification failed", "host-key-unknown"),
    ("Permission denied (", "login-refused"),
    ("Too many authentication failures", "login-refused"),
    ("Connection refused", "unreachable"),
    ("Connection timed out", "unreachable"),
    ("Could not resolve hostname", "unreachable"),
    ("No route to host", "unreachable"),
    ("Network is unreachable", "unreachable"),
    ("banner exchange", "unreachable"),
    ("kex_exchange_identification", "unreachable"),
    ("No space left on device", "disk-full"),
    ("Disk quota exceeded", "disk-full"),
)


class Connection:
    """A host as OpenSSH knows it; one master connection carries every command. `folder` holds its socket.

    `config` is OpenSSH's configuration, by default $EDGESLIM_SSH_CONFIG or the user's own.
    """

    def __init__(
        self, address: str, host: str, port: str | None, folder: Path, config: Path | str | None = None
    ) -> None:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise ToolFailed("ssh is not installed; on Debian: apt-get install openssh-client")
        self.address = address
        config = config or os.environ.get("EDGESLIM_SSH_CONFIG")
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": CONNECT_TIMEOUT_S,
            "ServerAliveInterval": ALIVE_INTERVAL_S,
            "ServerAliveCountMax": ALIVE_COUNT,
            "ControlPath": folder / "socket",
        }
        self._socket, self._words = folder / "socket", folder / "words"
        self._master: subprocess.Popen[bytes] | None = None
        self._argv = [
            ssh,
            *(["-F", str(config)] if config else []),
            *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
            *(["-p", port] if port else []),
            "--",
            host,
        ]

    def connect(self) -> None:
        """Open the connection that every command then shares, if there is none; DeviceFailed says why it cannot be."""
        if self._master is not None and self._master.poll() is None:
            return
        self._socket.unlink(missing_ok=True)
        with self._words.open("wb") as words:
            # Not in the background by itself: there it would hold the pipes of whoever started it.
            self._master = subprocess.Popen(
                with_parent([self._argv[0], "-M", "-N", *self._argv[1:]]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env=_environment(),
                start_new_session=True,
            )
        while not self._socket.exists():
            if self._master.poll() is not None:
                raise self.failure(self._master.returncode, self._words.read_text(errors="replace"))
            time.sleep(POLL_S)

    def start(self, script: str, stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start a script of sh at the other end, with its stdout in a pipe."""
        self.connect()
        return subprocess.Popen(
            self._command(script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(),
            start_new_session=True,
        )

    def ask(self, script: str, timeout_s: float) -> str:
        """Run a short script of sh at the other end and return its stdout; DeviceFailed when it fails."""
        with tempfile.TemporaryFile() as answer:
            self._run(script, timeout_s, subprocess.DEVNULL, answer)
            answer.seek(0)
            return answer.read().decode("utf-8", errors="replace")

    def copy_in(self, source: IO[bytes], script: str, timeout_s: float) -> None:
        """Run a script that reads the rest of `source` on its stdin."""
        self._run(script, timeout_s, stdin=source, stdout=subprocess.DEVNULL)

    def copy_out(self, script: str, to: IO[bytes], timeout_s: float, most_bytes: int) -> None:
        """Run a script and write its stdout, `most_bytes` at most, to a file."""
        self._run(script, timeout_s, subprocess.DEVNULL, to, most_bytes)

    def drop(self) -> None:
        """End the connection, if there is one."""
        if self._master is not None:
            self._master.terminate()
            self._master.wait()
            self._master = None

    def failure(self, returncode: int, stderr: str) -> DeviceFailed:
        """Return what a failed ssh says, as an error with its status."""
        status = next((status for words, status in _WORDS if words in stderr), None)
        if status is None:
            status = "lost" if returncode in (SSH_FAILED, -9) else "failed"
        text = stderr.strip() or f"ssh ended with {returncode}"
        return DeviceFailed(f"{self.address}: {text}", status)

    def _run(
        self,
        script: str,
        timeout_s: float,
        stdin: int | IO[bytes],
        stdout: int | IO[bytes],
        most: int = MOST_WORDS_BYTES,
    ) -> None:
        """Run a script to its end; DeviceFailed when it fails, takes too long or says more than `most` bytes."""
        self.connect()
        with tempfile.TemporaryFile() as stderr:
            child = subprocess.Popen(
                self._command(script),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=_environment(),
                start_new_session=True,
            )
            bounds = {stderr: MOST_WORDS_BYTES, **({} if isinstance(stdout, int) else {stdout: most})}
            try:
                with Watch(bounds, timeout_s, child.kill) as watch:
                    child.wait()
            finally:
                child.kill()
                child.wait()
            watch.require_bounded(self.address)
            if watch.late:
                raise DeviceFailed(f"{self.address}: no answer for {timeout_s:g} s", "timeout")
            if child.returncode:
                raise self.failure(child.returncode, tail_of(stderr))

    def _command(self, script: str) -> list[str]:
        # The login shell may be any; what it is given is one word for sh.
        return [*self._argv, f"exec sh -c {shlex.quote(script)}"]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}  # OpenSSH's words are read
