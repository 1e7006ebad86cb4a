"""What a build would take: counted from files, images and parameters, with what was measured told apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeslim.backends import backend_of
from edgeslim.devices.profile import load_profile
from edgeslim.export.evaluation.inputs import PART_BYTES
from edgeslim.pipeline.preflight.expectation import Expected, Inference, expected, timed_inference
from edgeslim.pipeline.preflight.past_builds import note_build, work_of
from edgeslim.recipe import Recipe, with_settings
from edgeslim.tasks.image_store import MOST_BYTES
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.threads import cores
from tests.support.small_models import COLOR, SIDE, model_of, plain

MODEL = model_of(plain())
TAKEN = Inference(s=0.002, least_s=0.001, most_s=0.004, runs=9)


def recipe_of(device: str) -> Recipe:
    profile = load_profile(device)
    recipe: Recipe = backend_of(profile).default_recipe(profile)
    return recipe


def images(count: int, *, files: bool = False) -> ImageSet:
    pixels = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    found = [Path("one.png")] * count if files else np.broadcast_to(pixels, (count, SIDE, SIDE, 3))
    return ImageSet(found, None, COLOR)


def data(count: int = 100, *, files: bool = False) -> Data:
    return Data("images", False, *(images(some, files=files) for some in (32, 40, count)))


def found(recipe: Recipe, images: Data, store: Path, device: str = "raspberry-pi") -> Expected:
    return expected(MODEL, recipe, images, work_of(MODEL, load_profile(device), recipe, images), TAKEN, store)


@pytest.mark.parametrize(
    ("device", "files", "bytes_a_parameter"),
    [("raspberry-pi", 6, 3 * 5), ("nxp-imx93", 2, 5), ("jetson-orin-nano", 3, 7)],
)
def test_files_and_bytes_follow_from_the_recipe(
    tmp_path: Path, device: str, files: int, bytes_a_parameter: int
) -> None:
    one = found(recipe_of(device), data(), tmp_path, device)
    at_once = min(cores(), files)
    assert (one.files, one.images, one.at_once) == (files, 100, at_once)
    assert one.judging_s == pytest.approx(files * 100 * 0.002 / at_once)
    assert one.weights_bytes == 2 * MODEL.parameters * bytes_a_parameter
    assert (one.past_s, one.alike) == (None, None)


def test_threads_of_a_runtime_leave_fewer_files_side_by_side(tmp_path: Path) -> None:
    recipe = with_settings(recipe_of("raspberry-pi"), threads=2 * cores())
    assert found(recipe, data(), tmp_path).at_once == 1


def test_inputs_lie_on_the_disk_in_two_layouts_and_no_more_than_two_parts(tmp_path: Path) -> None:
    recipe, values = recipe_of("raspberry-pi"), SIDE * SIDE * 3
    assert found(recipe, data(100), tmp_path).temporary_bytes == 2 * 4 * values * 100
    assert found(recipe, data(10_000_000), tmp_path).temporary_bytes == 4 * PART_BYTES


def test_decoded_images_are_kept_of_files_alone(tmp_path: Path) -> None:
    recipe, values = recipe_of("raspberry-pi"), SIDE * SIDE * 3
    assert found(recipe, data(100), tmp_path).kept_bytes == 0
    assert found(recipe, data(100, files=True), tmp_path).kept_bytes == 172 * values
    assert found(recipe, data(30_000_000, files=True), tmp_path).kept_bytes == MOST_BYTES


def test_a_build_of_the_same_work_says_how_long_it_took(tmp_path: Path) -> None:
    recipe, some = recipe_of("raspberry-pi"), data()
    work = work_of(MODEL, load_profile("raspberry-pi"), recipe, some)
    note_build(tmp_path, replace(work, source="another", macs=5), 99.0)
    one = found(recipe, some, tmp_path)
    assert one.past_s is None
    assert one.alike is not None
    assert (one.alike.seconds, one.alike.work.source) == (99.0, "another")
    note_build(tmp_path, work, 42.0)
    assert found(recipe, some, tmp_path).past_s == 42.0


def test_an_inference_is_measured_more_than_once() -> None:
    taken = timed_inference(MODEL.network, torch.zeros(MODEL.input_shape))
    assert 0 < taken.least_s <= taken.s <= taken.most_s
    assert taken.runs >= 3
