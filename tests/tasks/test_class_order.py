"""Another order of the classes is found where there is one, on images it was not fitted on."""

import numpy as np
import pytest

from edgeslim.tasks.class_order import better_order

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


def test_one_answer_for_everything_is_no_other_order():
    labels = np.random.default_rng(0).choice(3, 256, p=[0.2, 0.2, 0.6])
    assert better_order(np.zeros(256, np.int64), labels, 3) is None
