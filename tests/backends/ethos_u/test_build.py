"""What an NPU build demands of recipe and result: every refusal with its cure."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeslim.backends.ethos_u.build import default_recipe, deliver, recipe_faults
from edgeslim.backends.ethos_u.compile import Compiled, compile_network
from edgeslim.backends.ethos_u.compiled import NpuFile, compile_best, unfit
from edgeslim.backends.ethos_u.vela_report import PlacedOperator, Placement
from edgeslim.devices.profile import load_profile
from edgeslim.export.evaluation.run import Judged
from edgeslim.export.job import Job
from edgeslim.recipe import with_settings, without_step
from tests.support.compiled_files import IMX93, compiled, limited
from tests.support.judged_files import judged
from tests.support.small_models import context, random_images

if find_spec("ethosu") is None:
    pytest.skip("ethos-u-vela is not installed; pip install 'edgeslim[ethos-u]'", allow_module_level=True)

DEVICE = load_profile("nxp-imx93")
RECIPE = default_recipe(DEVICE)


def made(best: Compiled, *others: Compiled, compiler=IMX93) -> NpuFile:
    return NpuFile(judged("tflite", "int8"), compiler, best, others, None)


def test_the_default_recipe_of_an_npu_quantizes_whole_and_writes_tflite():
    assert RECIPE.formats == ("tflite",)
    assert [call.step for call in RECIPE.steps] == ["fold", "legalize", "quantize"]
    assert RECIPE.min_npu_ops_pct == 100.0
    assert recipe_faults(RECIPE, DEVICE) == []


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (with_settings(RECIPE, formats=("onnx", "tflite")), r"the recipe writes onnx, tflite \(--format tflite\)"),
        (without_step(RECIPE, "quantize"), "the recipe has no step `quantize`"),
        (with_settings(RECIPE, max_latency_s=0.1), "its NPU's time is simulated here, never measured"),
    ],
)
def test_a_recipe_that_gives_an_npu_nothing_to_run_is_refused(recipe, message):
    (fault,) = recipe_faults(recipe, DEVICE)
    assert re.search(message, fault)


def test_every_fault_of_a_recipe_is_told_at_once():
    wrong = with_settings(without_step(RECIPE, "quantize"), formats=("onnx",), max_latency_s=0.1)
    assert len(recipe_faults(wrong, DEVICE)) == 3


def test_a_float_network_given_to_the_gate_is_refused_layer_by_layer_with_cures(tiny, tmp_path):
    best, *others = compile_network(tiny("litert").models["fp32"], IMX93, tmp_path / "out")
    first, *layers = unfit(made(best, *others), RECIPE)
    assert first == f"0 of {len(layers)} operators run on the NPU (0.0 %), 100 % are demanded (min_npu_ops_pct)"
    assert len(layers) == len(best.placement.operators) > 0
    for layer, one in zip(layers, best.placement.on_cpu, strict=True):
        assert layer.startswith(f"on the CPU: {one.original} `{one.name}`: Operation has tensor with unsupported")
        assert "cure: it is float: use the INT8 file" in layer


def test_the_gate_allows_exactly_what_the_recipe_asks_for(tmp_path):
    operators = (PlacedOperator("a", "Conv2D", "Conv2D", True, 1), PlacedOperator("b", "Mean", "Mean", False, 0, "no"))
    best = compiled(tmp_path, "Size", 1.0, 1)
    half = made(Compiled(best.goal, best.file, best.file, best.file, best.file, Placement(operators), best.estimate))
    assert unfit(half, with_settings(RECIPE, min_npu_ops_pct=50.0)) == []
    assert (
        "1 of 2 operators run on the NPU (50.0 %), 50.1 % are"
        in unfit(half, with_settings(RECIPE, min_npu_ops_pct=50.1))[0]
    )


def test_sram_and_flash_beyond_the_device_are_refused_with_the_figures_of_every_goal(tmp_path):
    recipe = with_settings(RECIPE, min_npu_ops_pct=0.0)
    small, fast = compiled(tmp_path, "Size", 2.0, 4000), compiled(tmp_path, "Performance", 1.0, 9000)
    assert unfit(made(small, fast, compiler=limited(sram="3 KiB")), recipe) == [
        "compiled for Size it needs 3.91 KiB of SRAM, the device has 3 KiB "
        "(for Performance: needs 8.79 KiB of SRAM, the device has 3 KiB); prune it, or give it smaller images"
    ]
    assert (
        "needs 1000 B of flash, the device has 900 B" in unfit(made(small, compiler=limited(flash="900 B")), recipe)[0]
    )
    assert unfit(made(small, fast, compiler=limited()), recipe) == []


def test_the_compiled_file_is_held_against_the_size_that_was_asked_for(tmp_path):
    recipe = with_settings(RECIPE, min_npu_ops_pct=0.0, max_size_bytes=999)
    assert unfit(made(compiled(tmp_path, "Size", 1.0, 1), compiler=limited()), recipe) == [
        "Size.tflite takes 1 KB, 999 B are allowed (--max-size)"
    ]


def test_without_a_compiled_file_there_is_no_primary_and_nothing_to_hold_against(tmp_path):
    around = replace(context(random_images(2), tmp_path), profile=DEVICE)
    found = deliver([int8_file(tmp_path, b"no network")], None, RECIPE, around, tmp_path / "artifact")
    assert (found.primary, found.section, found.reasons) == (None, None, ())
    assert len(found.failures) == 1


def int8_file(folder: Path, content: bytes) -> Judged:
    target = folder / "model_int8.tflite"
    target.write_bytes(content)
    job = Job("tflite", "int8", Path("in"), target, Path("probe"), io="int8")
    return judged("tflite", "int8", job=job, outputs=(np.zeros((2, 4), np.float32),))


def test_a_file_that_cannot_be_compiled_is_a_failure_and_what_is_there_stays(tmp_path):
    around = replace(context(random_images(2), tmp_path), profile=DEVICE)
    one = int8_file(tmp_path, b"no network")
    assert compile_best([one], around, tmp_path / "artifact") == (
        None,
        ["model_int8.tflite cannot be read as a TFLite file: The model is not a valid Flatbuffer buffer"],
    )
    assert one.job.target.read_bytes() == b"no network"


def test_the_log_of_a_failing_vela_is_kept_beside_the_artifact(tiny, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    wrong = DEVICE.model_copy(update={"compiler": IMX93.model_copy(update={"memory_mode": "Dedicated_Sram"})})
    around = replace(context(random_images(2), work), profile=wrong)
    one = int8_file(tmp_path, tiny("litert").models["int8"].read_bytes())
    found, (failure,) = compile_best([one], around, tmp_path / "artifact")
    kept = tmp_path / "artifact.logs" / "vela_Performance.log"
    assert found is None
    assert failure.startswith("Vela (for Performance) failed: ")
    assert failure.endswith(f"its log: {kept}")
    assert "Dedicated_Sram" in kept.read_text()


def test_without_an_int8_file_nothing_is_compiled(tmp_path):
    around = replace(context(random_images(2), tmp_path), profile=DEVICE)
    assert compile_best([], around, tmp_path / "artifact") == (None, [])
