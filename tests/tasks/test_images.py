"""Data in: what is accepted, what is refused and with which words, and three sets that never meet."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeslim.errors import BadData
from edgeslim.model.load import load_model
from edgeslim.tasks.classification import load_data
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.tasks.preprocessing import Preprocessing, preprocess
from edgeslim.tasks.sets import CALIBRATION_LEAST
from tests.support.small_models import COLOR, GREY, SIDE

ENOUGH = 4 * CALIBRATION_LEAST
RANDOM = np.random.default_rng(9)


def pixels(count: int, channels: int = 3, side: int = SIDE) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def load(source, preprocessing: Preprocessing = COLOR, classes: int = 4, **options) -> Data:
    return load_data(str(source), preprocessing, classes, bundled=False, **options)


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "mine.npz"
    np.savez(path, **arrays)
    return path


def picture_folder(folder: Path, count: int = ENOUGH, classes: int = 4, channels: int = 3) -> Path:
    """Write `count` PNG files, evenly into folders named by class (none for classes=0)."""
    for position, image in enumerate(pixels(count, channels)):
        home = folder / f"class_{position % classes}" if classes else folder
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if channels == 1 else image).save(home / f"{position:04}.png")
    return folder


def sets_of(data: Data) -> tuple[ImageSet, ImageSet, ImageSet]:
    return data.calibration, data.selection, data.evaluation


@settings(max_examples=15, deadline=None)
@given(count=st.integers(ENOUGH, 3 * ENOUGH), seed=st.integers(0, 99))
def test_the_three_sets_are_disjoint_and_together_complete_and_labels_stay_with_their_images(
    count, seed, tmp_path_factory
):
    images = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(count) % 256, np.arange(count) // 256
    path = npz(tmp_path_factory.mktemp("npz"), images=images, labels=np.arange(count) % 7)
    data = load(path, GREY, 7, seed=seed)
    numbers = [one.images[:, 0, 0, 0] + 256 * one.images[:, 0, 1, 0].astype(int) for one in sets_of(data)]
    assert sorted(np.concatenate(numbers)) == list(range(count)), "an image is missing or in two sets"
    assert [len(one) for one in sets_of(data)] == [count // 4, count // 4, count - 2 * (count // 4)]
    for one, number in zip(sets_of(data), numbers, strict=True):
        assert np.array_equal(one.targets, number % 7), "a label went to another image"


def test_the_same_seed_splits_alike_and_another_one_does_not(tmp_path):
    path = npz(tmp_path, images=pixels(ENOUGH))
    first, again, other = (load(path, seed=seed).calibration.images for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_large_sets_calibrate_on_512_and_select_on_2000_images(tmp_path):
    data = load(
        npz(tmp_path, images=np.zeros((9000, 1, 1, 1), np.uint8)), Preprocessing(1, 1, 1, 1, (0,), (1,), "GRAY")
    )
    assert [len(one) for one in sets_of(data)] == [512, 2000, 9000 - 2512]


def test_a_folder_by_class_gives_labels_in_the_order_of_its_names(tmp_path):
    data = load(picture_folder(tmp_path))
    assert data.labelled
    for one in sets_of(data):
        assert [f"class_{label}" for label in one.targets] == [path.parent.name for path in one.images]
    assert sum(len(one) for one in sets_of(data)) == ENOUGH


def test_a_folder_without_classes_has_no_labels(tmp_path):
    data = load(picture_folder(tmp_path, classes=0))
    assert not data.labelled, "labels were invented"
    assert sum(len(one) for one in sets_of(data)) == ENOUGH


@pytest.mark.parametrize("labels", [{}, {"labels": np.arange(ENOUGH) % 4}], ids=["without labels", "with labels"])
def test_an_npz_is_labelled_when_it_holds_labels(labels, tmp_path):
    assert load(npz(tmp_path, images=pixels(ENOUGH), **labels)).labelled == bool(labels)


def test_grey_images_of_an_npz_may_lack_the_channel_axis(tmp_path):
    assert load(npz(tmp_path, images=pixels(ENOUGH, 1)[..., 0]), GREY).calibration.images.shape[1:] == (SIDE, SIDE, 1)


def test_inputs_are_preprocessed_in_batches_and_tensors_hold_the_same_channels_first(tmp_path):
    images = load(npz(tmp_path, images=pixels(3 * ENOUGH))).evaluation
    batches, tensors = list(images.inputs()), list(images.tensors())
    assert [len(batch) for batch in batches] == [64, 64, 64], "192 images are three batches"
    assert np.array_equal(batches[1][0], preprocess(images.images[64], COLOR))
    for batch, tensor in zip(batches, tensors, strict=True):
        assert np.array_equal(batch.transpose(0, 3, 1, 2), tensor.numpy())
    assert len(images.raw(5)) == 5
    assert np.array_equal(images.raw(5)[4], images.images[4]), "raw images are not preprocessed"


def test_grey_files_are_repeated_for_a_colour_model(tmp_path):
    data = load(picture_folder(tmp_path, channels=1))
    (image,) = data.calibration.raw(1)
    assert image.shape == (SIDE, SIDE, 3)
    assert np.array_equal(image[..., 0], image[..., 2])


def test_colour_files_are_refused_for_a_grey_model(tmp_path):
    with pytest.raises(BadData, match=r"128 of 128 images .*\n.*0000\.png: is in colour"):
        load(picture_folder(tmp_path), GREY)


def spoilt(folder: Path) -> Path:
    """Write a folder of good images with one corrupt and one CMYK file among them."""
    picture_folder(folder, ENOUGH + 2)
    corrupt = folder / "class_1" / "0001.png"
    corrupt.write_bytes(corrupt.read_bytes()[:60])
    Image.new("CMYK", (SIDE, SIDE)).save(folder / "class_2" / "ink.jpg")
    return folder


def test_every_image_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(BadData) as caught:
        load(spoilt(tmp_path))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"2 of {ENOUGH + 3} images under {tmp_path} cannot be used")
    assert "class_1/0001.png" in lines[1], lines
    assert "class_2/ink.jpg" in lines[2], lines
    assert "CMYK" in lines[2], lines
    assert lines[3:] == ["help: --skip-bad leaves them out"], lines


def test_each_line_names_its_file_once(tmp_path):
    with pytest.raises(BadData) as caught:
        load(spoilt(tmp_path))
    for line in caught.value.message.splitlines()[1:]:
        assert line.count(str(tmp_path)) == 1, line


def test_bad_images_are_left_out_when_asked_and_nothing_else(tmp_path):
    data = load(spoilt(tmp_path), skip_bad=True)
    names = {path.name for one in sets_of(data) for path in one.images}
    assert len(names) == ENOUGH + 1
    assert not names & {"0001.png", "ink.jpg"}


def test_a_folder_of_nothing_but_bad_images_is_empty_even_when_they_are_skipped(tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(BadData, match="holds no images"):
        load(tmp_path, skip_bad=True)


def test_a_folder_without_images_is_refused_and_says_which_files_count(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(BadData, match=r"holds no images \(\.png, \.jpg"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["gone", "gone.txt", "gone.npz"])
def test_a_source_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(BadData, match=name):
        load(tmp_path / name)


@pytest.mark.parametrize("count", [0, 1, ENOUGH - 1])
def test_too_few_images_to_calibrate_are_refused_with_the_number_needed(count, tmp_path):
    path = npz(tmp_path, images=pixels(count), labels=np.zeros(count, np.int64))
    with pytest.raises(BadData, match=f"has {count} images, .* at least {ENOUGH} are needed"):
        load(path)


@pytest.mark.parametrize("labels", [[-1, 3], [0, 4]])
def test_labels_outside_the_models_classes_are_refused(labels, tmp_path):
    path = npz(tmp_path, images=pixels(ENOUGH), labels=np.resize(labels, ENOUGH))
    with pytest.raises(
        BadData, match=rf"labels from {labels[0]} to {labels[1]}; the model has 4 classes\nhelp: .*, 0 to 3"
    ):
        load(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": pixels(ENOUGH, 1)}, rf"`images` is uint8 \({ENOUGH}, 8, 8, 1\); expected uint8"),
        ({"images": pixels(ENOUGH, 4)}, r"expected uint8 \(N, height, width, 3\)"),
        ({"images": pixels(ENOUGH).astype(np.float32)}, "`images` is float32"),
        ({"images": pixels(ENOUGH)[0, 0]}, "`images` is uint8"),
        ({"images": pixels(ENOUGH), "labels": np.zeros(3, int)}, rf"int64 \(3,\); expected {ENOUGH} integers"),
        ({"images": pixels(ENOUGH), "labels": np.zeros(ENOUGH)}, "`labels` is float64"),
        ({"x": pixels(2), "y": pixels(2)}, "no array `images`; it holds x, y"),
        ({}, "no array `images`; it holds nothing"),
    ],
    ids=["grey", "four", "float", "one row", "few labels", "float labels", "other names", "empty"],
)  # fmt: skip
def test_arrays_of_the_wrong_kind_are_refused_with_what_was_expected(arrays, message, tmp_path):
    with pytest.raises(BadData, match=message):
        load(npz(tmp_path, **arrays))


def corrupted(archive: bytes) -> bytes:
    """Return an archive whose first member no longer decompresses."""
    start = archive.index(b"images.npy") + len(b"images.npy") + 40
    return archive[:start] + bytes(64) + archive[start + 64 :]


def compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=pixels(ENOUGH))
    return buffer.getvalue()


def a_single_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels(2))
    return buffer.getvalue()


def a_zip_of_text() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images", "text")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", compressed()[:-200], corrupted(compressed()), a_single_array(), a_zip_of_text()],
    ids=["empty", "text", "truncated", "corrupted", "npy", "zip of text"],
)
def test_a_file_that_is_no_npz_is_refused(content, tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(BadData, match=r"mine\.npz"):
        load(path)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_in_an_npz_is_refused_and_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    path = npz(tmp_path, images=np.array([Trap(sprung)], dtype=object))
    with pytest.raises(BadData, match=r"no readable \.npz file: Object arrays cannot be loaded"):
        load(path)
    assert not sprung.exists(), "the pickle's code ran"


def test_images_that_are_smaller_than_the_models_input_are_refused_before_any_work(tmp_path):
    uncropped = Preprocessing(SIDE, SIDE, 3, None, (0.5,) * 3, (0.5,) * 3, "RGB")
    with pytest.raises(BadData, match=r"mine\.npz.*is 7x7, smaller than the 8x8"):
        load(npz(tmp_path, images=pixels(ENOUGH, side=7)), uncropped)
    folder = picture_folder(tmp_path / "pictures", ENOUGH + 1)
    Image.fromarray(pixels(1, side=7)[0]).save(folder / "class_0" / "small.png")
    with pytest.raises(BadData, match=r"small\.png.*is 7x7, smaller than the 8x8"):
        load(folder, uncropped)


def test_without_data_a_models_own_weights_ask_for_it():
    with pytest.raises(
        BadData,
        match=r"quantization is calibrated on images, and there are none\nhelp: pass --data FOLDER or FILE\.npz",
    ):
        load_data(None, COLOR, 4, bundled=False)


def test_synthetic_images_are_seeded_smooth_and_labelled_as_such():
    large = Preprocessing(32, 24, 3, None, (0.5,) * 3, (0.5,) * 3, "RGB")
    data, again, other = (load("synthetic", large, seed=seed) for seed in (3, 3, 4))
    assert data.synthetic
    assert not data.labelled
    assert data.source == "synthetic noise, seed 3"
    for one, same, different in zip(sets_of(data), sets_of(again), sets_of(other), strict=True):
        assert one.images.shape[1:] == (24, 32, 3)
        assert len(one) >= CALIBRATION_LEAST
        assert np.array_equal(one.images, same.images), "the same seed gave other images"
        assert not np.array_equal(one.images, different.images), "another seed gave the same images"
    values = data.calibration.images.astype(float)
    assert np.abs(np.diff(values, axis=2)).mean() < 0.7 * values.std(), "neighbours have nothing in common"
    contents = [image.tobytes() for one in sets_of(data) for image in one.images]
    assert len(set(contents)) == len(contents), "an image is in two sets"


def test_random_weights_without_data_take_synthetic_images():
    assert load_data(None, COLOR, 4, bundled=False, random_weights=True).synthetic


def test_the_bundled_sets_have_the_sizes_told_and_no_image_in_two_of_them():
    model = load_model()
    data = model.task.read(None, model.facts)
    assert [len(one) for one in sets_of(data)] == [512, 2000, 10_000]
    assert data.labelled
    assert not data.synthetic
    calibration, selection, evaluation = ({image.tobytes() for image in one.images} for one in sets_of(data))
    assert not calibration & selection, "calibration images are also selected on"
    assert len(evaluation & (calibration | selection)) == 0, "images that judge were used before"
    for one in sets_of(data):
        assert set(one.targets) == set(range(10)), "a class is missing"


def test_class_folders_are_matched_to_the_classes_by_name(tmp_path):
    folder = picture_folder(tmp_path)
    names = ["class_2", "class_0", "class_3", "class_1"]
    data = load_data(str(folder), COLOR, 4, bundled=False, names=names)
    for one in sets_of(data):
        assert [names[label] for label in one.targets] == [path.parent.name for path in one.images]


def test_class_folders_are_matched_whatever_their_case(tmp_path):
    folder = picture_folder(tmp_path)
    names = ["CLASS_2", "Class_0", "class_3", "class_1"]
    data = load_data(str(folder), COLOR, 4, bundled=False, names=names)
    for one in sets_of(data):
        assert [names[label].lower() for label in one.targets] == [path.parent.name for path in one.images]
    assert data.how_read == "classes: 4 folders, by the model's labels"
    assert data.labels is None, "the model has names of its own"


def test_the_order_of_folders_that_no_label_names_is_told_and_their_names_are_the_labels(tmp_path):
    data = load(picture_folder(tmp_path))
    assert data.labels == ("class_0", "class_1", "class_2", "class_3")
    assert data.how_read == (
        "classes: folders in alphabetical order, for the model names no labels: "
        "0 class_0, 1 class_1, 2 class_2, 3 class_3"
    )
    named = load_data(str(tmp_path), COLOR, 4, bundled=False, names=["a", "b", "c", "d"])
    assert "for none of them is one of the model's labels: 0 class_0" in named.how_read


def test_folders_named_by_numbers_are_those_classes(tmp_path):
    folder = picture_folder(tmp_path)
    for number, name in enumerate(("2", "10", "0", "03")):
        (folder / f"class_{number}").rename(folder / name)
    data = load(folder, classes=12)
    for one in sets_of(data):
        assert [int(path.parent.name) for path in one.images] == one.targets.tolist()
    assert data.how_read == "classes: 4 folders, by the numbers of the model's classes"


def test_a_folder_that_may_be_two_classes_is_refused(tmp_path):
    folder = picture_folder(tmp_path)
    with pytest.raises(BadData, match="`class_1` may be any of the model's classes 1, 3, which have the same label"):
        load_data(str(folder), COLOR, 5, bundled=False, names=["class_0", "class_1", "class_2", "class_1", "class_3"])


def test_two_folders_of_one_class_are_refused(tmp_path):
    folder = picture_folder(tmp_path)
    (folder / "class_3").rename(folder / "CLASS_2")
    with pytest.raises(BadData, match="class folders `CLASS_2` and `class_2` are the same class of the model"):
        load_data(str(folder), COLOR, 4, bundled=False, names=["class_0", "class_1", "class_2", "other"])


def test_a_class_folder_unknown_to_the_model_among_known_ones_is_named_with_its_near_miss(tmp_path):
    folder = picture_folder(tmp_path)
    with pytest.raises(BadData, match=r"`class_3` is no class of the model.*; did you mean `klass_3`"):
        load_data(str(folder), COLOR, 4, bundled=False, names=["class_0", "class_1", "class_2", "klass_3"])


def test_hidden_folders_are_no_classes_and_images_beside_class_folders_are_refused(tmp_path):
    folder = picture_folder(tmp_path)
    (folder / ".checkpoints").mkdir()
    assert max(max(one.targets) for one in sets_of(load(folder))) == 3
    first = next((folder / "class_0").iterdir())
    first.rename(folder / "stray.png")
    with pytest.raises(BadData, match=r"1 images lie in .* beside its class folders \(first: stray\.png\)"):
        load(folder)


def test_class_folders_of_other_names_must_be_as_many_as_the_classes(tmp_path):
    with pytest.raises(BadData, match="3 class folders for a model of 4 classes, and their names are not the model's"):
        load(picture_folder(tmp_path, classes=3))
