"""An inference is cut into its operators, which add up to it; what to try is said of those that are worth it."""

import pytest

from edgeslim.deploy.agent_session import GraphNode
from edgeslim.devices.emulation import CLASSES
from edgeslim.devices.profile import load_profile
from edgeslim.emulation.core import Counted, Emulator
from edgeslim.emulation.onnx_layers import Layer
from edgeslim.emulation.operator_profile import QUESTIONS_AFTER, QUESTIONS_BEFORE, cut, operators_of, profile
from edgeslim.errors import BadInput, ToolFailed
from tests.support.emulated_core import skip_without_emulator
from tests.support.packed_artifact import pack_small

NOTHING = dict.fromkeys((*CLASSES, "mem_access", "mem_bytes", "l1d_miss", "l2_miss"), 0)


def asked(*counts):
    """Return the plugin's lines for questions up to which these instructions of the class `int` were counted."""
    return [Counted("clock", 4, {**NOTHING, "insns": count, "int": count}) for count in counts]


def node(name, op="QLinearConv", precision="uint8"):
    return GraphNode(name, op, precision, (precision,), (), "CPUExecutionProvider")


def taking(instructions):
    return {**NOTHING, "insns": instructions, "simd_other": instructions, "mem_access": 1}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    skip_without_emulator()
    return pack_small(tmp_path_factory.mktemp("small"))


def test_what_the_profiler_adds_to_every_operator_is_taken_off():
    # 100 and 300 of the operators themselves, 20 of the profiler within each.
    lines = asked(*range(QUESTIONS_BEFORE), 10, 130, 140, 460, *range(500, 500 + QUESTIONS_AFTER))
    found = cut(lines, 2, {**NOTHING, "insns": 400, "int": 400})
    assert [one["insns"] for one in found] == [100, 300]


def test_the_operators_of_a_real_file_add_up_to_an_inference(artifact):
    found = profile(artifact)
    (linear,) = (one for one in found.operators if one.macs)
    assert linear.name == "linear"
    assert linear.macs == 4 * 36
    assert sum(one.share for one in found.operators) == pytest.approx(1)
    assert (found.file, found.by, found.device.name) == (
        "models/tiny_int8.onnx", "estimated time, not calibrated for onnxruntime int8", "raspberry-pi-4",
    )  # fmt: skip


def test_the_float_file_can_be_asked_for(artifact):
    found = profile(artifact, file="models/tiny_fp32.onnx")
    assert {one.precision for one in found.operators} == {"fp32"}


def test_a_file_that_is_no_onnx_file_is_refused_with_those_there_are(artifact):
    with pytest.raises(
        BadInput, match=r"no ONNX file `models/tiny_fp32\.tflite`; it has models/tiny_int8\.onnx, models"
    ):
        profile(artifact, file="models/tiny_fp32.tflite")


def test_a_runtime_that_asks_for_the_time_in_another_rhythm_is_refused(artifact, monkeypatch):
    count = Emulator.count

    def with_one_question_less(self, *arguments, **options):
        session, lines = count(self, *arguments, **options)
        return session, lines[:-2] + lines[-1:]

    monkeypatch.setattr(Emulator, "count", with_one_question_less)
    with pytest.raises(
        ToolFailed, match=r"asked for the time \d+ times in an inference of \d+ operators; two for each"
    ):
        profile(artifact)


@pytest.mark.parametrize(
    ("one", "layer", "instructions", "advice"),
    [
        (node("q", "QuantizeLinear", "fp32"), None, 1000, "precision changes inside the network"),
        (node("t", "Transpose"), None, 1000, "layout changes inside the network"),
        (node("c"), Layer(10_000, 32, 32, depthwise=True), 9000, "depthwise: bound by reading and writing"),
        (node("c"), Layer(100, 32, 32, depthwise=False), 1000, "more overhead than arithmetic"),
        (
            node("c"),
            Layer(10_000, 32, 29, depthwise=False),
            1000,
            "it writes 29 channels, no multiple of 8: try 24 or 32",
        ),
        (node("c"), Layer(10_000, 32, 32, depthwise=False), 1000, None),
        (node("c"), Layer(10_000, 32, 29, depthwise=False), 1, None),  # not worth it
    ],
)
def test_the_first_thing_to_try_is_said_of_operators_that_are_worth_it(one, layer, instructions, advice):
    nodes = [node("first"), one, node("last")]
    counts = [taking(100), taking(instructions), taking(100)]
    found = operators_of(nodes, counts, {one.name: layer} if layer else {}, load_profile("raspberry-pi-4"))[1]
    assert found.advice is None if advice is None else advice in (found.advice or "")


def test_a_dense_layer_is_held_against_the_peak_of_the_core():
    layer = Layer(80_000, 32, 32, depthwise=False)
    device = load_profile("raspberry-pi-4")
    (found,) = operators_of([node("c")], [{**taking(10_000)}], {"c": layer}, device)
    cycles = 10_000 * next(cost.cycles for cost in device.estimator.costs if "simd_other" in cost.counts)
    assert found.bound == pytest.approx((80_000 / 8) / cycles)
    assert found.instructions_per_mac == pytest.approx(1 / 8)
    unknown = load_profile("raspberry-pi-zero-2w")
    assert operators_of([node("c")], [taking(10_000)], {"c": layer}, unknown)[0].bound is None
