"""Which file becomes primary, and when a result is not good enough."""

from pathlib import Path

import numpy as np
import pytest

from edgeslim.backends import beyond_budget
from edgeslim.backends.cpu import choose_primary
from edgeslim.devices.profile import load_profile
from edgeslim.export.evaluation.ledger import Row
from edgeslim.export.evaluation.run import Judged
from edgeslim.export.job import Job
from edgeslim.measure.measurement import Measurement
from edgeslim.pipeline.gates import below_demand, not_judged
from edgeslim.tasks import classification
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.tasks.preprocessing import Preprocessing
from tests.support.judged_files import RECIPE, judged
from tests.support.made_measurements import measured

HOST, PI = load_profile("x86-64-host"), load_profile("raspberry-pi")


def timed(one: Judged, milliseconds: float) -> Measurement:
    medians_s = [milliseconds / 1e3 * wobble for wobble in (0.999, 1.0, 1.001, 1.0, 1.0)]
    precision = one.job.precision
    return measured(
        medians_s, one.label, runtime=one.runtime, precision_requested=precision, precision_actual=precision
    )


def choice(profile, **milliseconds: float) -> tuple[str | None, list[str]]:
    files = [judged(*label.split("_")) for label in milliseconds]
    primary, warnings = choose_primary(
        files, [timed(one, ms) for one, ms in zip(files, milliseconds.values(), strict=True)], profile
    )
    return primary.label if primary else None, warnings


def test_on_this_machine_the_fastest_file_becomes_primary():
    assert choice(HOST, openvino_fp32=4.0, openvino_int8=2.0, tflite_fp32=4.0, tflite_int8=1.5)[0] == "tflite int8"


def test_on_this_machine_an_int8_file_that_loses_to_its_float_twin_is_not_primary_and_is_named():
    primary, warnings = choice(HOST, onnx_fp32=7.0, onnx_int8=8.2)
    assert primary == "onnx fp32"
    assert "onnx int8 is slower than onnx fp32 on x86-64-host" in warnings[-1]


def test_a_difference_within_the_margin_changes_nothing():
    assert choice(HOST, openvino_fp32=4.0, openvino_int8=2.0, tflite_int8=1.98, tflite_fp32=4.0)[0] == "openvino int8"


def test_for_another_device_times_taken_here_only_warn_and_the_profile_decides():
    primary, warnings = choice(PI, tflite_fp32=7.0, tflite_int8=8.0, onnx_fp32=7.0, onnx_int8=1.0)
    assert primary == "tflite int8", "a time of another machine chose the file"
    assert any("slower than tflite fp32 on this machine (not raspberry-pi-4)" in warning for warning in warnings)


def test_what_is_known_to_fail_on_the_device_is_never_primary():
    primary, warnings = choice(PI, openvino_int8=1.0, openvino_fp32=2.0)
    assert primary == "openvino fp32"
    assert "object is not initialized" in warnings[0]


def data(*, synthetic: bool = False, labelled: bool = True) -> Data:
    images = ImageSet(
        np.zeros((4, 8, 8, 1), np.uint8),
        np.zeros(4, np.int64) if labelled else None,
        Preprocessing(8, 8, 1, 8, (0.5,), (0.5,), "GRAY"),
    )
    return Data("images", synthetic, images, images, images)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (1.0, "not judged: 4 images, 100 needed for 1 points"),
        (0.3, "not judged: 4 images, 334 needed for 0.3 points"),
        (25.0, None),
        (0.0, None),
    ],
)
def test_fewer_images_than_can_tell_the_allowed_loss_judge_nothing(points: float, told: str | None):
    recipe = RECIPE.model_copy(update={"max_drop_points": points})
    assert not_judged(recipe, data(), classification) == told
    assert not_judged(recipe, data(synthetic=True), classification) is None, "synthetic images never judge"


def test_what_is_not_judged_rejects_nothing_unless_the_build_is_strict():
    files = [judged("onnx", "fp32", 90.0), judged("onnx", "int8", 50.0)]
    assert below_demand(files, RECIPE, data(), "not judged: 4 images") == []
    strict = RECIPE.model_copy(update={"strict": True})
    assert below_demand(files, strict, data(), "not judged: 4 images") == ["not judged: 4 images (--strict)"]


@pytest.mark.parametrize(("int8_pct", "reasons"), [(89.0, 0), (88.99, 1)])
def test_the_accuracy_gate_allows_exactly_what_was_asked_for(int8_pct: float, reasons: int):
    files = [judged("onnx", "fp32", 90.0), judged("onnx", "int8", int8_pct)]
    assert len(below_demand(files, RECIPE, data())) == reasons


def test_without_labels_the_gate_asks_for_agreement():
    files = [judged("onnx", "fp32", 100.0), judged("onnx", "int8", 98.5)]
    assert "loses 1.50 points" in below_demand(files, RECIPE, data(labelled=False))[0]


def test_synthetic_images_decide_nothing_about_accuracy():
    files = [judged("onnx", "fp32", 100.0), judged("onnx", "int8", 10.0)]
    assert below_demand(files, RECIPE, data(synthetic=True, labelled=False)) == []


def test_a_planned_layer_that_was_not_proven_integer_is_named():
    files = [judged("onnx", "fp32"), judged("onnx", "int8", proven=())]
    assert below_demand(files, RECIPE, data()) == [
        "onnx int8: onnxruntime ran 0 of 1 planned layers on integers; not: conv2d"
    ]


def test_strict_asks_for_a_reason_wherever_a_file_departs_from_the_plan():
    row = Row("edge", "relu", "uint8", 0.1, 0, "Conv", "uint8", 0.2, 0, "differs", None)
    files = [judged("onnx", "fp32"), judged("onnx", "int8", rows=(row,))]
    assert below_demand(files, RECIPE, data()) == []
    strict = RECIPE.model_copy(update={"strict": True})
    assert "at 1 places (--strict): relu" in below_demand(files, strict, data())[0]


def test_the_budget_that_binds_is_named_with_both_figures(tmp_path):
    one = judged("tflite", "int8", job=Job("tflite", "int8", Path("in"), tmp_path / "model.tflite", Path("probe")))
    one.job.target.write_bytes(bytes(2000))
    both = RECIPE.model_copy(update={"max_latency_s": 0.002, "max_size_bytes": 1000})
    assert beyond_budget(one, both, [timed(one, 3.0)]) == [
        "tflite int8 takes 2 KB, 1 KB are allowed (--max-size)",
        "tflite int8 takes 3 ms an image, 2 ms are allowed (--max-latency)",
    ]
    wide = RECIPE.model_copy(update={"max_latency_s": 0.004, "max_size_bytes": 2000})
    assert beyond_budget(one, wide, [timed(one, 3.0)]) == []
    assert beyond_budget(None, both, []) == [], "without a primary file there is nothing to hold against a budget"
