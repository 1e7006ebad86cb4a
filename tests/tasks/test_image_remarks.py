"""Before a build: grey images for a model that takes colour, and images of which cropping leaves too little."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from edgeslim.tasks.image_remarks import MOST, image_remarks
from edgeslim.tasks.images import Data, ImageSet, synthetic_data
from edgeslim.tasks.preprocessing import Preprocessing
from tests.support.small_models import COLOR, GREY

BROAD = replace(COLOR, width=16, height=8, resize=16)


def data(images: np.ndarray | list[Path], how: Preprocessing = COLOR) -> Data:
    one = ImageSet(images, None, how)
    return Data("images", False, one, one, one)


def noise(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def files(folder: Path, *sizes: tuple[int, int], mode: str = "RGB", **options: object) -> list[Path]:
    found = []
    for number, (width, height) in enumerate(sizes):
        found.append(folder / f"{number}.png")
        Image.fromarray(noise(1, height, width)[0]).convert(mode).save(found[-1], **options)
    return found


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_files_are_counted_where_the_model_takes_colour(tmp_path: Path, mode: str) -> None:
    found = [*files(tmp_path, (8, 8), (8, 8), mode=mode)]
    (tmp_path / "more").mkdir()
    found += files(tmp_path / "more", (8, 8))
    assert image_remarks(data(found)) == ["6 of 9 images looked at are grey, and the model takes colour"]


def test_what_is_grey_in_three_channels_is_grey_too() -> None:
    grey = noise(2, 8, 8, 1).repeat(3, axis=3)
    assert image_remarks(data(np.concatenate([grey, noise(3, 8, 8)]))) == [
        "6 of 15 images looked at are grey, and the model takes colour"
    ]
    assert image_remarks(data(grey[..., :1], GREY)) == []


@pytest.mark.parametrize(
    ("size", "how", "kept"),
    [((12, 8), COLOR, None), ((8, 12), COLOR, None), ((16, 8), COLOR, 50), ((8, 24), COLOR, 33),
     ((24, 24), COLOR, None), ((32, 16), BROAD, None), ((16, 16), BROAD, 50)],
)  # fmt: skip
def test_images_of_another_shape_than_the_input_are_told(
    tmp_path: Path, size: tuple[int, int], how: Preprocessing, kept: int | None
) -> None:
    width, height = size
    for images in (files(tmp_path, size, size), noise(2, height, width)):
        told = image_remarks(data(images, how))
        if kept is None:
            assert told == []
            continue
        assert told == [
            f"6 of 6 images looked at lose more than a third to cropping, for the input is {how.width}x{how.height} "
            f"(width x height): of {width}x{height}, {kept} % is kept"
        ]


def test_images_that_are_cropped_without_being_resized_lose_by_their_size() -> None:
    (told,) = image_remarks(data(noise(1, 16, 16), replace(COLOR, resize=None)))
    assert told.endswith("of 16x16, 25 % is kept")


def test_a_photograph_that_lies_on_its_side_has_the_shape_in_which_it_is_shown(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    assert image_remarks(data(files(tmp_path, (8, 16), exif=tags), BROAD)) == []


def test_the_most_unlike_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    (told,) = image_remarks(data(files(tmp_path, (8, 8), (16, 8), (40, 8))))
    assert told.startswith("6 of 9 images looked at lose more than a third")
    assert "of 40x8, 20 % is kept" in told


def test_no_more_than_some_are_looked_at_and_synthetic_ones_not_at_all() -> None:
    (told,) = image_remarks(data(noise(3 * MOST, 8, 16)))
    assert told.startswith(f"{3 * MOST} of {3 * MOST} images looked at")
    assert image_remarks(synthetic_data(COLOR, 0)) == []
