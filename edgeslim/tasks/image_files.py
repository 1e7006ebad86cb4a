"""Folders of image files: which count, which cannot be used, and what is to be said of those that can."""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from edgeslim.errors import BadData
from edgeslim.tasks.image_store import fitted
from edgeslim.tasks.preprocessing import Preprocessing, is_turned
from edgeslim.threads import each_in_threads

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SMALLEST_SIDE = 8  # pixels: with less it is rarely what it was meant to be
SHOWN = 20  # images that cannot be used, by name
# What is said of images that are read otherwise than they lie there; how many there are stands behind it.
_WORDS = {
    "turned": "turned as their EXIF tags say",
    "animated": "of several frames, of which the first counts",
    "small": f"with a side below {SMALLEST_SIDE} pixels",
    "grey": "grey, repeated in three channels",
}


@dataclass(frozen=True)
class ImageFiles:
    """The images that can be used, a number for each (its folder's), how many were left out, and what is to be said."""

    images: list[Path]
    numbers: list[int]
    left_out: int
    notes: tuple[str, ...]


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder, by their suffix, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def read_files(
    folders: Mapping[Path, int], within: Path, preprocessing: Preprocessing, *, skip_bad: bool
) -> ImageFiles:
    """Look at every image of some folders, each with a number.

    BadData names those that cannot be used, which `skip_bad` leaves out instead. `within`: the folder of all.
    """
    images, numbers, bad = [], [], []
    seen, suffixes = Counter[str](), Counter[str]()
    for folder, number in folders.items():
        suffixes.update(_other_suffixes(folder))
        found = images_in(folder)
        looked_at = each_in_threads(partial(_look_at, preprocessing=preprocessing), found)
        for path, (reason, traits) in zip(found, looked_at, strict=True):
            if reason is not None:
                bad.append(reason)
                continue
            seen.update(traits)
            images.append(path)
            numbers.append(number)
    if bad and not skip_bad:
        shown = "\n".join(f"  - {line}" for line in bad[:SHOWN])
        raise BadData(
            f"{len(bad)} of {len(images) + len(bad)} images under {within} cannot be used "
            f"(--skip-bad leaves them out):\n{shown}"
        )
    if not images:
        raise BadData(f"{within} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    notes = [f"{words}: {seen[trait]}" for trait, words in _WORDS.items() if seen[trait]]
    if suffixes:
        notes.append(f"files of other kinds ({', '.join(sorted(suffixes))}), left alone: {suffixes.total()}")
    return ImageFiles(images, numbers, len(bad), tuple(notes))


def _look_at(path: Path, preprocessing: Preprocessing) -> tuple[str | None, tuple[str, ...]]:
    """Return why an image cannot be used, beginning with its path, and of one that can how it is read otherwise."""
    try:
        fitted(path, preprocessing)
    except (OSError, ValueError) as error:
        reason = str(error)
        return (reason if reason.startswith(str(path)) else f"{path}: {reason}"), ()
    return None, tuple(_traits(path, preprocessing))


def _traits(path: Path, preprocessing: Preprocessing) -> Iterator[str]:
    """Yield in which ways an image that can be used is read otherwise than it lies there."""
    with Image.open(path) as image:
        if is_turned(image):
            yield "turned"
        if _has_more_frames(image):
            yield "animated"
        if min(image.size) < SMALLEST_SIDE:
            yield "small"
        if preprocessing.channels == 3 and image.mode in ("1", "L", "LA", "La"):
            yield "grey"


def _has_more_frames(image: Image.Image) -> bool:
    """Tell whether an image has a second frame; one that cannot be read is none, for the first counts alone."""
    try:
        image.seek(1)
    except (EOFError, OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return False
    return True


def _other_suffixes(folder: Path) -> list[str]:
    files = (one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    return [one.suffix or one.name for one in files if one.suffix.lower() not in IMAGE_SUFFIXES]
