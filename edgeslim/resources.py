"""Where files lie: those that travel with edgeslim, in its repository or an installed wheel, and those it keeps."""

import errno
import hashlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeslim.errors import ToolFailed
from edgeslim.units import show_bytes

_PACKAGE = Path(__file__).resolve().parent

# torch asks for huge pages then, where the kernel gives them on demand: large activations cost a tenth of the faults.
HUGE_PAGES = ("THP_MEM_ALLOC_ENABLE", "1")
LIBRARY_FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "torchinductor")  # in the store: torch makes one in /tmp that stays
LEAST_ROOM_BYTES = 32_000_000  # where temporary files lie, for any command that works
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def python_command(*words: str) -> list[str]:
    """Return the command that runs Python with some words, without the folder it is called in among its imports."""
    return [sys.executable, "-P", *words]


def with_parent(command: Sequence[str]) -> list[str]:
    """Return the command that runs a program which ends with the thread that starts it.

    Whatever ends this process, SIGKILL too, ends what was started with it.
    """
    return [sys.executable, "-I", "-S", str(in_package("with_parent.py")), str(os.getpid()), *command]


def python_path() -> str:
    """Return PYTHONPATH for a process that runs edgeslim's own code: the package, and what the environment names whole.

    What it names relatively, or as nothing, is the folder that this was called in, whose files are data.
    """
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(_PACKAGE.parent), *(one for one in named if Path(one).is_absolute())])


def require_room() -> None:
    """Raise ToolFailed where temporary files have no room, or the folder that TMPDIR names cannot be used.

    Python takes another folder then and says nothing; libraries end the process where theirs grows full.
    """
    folder = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ToolFailed(
            f"temporary files go to {folder}, which cannot be used: {error.strerror}; set TMPDIR"
        ) from error
    if free < LEAST_ROOM_BYTES:
        raise ToolFailed(
            f"{folder} has {show_bytes(free)} of room left; temporary files lie there and need "
            f"{show_bytes(LEAST_ROOM_BYTES)} at least: free some, or set TMPDIR"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ToolFailed(f"temporary files go to {folder}, which cannot be written to; set TMPDIR")


def bundled(name: str) -> Path:
    """Return the folder or file `name` ("device_profiles", "runtimes", "LICENSE")."""
    in_wheel = _PACKAGE / "_bundled" / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name


def in_package(path: str = "") -> Path:
    """Return a file or folder of the package ("tasks/preprocessing.py"), by default the package itself."""
    return _PACKAGE / path


def default_model_folder() -> Path:
    """Return the folder of the bundled default model: weights, three data sets, model card."""
    return in_package("model/default")


def default_store() -> Path:
    """Return the folder of kept results: $EDGESLIM_CACHE, else edgeslim in the user's cache folder."""
    if own := os.environ.get("EDGESLIM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeslim"


def own_folder(folder: Path) -> Path:
    """Make a folder for what is kept, for this user's eyes alone, and return it.

    Raises PermissionError where it is a link, another user's, or one that others may write to: what is kept there is
    run and believed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, "it is a link, another user's, or others may write to it", str(folder))
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def is_own_file(file: Path) -> bool:
    """Tell whether a file is there, no link, and this user's."""
    try:
        found = file.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of what a file holds, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Hold back what would interrupt this process until the end, and have it happen then."""
    if threading.current_thread() is not threading.main_thread():  # only that one is interrupted
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda one, _: came.append(one)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for one in came[:1]:
        signal.raise_signal(one)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` to write to: it becomes `path` at once, or goes where something fails.

    The place is this thread's own: several may write the same file.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
