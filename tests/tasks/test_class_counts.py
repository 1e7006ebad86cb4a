"""Before a build: what a classifier tells apart, how many images show each class, and which none shows."""

from collections.abc import Mapping

import numpy as np
import pytest

from edgeslim.tasks.class_counts import counts, meaning, remarks
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.tasks.task import ModelFacts, Output
from tests.support.small_models import COLOR

NAMES = ("boot", "shirt", "coat", "bag")


def facts(classes: int = 4, labels: tuple[str, ...] | None = NAMES) -> ModelFacts:
    return ModelFacts("a test", COLOR, (Output("logits", (1, classes)),), labels)


def data(labels: tuple[str, ...] | None = None, **targets: list[int] | None) -> Data:
    sets: Mapping[str, ImageSet] = {
        name: ImageSet(
            np.zeros((2 if found is None else len(found), 8, 8, 3), np.uint8),
            None if found is None else np.array(found),
            COLOR,
        )
        for name, found in targets.items()
    }
    return Data("images", False, **sets, labels=labels)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (2, "2 classes in this order: 0 a, 1 b"),
        (5, "5 classes in this order: 0 a, 1 b, 2 c, 3 d, 4 e"),
        (6, "6 classes in this order: 0 a, 1 b, 2 c, 3 d, 4 e, 5 f"),
        (8, "8 classes in this order: 0 a, 1 b, 2 c, 3 d, 4 e … 7 h"),
    ],
)
def test_the_first_classes_and_the_last_are_named(count: int, words: str) -> None:
    assert meaning(facts(count), tuple("abcdefgh"[:count])) == words
    assert meaning(facts(count, None), None) == f"{count} classes, which nobody names"


def test_the_images_of_all_sets_are_counted_by_class() -> None:
    found = data(calibration=[0, 1], selection=[1, 1, 2], evaluation=[0, 1, 2, 3])
    assert counts(facts(), found) == {"0 boot": 2, "1 shirt": 4, "2 coat": 2, "3 bag": 1}
    assert remarks(facts(), found) == []


def test_classes_of_the_same_name_are_counted_apart() -> None:
    found = data(calibration=[0], selection=[1], evaluation=[1])
    assert counts(facts(2, ("crane", "crane")), found) == {"0 crane": 1, "1 crane": 2}


def test_folders_name_the_classes_of_a_model_that_names_none() -> None:
    found = data(("cat", "dog"), calibration=None, selection=None, evaluation=[1, 1, 0])
    assert counts(facts(2, None), found) == {"0 cat": 1, "1 dog": 2}
    bare = data(calibration=None, selection=None, evaluation=[1, 1, 0])
    assert counts(facts(2, None), bare) == {"0": 1, "1": 2}


def test_images_without_labels_say_nothing() -> None:
    found = data(calibration=None, selection=None, evaluation=None)
    assert counts(facts(), found) == {}
    assert remarks(facts(), found) == []


def test_classes_without_images_are_named() -> None:
    found = data(calibration=[0, 3], selection=[3], evaluation=[0, 3])
    assert remarks(facts(), found) == ["no image shows 2 of the 4 classes: 1 shirt, 2 coat"]
    many = data(calibration=[0], selection=[0], evaluation=[0, 9])
    assert remarks(facts(10, None), many) == ["no image shows 8 of the 10 classes: 1, 2, 3, 4, 5 and 3 more"]


def test_classes_that_are_never_judged_are_named() -> None:
    found = data(calibration=[0, 1, 2, 3], selection=[0], evaluation=[0, 1, 2])
    assert remarks(facts(), found) == ["no image that judges shows 1 of the 4 classes: 3 bag"]
    unlabelled = data(calibration=[0, 1, 2, 3], selection=[0], evaluation=None)
    assert remarks(facts(), unlabelled) == []


def test_images_of_one_class_alone_are_remarked() -> None:
    found = data(calibration=[2, 2], selection=[2], evaluation=[2, 2])
    assert remarks(facts(), found) == ["all images are of one class, 2 coat: they say nothing of the others"]
