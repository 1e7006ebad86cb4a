"""Proof from a runtime's record: which names count, and that only integers do."""

from dataclasses import replace

import pytest

from edgeslim.deploy.agent_session import GraphNode
from edgeslim.export.evaluation.integer_layers import proven_layers
from edgeslim.export.job import Spelling

INTEGER = GraphNode("conv", "QLinearConv", "uint8", ("uint8", "int8", "int32"), (), "CPUExecutionProvider")


def proven(*executed: GraphNode, name: str = "conv") -> list[str]:
    return proven_layers(executed, Spelling(nodes={"layer": name}))


@pytest.mark.parametrize(
    "operator",
    [
        "QLinearConv",
        "QGemm",
        "Convolution",
        "FullyConnected",
        "MatMul",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
    ],
)
@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_a_layer_that_ran_on_integers_is_proven_in_every_runtimes_words(operator, precision):
    assert proven(replace(INTEGER, op=operator, precision=precision)) == ["layer"]


@pytest.mark.parametrize(
    "node",
    [
        replace(INTEGER, precision="fp32", inputs=("fp32", "fp32", "fp32")),
        replace(INTEGER, precision="fp32", inputs=("fp32", "int8", "fp32")),  # weights stored small, computed in float
        replace(INTEGER, inputs=("uint8", "fp32")),
        replace(INTEGER, inputs=("int8",)),
        replace(INTEGER, precision="fp16", inputs=("fp16", "int8")),
        replace(INTEGER, op="MaxPool"),
        replace(INTEGER, op="QuantizeLinear"),
    ],
    ids=["float", "weights only", "float weights", "no weights", "half", "pool", "quantize"],
)
def test_anything_that_ran_in_float_or_is_no_layer_is_not_proven(node):
    assert proven(node) == []


@pytest.mark.parametrize("name", ["conv", "conv_token_12", "conv_nchwc", "conv/WithoutBiases", "conv/fq_weights/0"])
def test_what_a_runtime_appends_when_it_fuses_is_the_same_layer(name):
    assert proven(replace(INTEGER, name=name)) == ["layer"]
    assert proven(replace(INTEGER, name="Fused_7", origins=("relu", name))) == ["layer"], "the origins are not read"


@pytest.mark.parametrize("name", ["conv_1", "conv1", "a/conv", "xconv", "conv_token", "conv_token_a", "conv_token_1_2"])
def test_a_layer_whose_name_only_begins_alike_is_another(name):
    assert proven(replace(INTEGER, name=name, origins=(name,))) == []


def test_a_name_is_no_pattern():
    assert proven(replace(INTEGER, name="axb"), name="a.b") == []
    assert proven(replace(INTEGER, name="a.b[0]+"), name="a.b[0]+") == ["layer"]


def test_a_layer_that_never_ran_is_not_proven_and_the_order_is_the_spellings():
    spelling = Spelling(nodes={"second": "b", "first": "a", "third": "c"})
    executed = [replace(INTEGER, name="a"), replace(INTEGER, name="b")]
    assert proven_layers(executed, spelling) == ["second", "first"]
