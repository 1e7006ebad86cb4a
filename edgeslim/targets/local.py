"""The machine edgeslim runs on as a target: programs are child processes, files stay where they are."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgeslim.errors import BadInput, DeviceFailed

STDERR_TAIL_CHARACTERS = 2000


class LocalTarget:
    """The machine edgeslim runs on; `close` kills whatever still runs."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()

    def push(self, file: Path) -> str:
        """Return the absolute path of `file`, which is already here; BadInput if it is not."""
        if not file.is_file():
            raise BadInput(f"{file} does not exist")
        return str(file.resolve())

    def run(self, argv: Sequence[str], timeout_s: float) -> Iterator[str]:
        """Run `argv` in a process group of its own and yield its stdout line by line, without line ends.

        The group is killed when the program ends, when `timeout_s` seconds have passed, and when the iterator is closed
        or this process is interrupted. Raises DeviceFailed, with the reason the agent gave and the end of its stderr,
        when the program does not end with exit code 0 in time or cannot be started.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            child = _start(argv, stderr)
            self._running.add(child)
            timed_out = threading.Event()
            timer = threading.Timer(timeout_s, _stop, (child, timed_out))
            timer.start()
            last = ""
            try:
                for line in child.stdout or ():
                    last = line.rstrip("\n")
                    yield last
                # Waits without reaping, so that the group's number cannot belong to another before it is killed below.
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            finally:
                timer.cancel()
                timer.join()
                self._end(child)
            if timed_out.is_set():
                raise DeviceFailed(f"{_name(argv)}: not finished after {timeout_s:g} s{_tail(stderr)}")
            if child.returncode != 0:
                raise DeviceFailed(f"{_name(argv)}: {_cause(child.returncode, last)}{_tail(stderr)}")

    def pull(self, remote: str, to: Path) -> None:
        """Copy `remote` to `to` through a `.part` file; DeviceFailed if it does not exist."""
        if not Path(remote).is_file():
            raise DeviceFailed(f"{remote} does not exist on this machine")
        part = to.with_name(to.name + ".part")
        shutil.copyfile(remote, part)
        part.replace(to)

    def close(self) -> None:
        """Kill every program that still runs."""
        for child in tuple(self._running):
            self._end(child)

    def _end(self, child: "subprocess.Popen[str]") -> None:
        if child in self._running:
            self._running.remove(child)
            _kill_group(child)
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


@contextmanager
def open_target() -> Iterator[LocalTarget]:
    """Yield this machine as a target; nothing it started outlives the `with`."""
    target = LocalTarget()
    try:
        yield target
    finally:
        target.close()


def _start(argv: Sequence[str], stderr: IO[str]) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise DeviceFailed(f"{argv[0]} cannot be started: {error.strerror}") from error


def _stop(child: "subprocess.Popen[str]", timed_out: threading.Event) -> None:
    timed_out.set()
    _kill_group(child)


def _kill_group(child: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _name(argv: Sequence[str]) -> str:
    """Return the program's name, for Python that of its script."""
    return next((Path(word).name for word in argv if word.endswith(".py")), Path(argv[0]).name)


def _cause(returncode: int, last_line: str) -> str:
    if returncode < 0:
        name = signal.Signals(-returncode).name
        memory = "; the kernel does so when memory runs out" if name == "SIGKILL" else ""
        return f"killed by signal {-returncode} ({name}{memory})"
    with contextlib.suppress(json.JSONDecodeError):
        message = json.loads(last_line)
        if isinstance(message, dict) and message.get("type") == "error":
            return f"{message.get('reason')}: {message.get('message')}"
    return f"exit code {returncode}"


def _tail(stderr: IO[str]) -> str:
    stderr.seek(0)
    text = stderr.read().strip()[-STDERR_TAIL_CHARACTERS:]
    return "\nIts stderr ended with:\n" + "\n".join(f"  {line}" for line in text.splitlines()) if text else ""
