"""Inexact rewrites: what is taken out is gone, the nodes that stay keep their names, and the error is as stated."""

import torch
from torch import nn
from torch.nn import functional

from edgeslim.compress.fold import folded
from edgeslim.compress.legalize.rewrites import rewrite_named
from tests.support.npu_cases import behind
from tests.support.rewriting import limits, outputs, rewritten
from tests.support.small_models import Passing

SHAPE = (1, 8, 6, 6)


def gated(gate: nn.Module) -> nn.Module:
    return behind(
        lambda self, x: x * self.gate(self.squeeze(x.mean((2, 3), keepdim=True))), SHAPE,
        squeeze=nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1)), gate=gate,
    )[0]  # fmt: skip


def called(graph) -> list[str]:
    return [node.name for node in graph.graph.nodes if node.op == "call_function"]


def test_a_sigmoid_becomes_a_hard_sigmoid_that_is_close():
    before, after, count = rewritten("hard_sigmoid", nn.Sigmoid(), SHAPE, limits())
    assert count == 1
    error = (outputs(before, SHAPE) - outputs(after, SHAPE)).abs().max()
    assert 0 < error < 0.0725


def test_a_sigmoid_stays_where_the_npu_has_no_hard_sigmoid():
    within = limits(operators=("conv2d", "sigmoid"))
    assert rewritten("hard_sigmoid", nn.Sigmoid(), SHAPE, within)[2] == 0


def test_silu_and_hard_swish_become_relu6():
    for activation in (nn.SiLU(), nn.Hardswish()):
        _, after, count = rewritten("relu6", activation, SHAPE, limits())
        assert (count, called(after)) == (1, ["hardtanh"])
        image = outputs(after, SHAPE)
        assert torch.equal(image, functional.relu6(torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))))


def test_a_product_of_an_image_and_another_ones_gate_is_no_silu():
    network = Passing(lambda self, x: x * self.first(x).sigmoid(), first=nn.Conv2d(8, 8, 1))
    assert rewritten("relu6", network, SHAPE, limits())[2] == 0


def test_squeeze_and_excite_is_taken_out_with_its_gates():
    for gate in (nn.Sigmoid(), nn.Hardsigmoid()):
        _, after, count = rewritten("squeeze_excite", gated(gate), SHAPE, limits())
        assert (count, called(after)) == (1, ["conv2d"])


def test_a_gate_of_another_image_is_no_squeeze_and_excite():
    network = behind(lambda self, x: x * self.other(self.first(x)).mean((2, 3), keepdim=True), other=nn.Conv2d(8, 8, 1))
    assert rewritten("squeeze_excite", network[0], (1, 8, 16, 16), limits())[2] == 0


def test_the_nodes_that_stay_keep_their_names():
    for name in ("hard_sigmoid", "squeeze_excite"):
        graph, _ = folded(gated(nn.Sigmoid()).eval(), SHAPE)
        names = set(called(graph))
        rewrite = rewrite_named(name)
        for node in list(graph.graph.nodes):
            if node.op == "call_function" and rewrite.applies(node, limits()):
                rewrite.rewrite(graph, node, limits())
        assert set(called(graph)) <= names, f"{name} makes new nodes: a recovery cannot match them"
