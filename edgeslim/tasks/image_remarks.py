"""What is odd about images that a network can be fed, whatever it is for: said before a build."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from edgeslim.tasks.images import Data, evenly, pixels_of
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.threads import each_in_threads

MOST = 200  # images of each set that are looked at
LEAST_KEPT = 0.66  # of a picture: photographs of 3:2 for a square input are as usual
LYING = range(5, 9)  # values of the EXIF tag of pictures whose sides are exchanged


def image_remarks(data: Data) -> list[str]:
    """Return how many images are grey, where the model takes colour, and how many lose much of the picture.

    Looked at are MOST images of each set, spread over it. Synthetic ones are as they should be.
    """
    if data.synthetic:
        return []
    how = data.evaluation.preprocessing
    some = [one.at(evenly(len(one), MOST)).images for one in (data.calibration, data.selection, data.evaluation)]
    images = [image for part in some for image in part]
    told = []
    if how.channels == 3 and (grey := sum(each_in_threads(partial(_is_grey, how=how), images))):
        told.append(f"{grey} of {len(images)} images looked at are grey, and the model takes colour")
    kept = [(_kept(size, how), size) for size in map(_size, images)]
    if cut := [one for one in kept if one[0] < LEAST_KEPT]:
        share, (width, height) = min(cut)
        told.append(
            f"{len(cut)} of {len(images)} images looked at lose more than a third to cropping, for the input is "
            f"{how.width}x{how.height} (width x height): of {width}x{height}, {100 * share:.0f} % is kept"
        )
    return told


def _is_grey(image: NDArray[np.uint8] | Path, how: Preprocessing) -> bool:
    pixels = pixels_of(image, how)
    return bool((pixels == pixels[..., :1]).all())


def _size(image: NDArray[np.uint8] | Path) -> tuple[int, int]:
    """Return width and height of a picture as it is shown."""
    if not isinstance(image, Path):
        return image.shape[1], image.shape[0]
    with Image.open(image) as opened:
        width, height = opened.size
        lying = opened.getexif().get(ExifTags.Base.Orientation, 1) in LYING
    return (height, width) if lying else (width, height)


def _kept(size: tuple[int, int], how: Preprocessing) -> float:
    """Return which share of a picture its shape leaves in the input, and without resizing its size too."""
    width, height = size
    if how.resize is None:
        return how.width * how.height / (width * height)
    if isinstance(how.resize, tuple):
        return how.width * how.height / (how.resize[0] * how.resize[1])
    shape = (width / height) / (how.width / how.height)
    return min(shape, 1 / shape)
