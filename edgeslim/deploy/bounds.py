"""What a program on a device may say, and for how long: a board that floods us is ended, not listened to."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from edgeslim.bounds import LONGEST_LINE_BYTES, MOST_LINES_BYTES
from edgeslim.errors import DeviceFailed
from edgeslim.units import show_memory

POLL_S = 0.05
SHOWN_BYTES = 200
TAIL_BYTES = 64 << 10


def lines_of(stdout: IO[bytes], program: str) -> Iterator[str]:
    """Yield a program's lines as they come, without their ends; DeviceFailed ("protocol") for more than it may say."""
    total, first = 0, b""
    while line := stdout.readline(LONGEST_LINE_BYTES + 1):
        first, total = first or line, total + len(line)
        if len(line) > LONGEST_LINE_BYTES:
            raise _flood(program, f"a line of more than {show_memory(LONGEST_LINE_BYTES)}", line)
        if total > MOST_LINES_BYTES:
            raise _flood(program, f"more than {show_memory(MOST_LINES_BYTES)}", first)
        yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def _flood(program: str, what: str, begin: bytes) -> DeviceFailed:
    return DeviceFailed(f"{program}: it wrote {what}; it began with {begin[:SHOWN_BYTES]!r}", "protocol")


def tail_of(words: IO[bytes]) -> str:
    """Return the end of what was written to a file."""
    file = os.dup(words.fileno())
    with os.fdopen(file, "rb") as raw:
        raw.seek(max(0, os.fstat(file).st_size - TAIL_BYTES))
        return raw.read().decode("utf-8", errors="replace")


class Watch:
    """Watches a program that writes to files; `end` ends it when its time is over or one has grown too large."""

    def __init__(self, files: Mapping[IO[bytes], int], timeout_s: float, end: Callable[[], None]) -> None:
        self._files, self._timeout_s, self._end = files, timeout_s, end
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.late = False
        self._flooded: IO[bytes] | None = None

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not self._done.wait(POLL_S):
            self._flooded = next((one for one, most in self._files.items() if _size(one) > most), None)
            self.late = time.monotonic() > deadline
            if self.late or self._flooded is not None:
                self._end()
                return

    def require_bounded(self, program: str) -> None:
        """Raise DeviceFailed ("protocol") with the first bytes where a file had grown too large."""
        if self._flooded is not None:
            begin = os.pread(self._flooded.fileno(), SHOWN_BYTES, 0)
            raise _flood(program, f"more than {show_memory(self._files[self._flooded])} beside its lines", begin)


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size
