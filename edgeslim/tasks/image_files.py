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
from edgeslim.tasks.images import evenly
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
    folders: Mapping[Path, int],
    within: Path,
    preprocessing: Preprocessing,
    *,
    skip_bad: bool,
    opened: int | None = None,
) -> ImageFiles:
    """Look at every image of some folders, each with a number; at most at `opened` of them, and believe the others.

    BadData names those that cannot be used, which `skip_bad` leaves out instead. `within`: the folder of all.
    """
    found = [(path, number) for folder, number in folders.items() for path in images_in(folder)]
    places = evenly(len(found), opened)
    looked_at = each_in_threads(partial(_look_at, preprocessing=preprocessing), [found[place][0] for place in places])
    told = dict(zip(places.tolist(), looked_at, strict=True))
    bad = {place: reason for place, (reason, _) in told.items() if reason is not None}
    if bad and not skip_bad:
        shown = "\n".join(f"  - {line}" for line in list(bad.values())[:SHOWN])
        raise BadData(
            f"{len(bad)} of {len(told)} images under {within} cannot be used:\n{shown}", "--skip-bad leaves them out"
        )
    used = [one for place, one in enumerate(found) if place not in bad]
    images, numbers = [path for path, _ in used], [number for _, number in used]
    if not images:
        raise BadData(f"{within} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    seen = Counter(trait for place, (_, traits) in told.items() if place not in bad for trait in traits)
    suffixes = Counter(suffix for folder in folders for suffix in _other_suffixes(folder))
    notes = [f"{words}: {seen[trait]}" for trait, words in _WORDS.items() if seen[trait]]
    if len(told) < len(found):
        notes.insert(0, f"opened: {len(told)} of {len(found)} files")
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
