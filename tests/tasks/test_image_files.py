"""What is said of images that are read otherwise than they lie there, and folders that are split already."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from edgeslim.errors import BadData
from edgeslim.tasks.classification import load_data
from edgeslim.tasks.preprocessing import decode
from tests.support.small_models import COLOR, GREY
from tests.tasks.test_images import load, picture_folder, sets_of

UPRIGHT = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_tag_says(orientation: int, tmp_path: Path) -> None:
    there = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]  # the turn that undoes another
    turn = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: np.rot90,
    }[there]  # fmt: skip
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(turn(UPRIGHT))).save(tmp_path / "photo.png", exif=tags)
    assert np.array_equal(decode(tmp_path / "photo.png", COLOR), UPRIGHT)


def test_what_is_read_otherwise_is_counted(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path)
    home = folder / "class_0"
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.zeros((16, 20, 3), np.uint8)).save(home / "turned.jpg", exif=tags)
    frames = [Image.fromarray(np.full((16, 16, 3), shade, np.uint8)) for shade in (10, 200)]
    frames[0].save(home / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    Image.fromarray(np.zeros((7, 40, 3), np.uint8)).save(home / "narrow.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(home / "grey.png")
    (home / "notes.txt").write_text("no image")
    (folder / "class_1" / "labels.json").write_text("{}")
    (home / ".hidden").write_text("")
    told = load(folder).how_read
    assert told == (
        "classes: folders in alphabetical order, for the model names no labels: 0 class_0, 1 class_1, 2 class_2, "
        "3 class_3; turned as their EXIF tags say: 1; of several frames, of which the first counts: 1; with a side "
        "below 8 pixels: 1; grey, repeated in three channels: 1; files of other kinds (.json, .txt), left alone: 2"
    )
    assert int(decode(home / "moving.webp", COLOR).max()) == 10, "another frame was taken"


def test_a_second_frame_that_is_damaged_is_none(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path)
    pages = [Image.fromarray(np.full((32, 32, 3), shade, np.uint8)) for shade in (10, 200)]
    file = folder / "class_0" / "pages.tif"
    pages[0].save(file, save_all=True, append_images=pages[1:])
    file.write_bytes(file.read_bytes()[:-3000])
    assert file in [path for one in sets_of(load(folder)) for path in one.images]


def test_grey_images_for_a_grey_model_are_nothing_to_speak_of(tmp_path: Path) -> None:
    assert load(picture_folder(tmp_path, classes=0, channels=1), GREY).how_read is None


def test_a_set_of_its_own_stands_in_place_of_one_that_is_split(tmp_path: Path) -> None:
    for name, count in (("train", 128), ("val", 20), (".cache", 1)):
        picture_folder(tmp_path / "split" / name, count)
    own = picture_folder(tmp_path / "own", 12)
    data = load_data(str(tmp_path / "split"), COLOR, 4, bundled=False, own={"evaluation": str(own)})
    assert [len(one) for one in sets_of(data)] == [64, 64, 12]


@pytest.mark.parametrize(
    ("names", "sizes"),
    [(("train", "val"), (64, 64, 20)), (("train", "val", "test"), (128, 20, 24)), (("train", "Test"), (64, 64, 20))],
)
def test_a_folder_that_is_split_is_taken_so(
    names: tuple[str, ...], sizes: tuple[int, int, int], tmp_path: Path
) -> None:
    for name, count in zip(names, (128, 20, 24), strict=False):
        picture_folder(tmp_path / name, count)
    data = load_data(str(tmp_path), COLOR, 4, bundled=False)
    assert tuple(len(one) for one in (data.calibration, data.selection, data.evaluation)) == sizes
    assert all(names[-1] in one.parts for one in data.evaluation.images), "other images judge"
    assert data.labels == ("class_0", "class_1", "class_2", "class_3")


def test_classes_that_are_called_otherwise_are_no_split(tmp_path: Path) -> None:
    for name in ("train", "plane", "test", "car"):
        picture_folder(tmp_path / name, 32, classes=0)
    assert load_data(str(tmp_path), COLOR, 4, bundled=False).labels == ("car", "plane", "test", "train")


def test_the_bundled_model_takes_nothing_of_its_own_images_beside_a_folder_that_is_split(tmp_path: Path) -> None:
    for name in ("train", "val"):
        picture_folder(tmp_path / name, 128, channels=1)
    data = load_data(str(tmp_path), GREY, 4, bundled=True)
    assert [len(one) for one in sets_of(data)] == [64, 64, 128]
    assert data.source == "calibration and selection: train; evaluation: val"


def test_no_more_files_are_opened_than_asked_and_the_others_are_believed(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path)
    files = sorted((folder / "class_1").iterdir())
    files[1].write_bytes(b"no image")
    data = load_data(str(folder), COLOR, 4, bundled=False, opened=4)  # the first, the last, and two between
    assert "opened: 4 of 128 files" in str(data.how_read)
    assert [len(one) for one in sets_of(data)] == [32, 32, 64]
    files[-1].write_bytes(b"no image")
    (folder / "class_0" / "0000.png").write_bytes(b"no image")
    with pytest.raises(BadData, match=r"1 of 4 images under .* cannot be used"):
        load_data(str(folder), COLOR, 4, bundled=False, opened=4)
    with pytest.raises(BadData, match=r"3 of 128 images under"):
        load_data(str(folder), COLOR, 4, bundled=False)


def test_a_file_that_is_bad_when_its_turn_comes_is_named(tmp_path: Path) -> None:
    folder = picture_folder(tmp_path)
    bad = folder / "class_1" / "0001.png"
    bad.write_bytes(b"no image")
    data = load_data(str(folder), COLOR, 4, bundled=False, opened=1)
    (home,) = [one for one in sets_of(data) if bad in one.images]
    with pytest.raises(BadData, match="0001"):
        list(home.inputs())
    bad.unlink()
    with pytest.raises(BadData, match="0001"):
        list(home.inputs())
