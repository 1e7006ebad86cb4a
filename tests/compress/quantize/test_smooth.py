"""Channels far larger than those beside them are made smaller: the same outputs in float, nearer ones in INT8."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import fx, nn

from edgeslim.compress.prune.labels import labels_of
from edgeslim.compress.quantize import smooth
from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.smooth import smoothed
from edgeslim.grid import sqnr_db
from edgeslim.model.fake_quant import simulate
from edgeslim.model.graph import batched, layers_of, parameter, values_of
from tests.support.small_models import (
    Passing,
    block,
    concatenated,
    context,
    depthwise,
    flattened,
    folded_in,
    grouped,
    headed,
    multiplied,
    random_images,
    randomized,
    residual,
    shared,
)

IMAGES = random_images(24)
CONTEXT = context(IMAGES)
BATCH = next(iter(IMAGES.tensors()))
FACTOR = 64.0


@dataclass(frozen=True)
class Larger:
    """Which channels of a network become larger: the layers that write, pass on and read them, by node name."""

    writes: dict[str, list[int]]
    reads: dict[str, list[int]]
    passes: dict[str, list[int]] = field(default_factory=dict)

    @torch.no_grad()
    def in_(self, graph: fx.GraphModule) -> fx.GraphModule:
        """Make them so, in place, without a change of what the network computes."""
        layers = layers_of(graph)
        for name, channels in self.writes.items():
            parameter(graph, layers[name].args[1])[channels] *= FACTOR
        for name, channels in (self.writes | self.passes).items():
            parameter(graph, layers[name].args[2])[channels] *= FACTOR
        for name, channels in self.reads.items():
            parameter(graph, layers[name].args[1])[:, channels] /= FACTOR
        return graph


def one_weight_twice() -> nn.Module:
    """A convolution that the stream passes twice, with the same parameters."""
    return Passing(
        lambda self, x: self.head(self.body(self.body(self.stem(x).relu()).relu()).relu()),
        stem=nn.Conv2d(3, 32, 3), body=nn.Conv2d(32, 32, 3, padding=1), head=headed(width=32),
    )  # fmt: skip


CASES = {
    residual: Larger({"conv2d": [3, 9], "conv2d_2": [3, 9]}, {"conv2d_1": [3, 9], "linear": [3, 9]}),
    depthwise: Larger({"conv2d": [5]}, {"conv2d_2": [5]}, {"conv2d_1": [5]}),
    multiplied: Larger({"conv2d": [5]}, {"conv2d_2": [10, 11]}, {"conv2d_1": [10, 11]}),
    grouped: Larger({"conv2d": [2, 18]}, {"conv2d_1": [2]}),
    concatenated: Larger({"conv2d": [1]}, {"conv2d_1": [1], "conv2d_2": [1], "conv2d_3": [49]}),
    flattened: Larger({"conv2d": [2]}, {"linear": list(range(32, 48))}),
    shared: Larger(
        {"conv2d": [7], "conv2d_1": [7], "conv2d_2": [7]}, {"conv2d_1": [7], "conv2d_2": [7], "linear": [7]}
    ),
    one_weight_twice: Larger({"conv2d": [7], "conv2d_1": [7]}, {"conv2d_1": [7], "linear": [7]}),
}


@pytest.mark.parametrize(("network", "larger"), CASES.items(), ids=[one.__name__ for one in CASES])
def test_the_float_outputs_stay_and_the_rounded_ones_come_nearer(network: Callable[[], nn.Module], larger: Larger):
    graph = folded_in(CONTEXT, randomized(network())).graph
    assert smoothed(graph, [BATCH]) is None, "nothing was out of proportion yet"
    given = batched(graph)(BATCH)
    larger.in_(graph)
    torch.testing.assert_close(batched(graph)(BATCH), given, rtol=1e-4, atol=1e-5, msg="the test's own change is wrong")
    found = smoothed(graph, [BATCH])
    assert found is not None, "the large channels were not seen"
    moved, before_db, after_db = found
    assert torch.equal(batched(moved)(BATCH), batched(graph)(BATCH)), "powers of two change no float32 result"
    assert after_db > before_db + 6, "less than a bit was gained"


@pytest.mark.parametrize(
    "between",
    [
        nn.Sigmoid(),
        nn.ReLU6(),
        nn.Hardswish(),
        nn.SiLU(),
        Passing(lambda self, x: x.relu() + 1.0),
        Passing(lambda self, x: self.of.weight.view(1, -1, 1, 1) + x, of=nn.BatchNorm2d(32)),
        nn.ConstantPad2d(1, 0.5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_channels_that_meet_what_does_not_commute_with_a_factor_stay(between: nn.Module):
    network = randomized(nn.Sequential(block(3, 32)[0], between, headed(block(32, 32), width=32)))
    graph = Larger({"conv2d": [3]}, {"conv2d_1": [3]}).in_(folded_in(CONTEXT, network).graph)
    labels = labels_of(graph)
    written = labels.parameters["0.weight"][0]
    assert (smooth._factors(graph, labels, [BATCH])[written] == 1).all()


@pytest.mark.parametrize("combine", [torch.add, torch.maximum, lambda y, one: one - y])
def test_a_single_channel_that_meets_many_keeps_them_as_they_are(combine: Callable[..., torch.Tensor]):
    network = Passing(
        lambda self, x: self.head(combine(self.stem(x), self.one(x)).relu()),
        stem=nn.Conv2d(3, 32, 3), one=nn.Conv2d(3, 1, 3), head=headed(block(32, 32), width=32),
    )  # fmt: skip
    graph = Larger({"conv2d": [3]}, {"conv2d_2": [3]}).in_(folded_in(CONTEXT, randomized(network)).graph)
    labels = labels_of(graph)
    assert (smooth._factors(graph, labels, [BATCH])[labels.parameters["stem.weight"][0]] == 1).all()


def test_what_the_plan_is_held_against_layer_by_layer_is_the_network_that_was_rounded():
    model = folded_in(CONTEXT, randomized(residual()))
    CASES[residual].in_(model.graph)
    quantized = quantize.apply(model, quantize.Settings(), CONTEXT)
    exact, planned = values_of(quantized.rounded_from, BATCH), simulate(quantized.graph, quantized.numerics, [BATCH])
    for layer in quantized.numerics.layers.values():
        assert sqnr_db(exact[layer.output].numpy(), planned[layer.output].numpy()) > 25, layer.output


def test_the_logits_stay_however_different_they_are():
    graph = folded_in(CONTEXT, randomized(residual())).graph
    with torch.no_grad():
        parameter(graph, layers_of(graph)["linear"].args[1])[0] *= FACTOR
    assert smoothed(graph, [BATCH]) is None


def test_quantize_says_what_was_gained_and_leaves_a_network_of_float_layers_alone():
    model = folded_in(CONTEXT, randomized(residual()))
    CASES[residual].in_(model.graph)
    (line,) = [one for one in quantize.apply(model, quantize.Settings(), CONTEXT).history if "brought nearer" in one]
    assert line.startswith("quantize: channels that share a grid brought nearer to each other: ")
    floating = quantize.apply(model, quantize.Settings(keep_float=(".",)), CONTEXT)
    assert not [one for one in floating.history if "brought nearer" in one]
