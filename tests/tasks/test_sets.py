"""Sets of single sources: each set is what was named, what was not is cut from the rest, and no image is in two."""

from pathlib import Path

import numpy as np
import pytest

from edgeslim.errors import BadData
from edgeslim.tasks.classification import load_data
from edgeslim.tasks.images import Data
from edgeslim.tasks.sets import SETS
from tests.support.small_models import GREY, SIDE
from tests.tasks.test_images import picture_folder

CLASSES = 4


def archive(path: Path, first: int, count: int, *, labelled: bool = True) -> str:
    """Write images of which each holds its own number."""
    numbers = np.arange(first, first + count)
    images = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = numbers % 256, numbers // 256
    np.savez(path, images=images, **({"labels": numbers % CLASSES} if labelled else {}))
    return str(path)


def numbers(data: Data) -> dict[str, set[int]]:
    sets = {name: getattr(data, name).images for name in ("calibration", "selection", "evaluation")}
    return {name: set((one[:, 0, 0, 0] + 256 * one[:, 0, 1, 0].astype(int)).tolist()) for name, one in sets.items()}


def load(source: str | None = None, **own: str) -> Data:
    return load_data(source, GREY, CLASSES, bundled=False, own=own)


def test_few_labelled_images_judge_what_many_without_labels_calibrate(tmp_path: Path) -> None:
    many = archive(tmp_path / "many.npz", 0, 500, labelled=False)
    few = archive(tmp_path / "few.npz", 500, 20)
    data = load(calibration=many, evaluation=few)
    found = numbers(data)
    assert found["evaluation"] == set(range(500, 520)), "another image judges"
    assert (len(found["calibration"]), len(found["selection"])) == (250, 250)
    assert not found["calibration"] & found["selection"], "what calibrates selects too"
    assert data.labelled
    assert data.calibration.targets is None
    assert data.source == "calibration and selection: many.npz; evaluation: few.npz"


def test_what_is_not_named_is_cut_from_the_data(tmp_path: Path) -> None:
    found = numbers(load(archive(tmp_path / "all.npz", 0, 300), calibration=archive(tmp_path / "own.npz", 300, 40)))
    assert found["calibration"] == set(range(300, 340))
    assert found["selection"] | found["evaluation"] == set(range(300)), "an image of the data is lost"
    assert (len(found["selection"]), len(found["evaluation"])) == (100, 200)


def test_each_set_can_be_named_and_the_largest_are_cut_short_by_the_seed(tmp_path: Path) -> None:
    own = {
        name: archive(tmp_path / f"{name}.npz", 3000 * place, 600)
        for place, name in enumerate(("calibration", "selection", "evaluation"))
    }
    found = numbers(load(**own))
    assert {name: len(one) for name, one in found.items()} == {"calibration": 512, "selection": 600, "evaluation": 600}
    assert found == numbers(load(**own)), "another order each time"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (("calibration",), "no images judge\nhelp: name them with --evaluation, or name --data"),
        (("evaluation",), "name them with --calibration, or with --data"),
        (("calibration", "calibration twice", "evaluation"), r"share \d+ images; what calibrates, selects and judges"),
    ],
)
def test_sets_that_cannot_be_are_refused(named: tuple[str, ...], words: str, tmp_path: Path) -> None:
    one, other = archive(tmp_path / "one.npz", 0, 64), archive(tmp_path / "other.npz", 64, 64)
    sources = {"calibration": one, "evaluation": one if "calibration twice" in named else other}
    with pytest.raises(BadData, match=words):
        load(**{name: source for name, source in sources.items() if name in named})


def test_too_few_images_to_calibrate_are_counted(tmp_path: Path) -> None:
    few, judging = archive(tmp_path / "few.npz", 0, 40), archive(tmp_path / "judging.npz", 40, 9)
    with pytest.raises(BadData, match=r"few\.npz has 40 images, of which a half calibrates; at least 64 are needed"):
        load(calibration=few, evaluation=judging)
    selecting = archive(tmp_path / "selecting.npz", 49, 9)
    with pytest.raises(BadData, match=r"selecting\.npz has 9 images, all of which calibrate; at least 32 are needed"):
        load(calibration=selecting, selection=few, evaluation=judging)


def test_a_set_without_an_image_is_refused(tmp_path: Path) -> None:
    many, none = archive(tmp_path / "many.npz", 0, 64), archive(tmp_path / "none.npz", 64, 0)
    with pytest.raises(BadData, match=r"none\.npz has 0 images, which leaves none for the evaluation"):
        load(calibration=many, evaluation=none)
    with pytest.raises(BadData, match=r"two\.npz has 2 images, which leaves none for the selection"):
        load(archive(tmp_path / "two.npz", 64, 2), calibration=many)


def test_data_beside_three_sets_of_their_own_are_refused(tmp_path: Path) -> None:
    own = {name: archive(tmp_path / f"{name}.npz", 100 * place, 64) for place, name in enumerate(SETS)}
    with pytest.raises(BadData, match=r"all\.npz is read for nothing: all three sets have a source of their own"):
        load(archive(tmp_path / "all.npz", 1000, 9), **own)


def test_synthetic_images_are_all_three_sets(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="--data synthetic is all three sets"):
        load("synthetic", evaluation=archive(tmp_path / "own.npz", 0, 9))


def test_folders_share_no_file_and_the_one_that_judges_names_the_classes(tmp_path: Path) -> None:
    one = picture_folder(tmp_path / "one", 64, CLASSES, 1)
    other = picture_folder(tmp_path / "other", 20, CLASSES, 1)
    data = load(calibration=str(one), evaluation=str(other))
    assert data.labels == ("class_0", "class_1", "class_2", "class_3")
    assert len(data.evaluation) == 20
    with pytest.raises(BadData, match=r"one \(calibration\) and one \(evaluation\) share \d+ images, .*class_0"):
        load(calibration=str(one), evaluation=str(one))
