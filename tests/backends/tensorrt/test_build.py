"""What a GPU build demands of recipe and result: every refusal with its cure."""

import re

import pytest

from edgeslim.backends.tensorrt.build import default_recipe, recipe_faults, short_of
from edgeslim.recipe import with_settings
from tests.support.fp16_checks import DEVICE, check

RECIPE = default_recipe(DEVICE)


def test_the_default_recipe_prunes_decides_on_fp16_and_quantizes_symmetrically():
    assert [call.step for call in RECIPE.steps] == ["prune", "fold", "mixed_precision", "quantize"], "other steps"
    assert RECIPE.steps[-1].settings == {"symmetric": True}, "TensorRT takes zero points of 0 alone"
    assert RECIPE.formats == ("onnx",), "engines are built from ONNX"
    assert RECIPE.min_fp16_agreement_pct == 99.0, "the gate is elsewhere"
    assert recipe_faults(RECIPE, DEVICE) == [], "its own recipe is refused"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"formats": ("onnx", "tflite")}, r"the recipe writes onnx, tflite \(--format onnx\)"),
        ({"max_latency_s": 0.1}, "nothing runs on its GPU here"),
    ],
)
def test_a_recipe_that_a_gpu_has_no_use_for_is_refused(settings, message):
    (fault,) = recipe_faults(with_settings(RECIPE, **settings), DEVICE)
    assert re.search(message, fault), "the fault is another"


def test_at_the_gate_it_passes_and_below_it_the_reason_says_how_it_was_seen():
    assert short_of(check(), RECIPE) == [], "99 % are demanded, and 99 % are there"
    (simulated,) = short_of(check(simulated_pct=98.99), RECIPE)
    assert simulated.startswith("simulated in fp16, the network agrees with itself in fp32 on 98.99 %"), simulated
    assert "raise `min_sqnr_db` in the step mixed_precision" in simulated, "the cure is not named"
    (file,) = short_of(check(file_pct=50.0), RECIPE)
    assert file.startswith("as the fp16 file in ONNX Runtime"), file


def test_an_overflow_beyond_calibration_is_named_with_operator_and_cure():
    (reason,) = short_of(check(overflow="conv2d_3"), RECIPE)
    assert reason.startswith("fp16 overflows at `conv2d_3`"), "the operator is not named"
    assert "raise `headroom` in the step mixed_precision" in reason, "the cure is not named"


def test_without_an_fp16_file_nothing_is_demanded():
    assert short_of(None, RECIPE) == [], "there is nothing to hold against"
