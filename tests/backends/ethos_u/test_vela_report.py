"""Vela's reports as it wrote them (ethos-u-vela 5.2.0, recorded in recorded_vela/) and what is read from them."""

import pytest

from edgeslim.backends.ethos_u.vela_report import (
    NOT_TOLD,
    PlacedOperator,
    VelaEstimate,
    counts,
    read_estimate,
    read_placement,
)
from edgeslim.errors import ToolFailed
from tests.support import TESTS

RECORDED = TESTS / "recorded_vela"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def test_a_file_with_float_ends_leaves_two_operators_to_the_cpu_each_with_its_reason():
    placed = read_placement(recorded("float_ends_layers.csv"), recorded("float_ends.log"))
    assert (len(placed.on_npu), len(placed.on_cpu)) == (27, 2)
    assert placed.npu_pct == pytest.approx(100 * 27 / 29)
    first, last = placed.on_cpu
    assert (first.original, first.name) == ("Quantize", "serving_default_args_0_quantized")
    assert first.reason.startswith("Operation has tensor with unsupported DataType Float32")
    assert first.reason.endswith('{"INT16", "INT32", "INT64", "INT8", "UINT8"}'), "the second line of a reason is lost"
    assert (last.original, last.reason) == ("Dequantize", "Unsupported opType")
    for one in placed.on_cpu:
        assert "INT8 input and output" in one.cure


def test_the_operators_are_counted_by_name():
    placed = read_placement(recorded("float_ends_layers.csv"), "")
    assert counts(placed.on_npu) == {"Conv2D": 14, "Add": 8, "DepthwiseConv2D": 2, "Mean": 2, "FullyConnected": 1}
    assert sum(one.cycles for one in placed.operators) == 304_656, (
        "the cycles of the layers are not those of the network"
    )


def test_a_float_network_has_no_operator_on_the_npu_though_vela_ends_well():
    placed = read_placement(recorded("float_layers.csv"), recorded("float.log"))
    assert (len(placed.on_npu), placed.npu_pct) == (0, 0.0)
    assert len(placed.on_cpu) == 19
    assert all("it is float" in one.cure for one in placed.on_cpu), [one.reason for one in placed.on_cpu]


def test_an_operator_without_a_warning_says_that_there_is_no_reason():
    placed = read_placement(recorded("float_layers.csv"), "")
    assert {one.reason for one in placed.on_cpu} == {NOT_TOLD}


@pytest.mark.parametrize(
    ("original", "reason", "cure"),
    [
        ("Dequantize", "Unsupported opType", "it is float"),
        ("Conv2D", "IFM Tensor batch size must be 1", "export it for a batch of 1"),
        ("Mean", "Requirements for axis parameter", "channels last"),
        ("Gelu", "Unsupported opType", "edgeslim check"),
    ],
)
def test_a_cure_answers_what_vela_objects_to(original, reason, cure):
    assert cure in PlacedOperator("x", original, "Passthrough", False, 0, reason).cure


def test_a_name_with_commas_is_read_whole():
    head = recorded("float_ends_layers.csv").splitlines()[0]
    row = "Conv2D,Conv2D,NPU,0,0,7,0,7,0,0,0,0,0,0,0,one,two;3"
    (one,) = read_placement(f"{head}\n{row}\n", "").operators
    assert (one.name, one.cycles) == ("one,two;3", 7)


def test_the_estimate_is_in_seconds_and_bytes():
    assert read_estimate(recorded("float_ends_summary.csv")) == VelaEstimate(
        inference_s=0.000304656, cycles=304_656, sram_bytes=102_000, flash_bytes=0, dram_bytes=362_640,
        sram_moved_bytes=1_469_696, flash_moved_bytes=0, dram_moved_bytes=400_320,
    )  # fmt: skip


def test_the_memories_of_a_microcontroller_are_sram_and_flash():
    found = read_estimate(recorded("u55_summary.csv"))
    assert (found.sram_bytes, found.flash_bytes, found.dram_bytes) == (55_552, 358_928, 0)
    assert found.inference_s == pytest.approx(found.cycles / 500e6)


def test_a_float_network_costs_the_npu_nothing():
    assert read_estimate(recorded("float_summary.csv")).cycles == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "per-layer CSV is empty"),
        ("Original Operator,Target,Name\nConv2D,NPU,x\n", "no column `NNG Operator`"),
        ("Target,Name\nTPU,x\n", "places `x` on `TPU`; expected NPU or CPU"),
        ("Target,Name\nNPU\n", "a line with fewer than 2 columns"),
    ],
)
def test_a_report_in_another_layout_is_refused_by_column(text, message):
    with pytest.raises(ToolFailed, match=message):
        read_placement(text, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("inference_time", "time"), "no column `inference_time`"),
        (("0.000304656", "fast"), "`inference_time`: expected a number, got `fast`"),
    ],
)
def test_a_summary_in_another_layout_is_refused_by_column(change, message):
    with pytest.raises(ToolFailed, match=message):
        read_estimate(recorded("float_ends_summary.csv").replace(*change))
