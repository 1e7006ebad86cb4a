"""The table of operators is what was found: of every case, with the versions that are pinned, and found again here."""

import sys
from pathlib import Path

import pytest

from edgeslim.compress.quantize import step as quantize
from edgeslim.devices.machine import this_machine
from edgeslim.export.operator_facts import in_float, layers_read, operator_facts, steps_apart, tried_with
from edgeslim.export.process import workers
from edgeslim.formats import FORMATS
from tests.support import REPOSITORY
from tests.support.builds import write_smooth_noise
from tests.support.installed import skip_without

sys.path.insert(0, str(REPOSITORY / "tools"))
import operator_cases
import operator_table


def test_every_case_is_in_the_table_for_every_format_and_nothing_else_is() -> None:
    assert set(operator_facts()) == set(steps_apart()) == set(operator_cases.CASES)
    assert all(set(facts) == set(FORMATS) for facts in operator_facts().values())
    assert all(one.reason for facts in operator_facts().values() for one in facts.values() if one.kind == "none")


def test_it_was_found_with_the_versions_that_are_pinned() -> None:
    pinned = dict(
        line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
    )
    for package, version in tried_with().items():
        assert version.partition("+")[0] == pinned[package].partition("+")[0], package


@pytest.mark.parametrize("operator", ["leaky_relu", "group_norm"])
def test_what_is_told_of_an_operator_is_found_again(operator: str, tmp_path: Path) -> None:
    for one in FORMATS.values():
        skip_without(one.runtime)
    images = write_smooth_noise(tmp_path / "images.npz", count=128)
    plain = {}
    with workers(tuple(FORMATS)):
        operator_table.examine("linear", images, plain)
        found, apart = operator_table.examine(operator, images, plain)
    assert abs(apart - steps_apart()[operator]) <= 1, "of what is float another processor may round otherwise"
    told = {name: fact.kind for name, fact in operator_facts()[operator].items()}
    if this_machine().sums_saturate:  # OpenVINO's sums are others there
        del found["openvino"], told["openvino"]
    assert found == told


def test_what_layers_read_in_a_precision_is_found_again(tmp_path: Path) -> None:
    for one in FORMATS.values():
        skip_without(one.runtime)
    images = write_smooth_noise(tmp_path / "images.npz", count=128)
    with workers(tuple(FORMATS)):
        assert operator_table.layers_read("dynamic", images) == layers_read()["dynamic"]


def test_what_layers_read_is_known_of_every_precision_that_a_layer_may_have() -> None:
    assert set(layers_read()) == {"int8", *quantize.PRECISIONS.values()}
    by_kind = {one: set(read["tflite"].values()) for one, read in layers_read().items()}
    assert by_kind["int8"] == {"int8 x int8"}
    assert by_kind["dynamic"] == {"fp32 x int8"}
    assert by_kind["w8"] == by_kind["fp16"] == by_kind["fp32"] == {"fp32 x fp32"}


def test_what_is_computed_in_float_is_told_by_format_with_how_often() -> None:
    assert in_float(["conv2d", "gelu", "elu", "elu"], ("onnx", "tflite")) == (
        "in float in onnx int8: elu (2x), gelu (1x)",
        "in float in tflite int8: elu (2x)",
    )
    assert in_float(["conv2d", "relu"], tuple(FORMATS)) == ()
