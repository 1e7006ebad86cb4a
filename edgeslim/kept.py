"""What lies in the folder of kept results, by kind, and how it is cleared."""

import os
import shutil
import stat
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgeslim.cache import is_of_another_version
from edgeslim.errors import BadInput, ToolFailed, near_misses

# What a folder in the store holds.
KINDS = {
    "agents": "measuring programs, compiled for a processor",
    "builds": "how long builds took on this machine",
    "candidate": "networks that pruning tried",
    "curve": "what groups of channels lose at their widths",
    "images": "images that were decoded (at most 4 GiB)",
    "judged": "what networks that pruning tried lose",
    "machines": "emulated machines that are set up",
    "operator_counts": "instructions of operators on emulated cores",
    "operator_times": "operators that were timed on this machine",
    "plugins": "QEMU's counting plugin, compiled",
    "precision": "what layers lose in a precision",
    "promotion": "which layers must not be INT8",
    "runtime_libraries": "runtimes' libraries of other processors",
    "stages": "how long the stages of builds took",
    "trained": "networks that were trained",
    "training_steps": "how many steps of training a time allows",
    "torchinductor": "torch's own",
}


@dataclass(frozen=True)
class Kept:
    """One kind of what is kept: files, bytes, and seconds since the newest was last used or written.

    `other_versions_bytes` of them are results that another version of edgeslim kept, and that this one never reads.
    """

    kind: str
    what: str
    files: int
    size_bytes: int
    age_s: float
    other_versions_bytes: int


def kept(store: Path) -> tuple[Kept, ...]:
    """Return what a store holds, by kind; nothing where there is no store. ToolFailed where it cannot be read."""
    now, found = time.time(), []
    for folder in _folders(store):
        parts = [_Part.of(one) for one in _places(folder)]
        newest = max((one.newest for one in parts if one.files), default=now)
        files, size = sum(one.files for one in parts), sum(one.size_bytes for one in parts)
        unread = sum(one.size_bytes for one in parts if one.of_another_version)
        found.append(Kept(folder.name, KINDS[folder.name], files, size, now - newest, unread))
    return tuple(found)


def clear(store: Path, kinds: Collection[str] = (), older_than_s: float = 0.0, *, other_versions: bool = False) -> int:
    """Remove what is kept, of some kinds or all, that was not used for so long; return how many bytes went.

    `other_versions`: results of another version of edgeslim alone. What no build has put there stays, and what links
    name. Raises BadInput for a kind that is not there, ToolFailed where something cannot be removed.
    """
    folders = {folder.name: folder for folder in _folders(store)}
    for kind in kinds:
        if kind not in folders:
            raise BadInput(f"nothing of the kind `{kind}` is kept in {store}{near_misses(kind, folders)}")
    limit, freed = time.time() - older_than_s, 0
    try:
        for folder in [folders[kind] for kind in kinds or folders]:
            for place in _places(folder):
                part = _Part.of(place)
                if (older_than_s and part.newest > limit) or (other_versions and not part.of_another_version):
                    continue
                freed += part.size_bytes
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise ToolFailed(f"cannot remove {error.filename}: {error.strerror}") from error
    return freed


@dataclass(frozen=True)
class _Part:
    """A file, or a folder that is of use only whole: how much it holds, and when it was last used or written."""

    files: int
    size_bytes: int
    newest: float
    of_another_version: bool

    @classmethod
    def of(cls, place: Path) -> "_Part":
        seen = [_looked_at(one) for one in (place, *place.rglob("*"))]
        files = [one for one in seen if one is not None and not stat.S_ISDIR(one.st_mode)]
        newest = max((max(one.st_mtime, one.st_atime) for one in files), default=0.0)
        return cls(len(files), sum(one.st_size for one in files), newest, is_of_another_version(place))


def _looked_at(place: Path) -> os.stat_result | None:
    """Return what is known of a file, None where it has gone: a build may run."""
    try:
        return place.lstat()
    except FileNotFoundError:
        return None


def _places(folder: Path) -> list[Path]:
    """Return what is used and removed as one: what lies in a folder of the store."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _folders(store: Path) -> list[Path]:
    """Return the folders that builds make in a store; others are not ours."""
    try:
        return sorted(one for one in store.iterdir() if one.name in KINDS and one.is_dir() and not one.is_symlink())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ToolFailed(f"cannot read {store}: {error.strerror}") from error
