"""Image files as a network takes them, kept by content, so that no build decodes twice what there is room for.

What is kept is turned, resized and cropped, not normalized: one byte a value. Of all that is kept, what was not used
since this process began makes room for more, the longest unused first; where that does not suffice, no more is kept.
"""

import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from edgeslim.resources import default_store, is_own_file, own_folder, sha256_of, whole_file
from edgeslim.tasks.preprocessing import Preprocessing, decode, fit

VERSION = 1  # of what is kept: a change of how images are decoded or fitted raises it
MOST_BYTES = 4 * 2**30
LEAST_FREE_BYTES = 2 * 2**30  # of the disk, which others need
SPARED = 0.9  # of MOST_BYTES remain where room is made
FOLDER = "images"


def fitted(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return an image file's pixels (height, width, channels) as the model takes them, before normalization.

    ValueError for an image that cannot be used, as `decode` and `fit`.
    """
    try:
        kept = default_store() / FOLDER / _name(path, preprocessing)
    except OSError:  # which `decode` says in words
        return fit(decode(path, preprocessing), preprocessing)
    found = _read(kept, preprocessing)
    if found is None:
        found = np.ascontiguousarray(fit(decode(path, preprocessing), preprocessing))
        _keep(found, kept)
    return found


def _name(path: Path, preprocessing: Preprocessing) -> str:
    """Return what a fitted image is kept as: two levels, by the file's content and all that fitting depends on."""
    how = (
        preprocessing.width,
        preprocessing.height,
        preprocessing.channels,
        preprocessing.resize,
        preprocessing.interpolation,
        VERSION,
        PIL.__version__,
    )
    digest = hashlib.sha256(json.dumps([sha256_of(path), *how]).encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:]}"


def _read(kept: Path, preprocessing: Preprocessing) -> NDArray[np.uint8] | None:
    """Return the pixels that a file holds; None where there is none of this user's, or it is damaged."""
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    try:
        if not is_own_file(kept):
            return None
        content = kept.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32] or len(content) != 32 + int(np.prod(shape)):
            kept.unlink()
            return None
        if kept.stat().st_mtime < _Room.began_s:
            os.utime(kept)
    except OSError:
        return None
    return np.frombuffer(content, np.uint8, offset=32).reshape(shape)


def _keep(pixels: NDArray[np.uint8], kept: Path) -> None:
    """Write an image where there is room for it; a store that cannot be written to keeps nothing."""
    content = pixels.tobytes()
    try:
        home = own_folder(own_folder(default_store()) / FOLDER)
        if not is_own_file(kept) and _Room.take(home, 32 + len(content)):
            own_folder(home / kept.parent.name)
            with whole_file(kept) as part:
                part.write_bytes(hashlib.sha256(content).digest() + content)
    except OSError:
        return


class _Room:
    """How many bytes the kept images take, counted once for each store and process, and where there is no more room."""

    began_s = time.time()
    lock = threading.Lock()
    held: dict[Path, int] = {}  # noqa: RUF012 - of the class
    full: set[Path] = set()  # noqa: RUF012 - likewise; what this process uses does not make room for itself

    @classmethod
    def take(cls, folder: Path, count: int) -> bool:
        """Tell whether so many bytes more may lie in a folder, and count them; makes room where it can."""
        with cls.lock:
            if folder in cls.full:
                return False
            if folder not in cls.held:
                cls.held[folder] = sum(size for _, size, _ in _entries(folder))
            if cls.held[folder] + count > MOST_BYTES:
                cls.held[folder] -= _make_room(folder, cls.began_s)
            scarce = shutil.disk_usage(folder).free < LEAST_FREE_BYTES
            if scarce or cls.held[folder] + count > MOST_BYTES:
                cls.full.add(folder)
                return False
            cls.held[folder] += count
            return True


def _entries(folder: Path) -> list[tuple[float, int, Path]]:
    """Return the time of last use, the size and the path of all that is kept."""
    found = []
    for file in folder.glob("*/*"):
        held = file.lstat()
        found.append((held.st_mtime, held.st_size, file))
    return found


def _make_room(folder: Path, before_s: float) -> int:
    """Remove what was not used since a moment, the longest unused first, until SPARED remains; return the bytes."""
    entries = sorted(_entries(folder))
    excess, removed = sum(size for _, size, _ in entries) - int(SPARED * MOST_BYTES), 0
    for used_s, size, file in entries:
        if removed >= excess or used_s >= before_s:
            break
        file.unlink(missing_ok=True)
        removed += size
    return removed
