"""Labels that mean other classes than the model does are found before any work; honest ones pass."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgeslim.class_order import better_order, require_fitting_labels
from edgeslim.data import load_data
from edgeslim.errors import BadData
from edgeslim.model import load_model
from edgeslim.resources import default_model_folder

CLASSES = 10


def answered(labels: np.ndarray, right: float, seed: int = 0) -> np.ndarray:
    """Return answers of which a share is right."""
    generator = np.random.default_rng(seed)
    return np.where(generator.random(len(labels)) < right, labels, generator.integers(0, CLASSES, len(labels)))


def labels_of(count: int = 256) -> np.ndarray:
    return np.random.default_rng(9).integers(0, CLASSES, count)


@pytest.mark.parametrize("right", [0.05, 0.5, 0.9, 1.0])
def test_answers_in_the_given_order_have_no_better_one(right):
    labels = labels_of()
    assert better_order(answered(labels, right), labels, CLASSES) is None


def test_an_exchanged_order_is_found_on_images_it_was_not_fitted_on():
    labels = labels_of()
    exchanged = np.random.default_rng(1).permutation(CLASSES)
    found = better_order(answered(labels, 0.9), exchanged[labels], CLASSES)
    assert found is not None
    assert found.classes == tuple(exchanged)
    assert found.images == 128
    assert found.right > 100 > found.right_as_given
    assert found.p < 1e-3


def test_two_exchanged_classes_of_ten_are_found_too():
    labels = labels_of()
    swapped = np.array([1, 0, *range(2, CLASSES)])
    found = better_order(answered(labels, 0.95), swapped[labels], CLASSES)
    assert found is not None
    assert found.classes == tuple(swapped)


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def bundled():
    with np.load(default_model_folder() / "evaluation.npz") as file:
        return file["images"][:1200], file["labels"][:1200].astype(np.int64)


def data_of(model, images, labels, folder):
    np.savez(folder / "set.npz", images=images, labels=labels)
    return load_data(str(folder / "set.npz"), model.preprocessing, model.classes, bundled=False)


def test_labels_that_mean_the_models_classes_pass(model, bundled, tmp_path):
    require_fitting_labels(model, data_of(model, *bundled, tmp_path))


def test_labels_in_another_order_stop_the_work_and_are_named(model, bundled, tmp_path):
    images, labels = bundled
    shifted = (labels + 1) % CLASSES
    with pytest.raises(
        BadData, match=r"the labels of set.npz are in another order than the classes of default"
    ) as raised:
        require_fitting_labels(model, data_of(model, images, shifted, tmp_path))
    for words in ("class 0 seems to be `Trouser`", "of 128 images", "--trust-labels", "LABELS"):
        assert words in str(raised.value)


def test_labels_that_say_nothing_of_the_answers_stop_the_work(model, bundled, tmp_path):
    images, labels = bundled
    drawn = np.random.default_rng(0).permutation(labels)
    with pytest.raises(BadData, match=r"answers \d+ of 256 images of set.npz as they are labelled, as it might by"):
        require_fitting_labels(model, data_of(model, images, drawn, tmp_path))


def test_random_weights_and_unlabelled_images_are_not_asked(model, bundled, tmp_path):
    images, labels = bundled
    wrong = data_of(model, images, (labels + 1) % CLASSES, tmp_path)
    require_fitting_labels(replace(model, weights_source="random"), wrong)
    bare = replace(wrong, evaluation=replace(wrong.evaluation, labels=None))
    require_fitting_labels(model, bare)


def test_a_weak_classifier_on_few_images_is_no_guess(model, bundled, tmp_path):
    # 128 images: 32 calibrate, 32 select; half of the labels are noise.
    images, labels = (part[:128] for part in bundled)
    generator = np.random.default_rng(0)
    half = np.where(generator.random(128) < 0.5, labels, generator.integers(0, CLASSES, 128))
    require_fitting_labels(model, data_of(model, images, half, tmp_path))


def test_one_answer_for_everything_is_no_other_order():
    labels = np.random.default_rng(0).choice(3, 256, p=[0.2, 0.2, 0.6])
    assert better_order(np.zeros(256, np.int64), labels, 3) is None


def test_class_folders_that_no_label_names_are_named_as_they_are(model, bundled, tmp_path):
    images, labels = bundled
    names = [f"{letter} kind" for letter in "hgfjacbdei"]  # in another order than the classes
    for number, (image, label) in enumerate(zip(images[:400], labels[:400], strict=True)):
        folder = tmp_path / "images" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(folder / f"{number}.png")
    data = load_data(str(tmp_path / "images"), model.preprocessing, model.classes, bundled=False, names=model.labels)
    with pytest.raises(BadData, match="class 0 seems to be `h kind`"):
        require_fitting_labels(model, data)


def test_evaluation_images_are_not_asked(model, bundled, tmp_path):
    right = data_of(model, *bundled, tmp_path)
    labels = right.evaluation.labels
    require_fitting_labels(model, replace(right, evaluation=replace(right.evaluation, labels=(labels + 1) % CLASSES)))
