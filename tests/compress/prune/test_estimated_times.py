"""Widths are chosen by times on the device, where its estimator knows the runtime's own code."""

from dataclasses import replace
from functools import partial

import pytest
from torch import nn

from edgeslim.compress.prune.workbench import workbench_of
from edgeslim.devices.profile import load_profile
from edgeslim.pipeline.latency import operator_latency
from edgeslim.progress import silent
from tests.support.emulated_core import skip_without_emulator
from tests.support.small_models import context, headed, model_of, random_images, randomized

PI = load_profile("raspberry-pi-4")


def knowing(runtime):
    """The profile with its estimator fitted on a runtime instead of ncnn."""
    return PI.model_copy(update={"estimator": PI.estimator.model_copy(update={"runtime": runtime})})


def bench(profile, work):
    latency = partial(operator_latency, profile, 1, work, silent)
    surroundings = replace(context(random_images(8), work), profile=profile, operator_latency=latency)
    network = headed(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), width=16)
    return workbench_of(model_of(randomized(network)), "obs", surroundings, blocks=False, timed=True)


@pytest.mark.parametrize(
    ("profile", "runtime", "estimates"), [(PI, "litert", False), (knowing("litert"), "litert", True)]
)
def test_times_are_estimated_only_by_costs_of_the_runtimes_own_code(profile, runtime, estimates, tmp_path):
    found = bench(profile, tmp_path)
    assert (found.latency.runtime, found.latency.estimated) == (runtime, estimates)


def test_the_runtime_whose_costs_are_known_comes_before_the_one_the_device_prefers(tmp_path):
    assert bench(knowing("onnxruntime"), tmp_path).latency.runtime == "onnxruntime"


def test_estimated_times_fall_with_the_widths_and_are_kept_by_operator(tmp_path):
    skip_without_emulator()
    found = bench(knowing("litert"), tmp_path)
    times = found.times()
    dense = times.sizes.dense
    narrow = {name: width // 2 for name, width in dense.items()}
    assert 0 < times.latency_s(narrow) < times.latency_s(dense)
    assert [file.suffix for file in (tmp_path / "operator_counts").iterdir()] == [".json"]
