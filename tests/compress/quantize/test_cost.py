"""Which precision a layer that must not be INT8 takes: the fastest measured that is no slower than fp32, then size."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from torch import nn

from edgeslim.compress.quantize.cost import cheaper, cheapest_first
from edgeslim.errors import Refused
from edgeslim.model.operator import OperatorLatency
from tests.support.small_models import block, context, folded_in, headed, random_images, randomized

CONTEXT = context(random_images(4))
GRAPH = folded_in(
    CONTEXT, randomized(nn.Sequential(block(3, 8), block(8, 8, groups=8), headed(block(8, 8), width=8)))
).graph
LAYERS = ("conv2d", "conv2d_1", "linear")


def timed(seconds: Mapping[str, float], runtime: str = "litert"):
    """Return surroundings in which every operator takes so long in a precision."""

    def latency(precision: str = "int8") -> OperatorLatency:
        if precision not in seconds:
            raise Refused(f"nobody counted {precision}")
        return OperatorLatency(runtime, 8, False, None, lambda some: dict.fromkeys(some, seconds[precision]))

    return replace(CONTEXT, operator_latency=latency)


@pytest.mark.parametrize(
    ("seconds", "order"),
    [
        ({"dynamic": 0.3, "w8": 1.0, "fp16": 1.0, "fp32": 1.0}, ("dynamic", "w8", "fp16")),
        ({"dynamic": 1.5, "w8": 1.0, "fp16": 1.0, "fp32": 1.0}, ("w8", "fp16")),
        ({"dynamic": 0.99, "w8": 1.01, "fp16": 1.0, "fp32": 1.0}, ("dynamic", "w8", "fp16")),
        ({"dynamic": 0.9, "w8": 2.0, "fp16": 1.0, "fp32": 1.0}, ("fp16",)),
        ({"dynamic": 0.3, "w8": 1.0}, ("dynamic", "w8", "fp16")),
    ],
    ids=["faster", "slower", "within what counts as alike", "with the depthwise one as w8", "not known"],
)
def test_the_fastest_comes_first_then_the_smallest_and_none_that_is_slower_than_fp32(seconds, order):
    assert cheapest_first(GRAPH, timed(seconds), LAYERS) == order


def test_times_of_another_runtime_say_nothing():
    seconds = {"dynamic": 9.0, "w8": 1.0, "fp16": 1.0, "fp32": 1.0}
    assert cheapest_first(GRAPH, timed(seconds, "onnxruntime"), LAYERS) == cheaper(CONTEXT)
    assert cheapest_first(GRAPH, timed(seconds), ()) == cheaper(CONTEXT)


@pytest.mark.parametrize(
    ("runtimes", "kinds"),
    [
        (None, ("dynamic", "w8", "fp16")),
        (("openvino", "onnxruntime"), ("fp16",)),
        (("openvino",), ("w8", "fp16")),
        ((), ()),
    ],
)
def test_what_is_cheaper_than_fp32_is_asked_of_the_runtime_that_files_are_written_for(runtimes, kinds):
    asked = replace(CONTEXT, runtimes=runtimes)
    assert [one.name for one in asked.profile.runtimes][:2] == ["litert", "onnxruntime"], "the profile is another"
    assert cheaper(asked) == kinds
