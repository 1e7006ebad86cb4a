"""What is kept to be run: folders of programs, libraries and machines, held against their hashes before each use."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from edgeslim.errors import Recomputed, ToolFailed
from edgeslim.resources import is_own_file, own_folder, sha256_of
from edgeslim.work_folders import work_folder

SEAL = "sha256.json"  # of every file beside it, by its name


def sealed_folder(store: Path, kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` among those of a kind in the store, which `make` fills where it is not there as made.

    It appears whole or not at all. One that is damaged, a link or another user's is made anew, with a warning. Raises
    ToolFailed where it cannot be kept, and what `make` raises.
    """
    folder = store / kind / name
    try:
        own_folder(own_folder(store) / kind)
        if not _is_as_made(folder):
            with work_folder(folder.parent, ".making-") as work:
                part = own_folder(work / "part")
                make(part)
                (part / SEAL).write_text(json.dumps(_hashes(part), indent=1), encoding="utf-8")
                _place(part, folder)
    except OSError as error:
        what = f"{kind.replace('_', ' ')} in {folder.parent}"
        raise ToolFailed(
            f"cannot keep {what}: {error.strerror or error}; name another folder in EDGESLIM_CACHE"
        ) from error
    return folder


def is_made(store: Path, kind: str, name: str) -> bool:
    """Tell whether a folder of `sealed_folder` is there; whether it is whole is seen when it is used."""
    return (store / kind / name / SEAL).is_file()


def _is_as_made(folder: Path) -> bool:
    if not folder.exists() and not folder.is_symlink():
        return False
    if _holds(folder):
        return True
    warnings.warn(f"{folder} does not hold what was made there; it is made anew", Recomputed, stacklevel=4)
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
    else:
        shutil.rmtree(folder)
    return False


def _holds(folder: Path) -> bool:
    """Tell whether a folder is this user's and holds the files that were sealed, and no others."""
    try:
        own_folder(folder)
        seal = folder / SEAL
        return is_own_file(seal) and json.loads(seal.read_text(encoding="utf-8")) == _hashes(folder)
    except (OSError, ValueError):
        return False


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file beside the seal, "" for what is no file of this user's."""
    files = (file for file in sorted(folder.iterdir()) if file.name != SEAL)
    return {file.name: sha256_of(file) if is_own_file(file) else "" for file in files}


def _place(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not _is_as_made(folder):  # otherwise another process was first, with the same content
            raise
