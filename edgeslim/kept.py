"""What lies in the folder of kept results, by kind, and how it is cleared."""

import shutil
import stat
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgeslim.errors import BadInput, ToolFailed, near_misses

# What a folder in the store holds, and what it costs to make it anew.
KINDS = {
    "agents": "measuring programs, compiled for a processor",
    "candidate": "networks that pruning tried",
    "curve": "what groups of channels lose at their widths",
    "images": "images that were decoded (at most 4 GiB)",
    "judged": "answers of files on the images that judge",
    "machines": "emulated machines that are set up",
    "operator_counts": "instructions of operators on emulated cores",
    "operator_times": "operators that were timed on this machine",
    "plugins": "QEMU's counting plugin, compiled",
    "precision": "what layers lose in a precision",
    "promotion": "which layers must not be INT8",
    "runtime_libraries": "runtimes' libraries of other processors",
    "torchinductor": "torch's own",
}


@dataclass(frozen=True)
class Kept:
    """One kind of what is kept: files, bytes, and seconds since the newest was last used or written."""

    kind: str
    what: str
    files: int
    size_bytes: int
    age_s: float


def kept(store: Path) -> tuple[Kept, ...]:
    """Return what a store holds, by kind; nothing where there is no store. ToolFailed where it cannot be read."""
    now, found = time.time(), []
    for folder in _folders(store):
        seen = [one.lstat() for one in folder.rglob("*")]
        files = [one for one in seen if stat.S_ISREG(one.st_mode)]
        newest = max((max(one.st_mtime, one.st_atime) for one in files), default=now)
        size = sum(one.st_size for one in files)
        found.append(Kept(folder.name, KINDS.get(folder.name, "of another version"), len(files), size, now - newest))
    return tuple(found)


def clear(store: Path, kinds: Collection[str] = (), older_than_s: float = 0.0) -> int:
    """Remove what is kept, of some kinds or all, that was not used for so long; return how many bytes went.

    Links go and what they name stays. Raises BadInput for a kind that is not there, ToolFailed where something cannot
    be removed.
    """
    folders = {folder.name: folder for folder in _folders(store)}
    for kind in kinds:
        if kind not in folders:
            raise BadInput(f"nothing of the kind `{kind}` is kept in {store}{near_misses(kind, folders)}")
    limit, freed = time.time() - older_than_s, 0
    try:
        for folder in [folders[kind] for kind in kinds or folders]:
            files = [one for one in folder.rglob("*") if one.is_symlink() or not one.is_dir()]
            old = [one for one in files if max((seen := one.lstat()).st_mtime, seen.st_atime) <= limit]
            freed += sum(one.lstat().st_size for one in old)
            if len(old) == len(files):
                shutil.rmtree(folder)
            else:
                for one in old:
                    one.unlink(missing_ok=True)
    except OSError as error:
        raise ToolFailed(f"cannot remove {error.filename}: {error.strerror}") from error
    return freed


def _folders(store: Path) -> list[Path]:
    try:
        return sorted(one for one in store.iterdir() if one.is_dir() and not one.is_symlink())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ToolFailed(f"cannot read {store}: {error.strerror}") from error
