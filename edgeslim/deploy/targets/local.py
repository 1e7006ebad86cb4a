"""The machine edgeslim runs on as a target: programs are child processes, files stay where they are."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from edgeslim.bounds import MOST_WORDS_BYTES
from edgeslim.deploy.bounds import Watch, lines_of, tail_of
from edgeslim.deploy.exit_status import ended, program, timed_out
from edgeslim.devices.machine import small_files
from edgeslim.errors import BadInput, DeviceFailed
from edgeslim.resources import whole_file
from edgeslim.work_folders import work_folder


class LocalTarget:
    """The machine edgeslim runs on; `close` kills whatever still runs. `root` is where its /proc and /sys lie."""

    address = "local"

    def __init__(self, work: Path, root: Path) -> None:
        self._work, self._root = work, root
        self._running: set[subprocess.Popen[bytes]] = set()

    def push(self, *files: Path, keep: bool = False) -> str:  # noqa: ARG002 - what is here stays here
        """Return the absolute path of the first file; all are here already. BadInput if one is not."""
        for file in files:
            if not file.is_file():
                raise BadInput(f"{file} does not exist")
        return str(files[0].resolve())

    def run(self, argv: Sequence[str], timeout_s: float) -> Iterator[str]:
        """Run `argv` in a process group of its own and yield its stdout line by line, without line ends.

        The group is killed when the program ends, when `timeout_s` seconds have passed, and when the iterator is closed
        or this process is interrupted. Raises DeviceFailed, with the reason the agent gave and the end of its stderr,
        when the program does not end with exit code 0 in time or cannot be started.
        """
        with tempfile.TemporaryFile() as stderr:
            child = _start(argv, stderr)
            self._running.add(child)
            last = ""
            with Watch({stderr: MOST_WORDS_BYTES}, timeout_s, partial(_kill_group, child)) as watch:
                try:
                    for last in lines_of(child.stdout, program(argv)) if child.stdout else ():
                        yield last
                    # Waits without reaping: the group's number cannot be another's before it is killed below.
                    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
                finally:
                    self._end(child)
            watch.require_bounded(program(argv))
            if watch.late:
                raise timed_out(argv, timeout_s, tail_of(stderr))
            if child.returncode != 0:
                raise ended(argv, child.returncode, last, tail_of(stderr), out_of_memory=False)

    def pull(self, remote: str, to: Path) -> None:
        """Copy `remote` to `to` through a `.part` file; DeviceFailed if it does not exist."""
        if not Path(remote).is_file():
            raise DeviceFailed(f"{remote} does not exist on this machine")
        with whole_file(to) as part:
            shutil.copyfile(remote, part)

    def look(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return path -> text of every small file that a shell pattern matches."""
        return small_files(self._root, patterns)

    def work_path(self, name: str) -> str:
        """Return a path in a temporary folder, which goes when the target is closed."""
        return str(self._work / name)

    def reconnect(self, timeout_s: float) -> None:
        """Do nothing: this machine is never lost."""

    def kill(self) -> None:
        """Kill every program that runs; whoever waits for one learns of it."""
        for child in tuple(self._running):
            _kill_group(child)

    def close(self) -> None:
        """Kill every program that still runs, and wait for its end."""
        for child in tuple(self._running):
            self._end(child)

    def _end(self, child: "subprocess.Popen[bytes]") -> None:
        if child in self._running:
            self._running.remove(child)
            _kill_group(child)
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


_OPEN: set[LocalTarget] = set()


@contextmanager
def open_target(address: str = "local", root: Path = Path("/")) -> Iterator[LocalTarget]:
    """Yield this machine as a target; nothing it started outlives the `with`. BadInput for more than "local"."""
    if address != "local":
        raise BadInput(f"target `{address}`: `local` takes nothing after it")
    with work_folder() as work:
        target = LocalTarget(work, root)
        _OPEN.add(target)
        try:
            yield target
        finally:
            _OPEN.discard(target)
            target.close()


def stop_all() -> None:
    """Kill every program that this process runs here, whichever thread waits for it."""
    for target in tuple(_OPEN):
        target.kill()


def _start(argv: Sequence[str], stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise DeviceFailed(f"{argv[0]} cannot be started: {error.strerror}") from error


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
