"""Labels that mean other classes than the model does are found before any work; honest ones pass."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgeslim.errors import BadData
from edgeslim.model.load import load_model
from edgeslim.pipeline.targets import require_fitting_targets
from edgeslim.resources import default_model_folder

CLASSES = 10


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def bundled():
    with np.load(default_model_folder() / "evaluation.npz") as file:
        return file["images"][:1200], file["labels"][:1200].astype(np.int64)


def data_of(model, images, labels, folder):
    np.savez(folder / "set.npz", images=images, labels=labels)
    return model.task.read(str(folder / "set.npz"), model.facts)


def test_labels_that_mean_the_models_classes_pass(model, bundled, tmp_path):
    require_fitting_targets(model, data_of(model, *bundled, tmp_path))


def test_labels_in_another_order_stop_the_work_and_are_named(model, bundled, tmp_path):
    images, labels = bundled
    shifted = (labels + 1) % CLASSES
    with pytest.raises(
        BadData, match=r"the labels of set.npz are in another order than the classes of default"
    ) as raised:
        require_fitting_targets(model, data_of(model, images, shifted, tmp_path))
    for words in ("class 0 seems to be `Trouser`", "of 128 images", "--trust-labels", "LABELS"):
        assert words in str(raised.value)


def test_labels_that_say_nothing_of_the_answers_stop_the_work(model, bundled, tmp_path):
    images, labels = bundled
    drawn = np.random.default_rng(0).permutation(labels)
    with pytest.raises(BadData, match=r"answers \d+ of 256 images of set.npz as they are labelled, as it might by"):
        require_fitting_targets(model, data_of(model, images, drawn, tmp_path))


def test_random_weights_and_unlabelled_images_are_not_asked(model, bundled, tmp_path):
    images, labels = bundled
    wrong = data_of(model, images, (labels + 1) % CLASSES, tmp_path)
    require_fitting_targets(replace(model, weights_source="random"), wrong)
    judging = {name: replace(getattr(wrong, name), targets=None) for name in ("calibration", "selection")}
    with pytest.raises(BadData, match="are in another order"):
        require_fitting_targets(model, replace(wrong, **judging))
    sets = {name: replace(getattr(wrong, name), targets=None) for name in ("calibration", "selection", "evaluation")}
    bare = replace(wrong, **sets)
    require_fitting_targets(model, bare)


def test_a_weak_classifier_on_few_images_is_no_guess(model, bundled, tmp_path):
    # 128 images: 32 calibrate, 32 select; half of the labels are noise.
    images, labels = (part[:128] for part in bundled)
    generator = np.random.default_rng(0)
    half = np.where(generator.random(128) < 0.5, labels, generator.integers(0, CLASSES, 128))
    require_fitting_targets(model, data_of(model, images, half, tmp_path))


def test_class_folders_that_no_label_names_are_named_as_they_are(model, bundled, tmp_path):
    images, labels = bundled
    names = [f"{letter} kind" for letter in "hgfjacbdei"]  # in another order than the classes
    for number, (image, label) in enumerate(zip(images[:400], labels[:400], strict=True)):
        folder = tmp_path / "images" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(folder / f"{number}.png")
    data = model.task.read(str(tmp_path / "images"), model.facts)
    with pytest.raises(BadData, match="class 0 seems to be `h kind`"):
        require_fitting_targets(model, data)


def test_evaluation_images_are_not_asked(model, bundled, tmp_path):
    right = data_of(model, *bundled, tmp_path)
    labels = right.evaluation.targets
    require_fitting_targets(model, replace(right, evaluation=replace(right.evaluation, targets=(labels + 1) % CLASSES)))


def test_no_more_images_are_asked_than_wanted(model, bundled, tmp_path):
    images, labels = bundled
    drawn = np.random.default_rng(0).permutation(labels)
    with pytest.raises(BadData, match=r"answers \d+ of 80 images of set.npz"):
        require_fitting_targets(model, data_of(model, images, drawn, tmp_path), 40)
