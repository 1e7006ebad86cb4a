"""Folders that go with the process that made them, however it ends."""

import glob
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from edgeslim.resources import signals_deferred

PREFIX = "edgeslim-"  # of those among the temporary files
KEPT_S = 7 * 86400.0  # of other machines and containers, whose processes cannot be seen from here


@contextmanager
def work_folder(within: Path | None = None, prefix: str = PREFIX, suffix: str = "") -> Iterator[Path]:
    """Yield a new folder, by default among the temporary files, that goes with the context.

    Those beside it with the same prefix and suffix whose process has gone are removed first: a killed one could not.
    OSError where none can be made.
    """
    within = within or Path(tempfile.gettempdir())
    for left in abandoned(within, prefix, suffix):
        shutil.rmtree(left, ignore_errors=True)
    made: Path | None = None
    try:
        with signals_deferred():  # an interrupt falls before a folder is made, or once it is known
            made = Path(tempfile.mkdtemp(dir=within, prefix=f"{prefix}{process_name()}-", suffix=suffix))
        yield made
    finally:
        with signals_deferred():  # or leaves nothing half removed
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)


def abandoned(within: Path, prefix: str, suffix: str = "") -> list[Path]:
    """Return the folders of `work_folder` whose process has gone."""
    form = re.compile(rf"{re.escape(prefix)}(?P<process>[0-9a-f.]+)-[a-z0-9_]+{re.escape(suffix)}")
    found = [(one, form.fullmatch(one.name)) for one in within.glob(f"{glob.escape(prefix)}*")]
    return [one for one, name in found if name and (has_gone(name["process"]) or _is_old(one, name["process"]))]


def process_name() -> str:
    """Return what tells this process from any other, in hexadecimal: where it runs, its number, and when it began."""
    return f"{_container():x}.{os.getpid():x}.{_started(os.getpid()) or 0:x}"


def has_gone(process: str) -> bool:
    """Tell whether a process that had a `process_name` here has ended; of those elsewhere nobody knows."""
    try:
        container, pid, started = (int(part, 16) for part in process.split("."))
    except ValueError:  # no such name
        return False
    return container == _container() and _started(pid) != started


def _is_old(folder: Path, process: str) -> bool:
    """Tell whether a folder is of another machine or container and was last written to long ago."""
    try:
        return process.partition(".")[0] != f"{_container():x}" and time.time() - folder.stat().st_mtime > KEPT_S
    except OSError:
        return False


@cache
def _container() -> int:
    """Return a number of the processes that this one sees: other machines and containers may share a folder with it."""
    known = [platform.node()]
    with suppress(OSError):
        known.append(Path("/etc/machine-id").read_text("ascii"))
    with suppress(OSError):
        known.append(str(Path("/proc/self/ns/pid").readlink()))
    return zlib.crc32("\n".join(known).encode())


def _started(pid: int) -> int | None:
    """Return when a process began, in the kernel's ticks; None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None
