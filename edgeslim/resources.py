"""Where files lie: those that travel with edgeslim, in its repository or an installed wheel, and those it keeps."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

# torch asks for huge pages then, where the kernel gives them on demand: large activations cost a tenth of the faults.
HUGE_PAGES = ("THP_MEM_ALLOC_ENABLE", "1")


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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` to write to: it becomes `path` at once, or goes where something fails."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
