"""What the agent says and how: JSON lines on stdout, the same on the disk with --log, a sign of life in between."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import select
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL = 2
EXIT_CODES = {
    "usage": 2,
    "missing-runtime": 10,
    "missing-file": 11,
    "unreadable-model": 12,
    "bad-input": 13,
    "out-of-memory": 14,
    "runtime-failed": 15,
    "write-failed": 16,
    "old-runtime": 17,
    "wrong-library": 18,
    "fallback": 19,
}
SILENCE_S = 5.0


class AgentError(Exception):
    """A failure the protocol has a name for."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Channel:
    """Takes stdout for messages alone: what libraries print, in Python or in C, goes to stderr from here on."""

    def __init__(self) -> None:
        _fill_standard_files()
        self._stdout: int | None = os.dup(1)
        os.dup2(2, 1)
        self._log: int | None = None
        self._lock = threading.Lock()
        self._spoke_s = monotonic()

    def keep_log(self, path: Path) -> None:
        """Write every message to a new file `path` from here on, and survive the end of stdout and of the terminal.

        Raises AgentError ("write-failed").
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            _sync_folder(path.parent)
        except OSError as error:
            raise AgentError("write-failed", f"{path}: {error.strerror}") from error

    def emit(self, kind: str, **fields: Any) -> None:
        """Send one message: to the log and the disk first, then to stdout.

        Raises AgentError ("write-failed") where the log cannot be written, and BrokenPipeError where nobody listens to
        stdout and there is no log either.
        """
        line = _json({"type": kind, **fields})
        with self._lock:
            self._spoke_s = monotonic()
            if self._log is not None:
                _append(self._log, line, must=kind != "error")
            if self._stdout is not None:
                try:
                    _write_all(self._stdout, line)
                except OSError:
                    if self._log is None:
                        raise
                    self._stdout = None  # closed, or its terminal is gone: the log has it all

    def hello(self, runtime: str, package: str | None = None, version: str | None = None) -> None:
        """Say who speaks, and keep saying that it lives; without a package nothing could be loaded."""
        self.emit(
            "hello",
            protocol=PROTOCOL,
            agent="python",
            runtime=runtime,
            package=package,
            library=None,
            runtime_version=version,
            python=platform.python_version(),
            machine=platform.machine(),
        )
        threading.Thread(target=self._beat, daemon=True).start()

    def wait_while_heard(self, seconds: float) -> bool:
        """Return True after so many seconds, and False as soon as nobody listens to stdout any more."""
        poller = select.poll()
        if self._stdout is not None:
            poller.register(self._stdout, 0)  # an error, such as the end of the reader, is always told
        return not poller.poll(max(0.0, seconds) * 1000)

    def _beat(self) -> None:
        """Send a heartbeat whenever nothing was said for five seconds."""
        wake = threading.Event()
        while True:
            wake.wait(max(0.0, self._spoke_s + SILENCE_S - monotonic()))
            if monotonic() >= self._spoke_s + SILENCE_S:
                try:
                    self.emit("heartbeat", at_s=monotonic())
                except (AgentError, OSError):
                    return  # the session meets the same failure at its own next message


def _fill_standard_files() -> None:
    """Have file descriptors 0 to 2 lead nowhere where the process began without them: a file opened later would be one.

    What libraries print would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _json(message: dict[str, Any]) -> bytes:
    """Return one line; half a character, as bytes of names that are no text become in Python, is no JSON."""
    return re.sub("[\ud800-\udfff]", "\ufffd", json.dumps(message, ensure_ascii=False)).encode() + b"\n"


def _append(log: int, line: bytes, *, must: bool) -> None:
    """Append a line to the log, whole or not at all; one that is no `must` may fail to be kept."""
    end = os.fstat(log).st_size
    try:
        _write_all(log, line)
        os.fsync(log)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(log, end)
            os.lseek(log, end, os.SEEK_SET)
        if must:
            raise AgentError("write-failed", f"the log: {error.strerror}") from error


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _sync_folder(folder: Path) -> None:
    """Bring the name of a new file to the disk, as fsync of the file alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
