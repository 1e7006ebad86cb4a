"""What a network costs at some widths, without making it: the figures of the network that is really made."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from edgeslim.compress.prune.channels import channels_of, without
from edgeslim.compress.prune.curves import studied_widths
from edgeslim.compress.prune.sizes import grid, sizes_of, times_of
from edgeslim.model.graph import layers_of, macs_of, parameter, trace
from edgeslim.model.operator import Operator
from tests.support.small_models import (
    SIDE,
    WIDE,
    Passing,
    concatenated,
    depthwise,
    flattened,
    headed,
    multiplied,
    residual,
)

SHAPE = (1, 3, SIDE, SIDE)

# torch says so once a process; the test is about what edgeslim makes of it.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


def strided() -> nn.Module:
    """Kernels, strides, paddings and dilations of every kind."""
    return headed(
        nn.Conv2d(3, 16, (3, 1), padding="same"), nn.Conv2d(16, 16, 3, stride=(2, 1), padding=(1, 0)),
        nn.Conv2d(16, 6, 2, dilation=(1, 2)),
    )  # fmt: skip


def padded_unevenly() -> nn.Module:
    """An even kernel over an input of the output's size: one more row and column at the end than at the beginning."""
    return headed(nn.Conv2d(3, 16, 2, padding="same"), nn.Conv2d(16, 6, 1))


def gated() -> nn.Module:
    """A stream that is multiplied with another, and a sum of two."""
    return Passing(
        lambda self, x: self.head(self.one(y := self.stem(x)) * self.other(y) + y),
        stem=nn.Conv2d(3, 16, 3, padding=1), one=nn.Conv2d(16, 16, 1), other=nn.Conv2d(16, 16, 1),
        head=headed(width=16),
    )  # fmt: skip


def opened(network: nn.Module):
    graph = trace(network, SHAPE)
    channels = channels_of(graph)
    return graph, channels, sizes_of(graph, channels)


@pytest.mark.parametrize("make", [*WIDE, strided, padded_unevenly, gated])
def test_figures_at_some_widths_are_those_of_the_network_pruned_to_them(make):
    graph, channels, sizes = opened(make())
    chance = random.Random(0)
    for _ in range(3):
        widths = {name: chance.randint(1, group.width) for name, group in channels.groups.items()}
        pruned = without(graph, channels, {name: range(sizes.dense[name] - width) for name, width in widths.items()})
        assert sizes.macs(widths) == macs_of(pruned)
        weights = {node.args[1].target: parameter(pruned, node.args[1]) for node in layers_of(pruned).values()}
        assert sizes.parameters(widths) == sum(weight.numel() for weight in weights.values())


@pytest.mark.parametrize("make", [*WIDE, strided, padded_unevenly, gated])
def test_operators_are_the_layers_with_their_own_sizes(make):
    graph, _, sizes = opened(make())
    operators = [one for one in sizes.operators(sizes.dense) if one.kind in ("conv", "linear")]
    for one, node in zip(operators, layers_of(graph).values(), strict=True):
        shape = parameter(graph, node.args[1]).shape
        output = node.meta["val"].shape
        assert (one.channels_out, one.channels_in // one.groups) == shape[:2]
        assert (one.kernel if one.kind == "conv" else ()) == tuple(shape[2:])
        assert one.output_size == (tuple(output[2:]) or (1, 1))


def test_sums_and_products_of_activations_are_operators_unless_sums_are_free():
    graph, channels, sizes = opened(gated())
    kinds = [one.kind for one in sizes.operators({**sizes.dense, "stem": 8})]
    assert kinds == ["conv", "conv", "conv", "linear", "mul", "add"]
    assert sizes.operators({**sizes.dense, "stem": 8})[-1] == Operator("add", SIDE, SIDE, 8, 8)
    free = sizes_of(graph, channels, sums_are_free=True)
    assert [one.kind for one in free.operators(free.dense)] == ["conv", "conv", "conv", "linear", "mul"]


def test_a_factor_for_each_channel_is_no_product_of_two_activations():
    graph = trace(headed(nn.Conv2d(3, 8, 1), Passing(lambda self, x: x * x.mean((2, 3), keepdim=True)), width=8), SHAPE)
    sizes = sizes_of(graph, channels_of(graph))
    assert [one.kind for one in sizes.operators(sizes.dense)] == ["conv", "linear"]


@pytest.mark.parametrize("make", WIDE)
def test_the_grid_holds_every_operator_of_layers_between_single_groups(make):
    _, channels, sizes = opened(make())
    studied = {name: studied_widths(channels, name, 8) for name in channels.groups}
    rows = grid(sizes, studied)
    assert len(rows) == len(sizes.places)
    for place, operators in zip(sizes.places, rows, strict=True):
        measured = {one for row in operators for one in row}
        if all(len(side.groups) <= 1 for side in (place.entering, place.leaving)):
            names = [*place.entering.groups, *place.leaving.groups]
            for widths in _combinations({name: studied[name] for name in names}):
                at = {**sizes.dense, **widths}
                assert place.at(place.entering.count(at), place.leaving.count(at)) in measured


def _combinations(studied):
    found = [{}]
    for name, widths in studied.items():
        found = [{**one, name: width} for one in found for width in widths]
    return found


def test_a_depthwise_convolution_is_measured_at_equal_widths_only():
    _, channels, sizes = opened(depthwise())
    rows = grid(sizes, {name: studied_widths(channels, name, 8) for name in channels.groups})
    (operators,) = [one for place, one in zip(sizes.places, rows, strict=True) if place.operator.depthwise]
    assert [one.channels_in for row in operators for one in row] == [8, 16, 24, 32]
    assert all(one.groups == one.channels_in == one.channels_out for row in operators for one in row)


def test_a_depthwise_convolution_with_two_filters_each_is_measured_at_widths_it_can_have():
    _, channels, sizes = opened(multiplied())
    rows = grid(sizes, {name: studied_widths(channels, name, 8) for name in channels.groups})
    (operators,) = [one for place, one in zip(sizes.places, rows, strict=True) if place.operator.depthwise]
    assert all(one.channels_out == 2 * one.channels_in == 2 * one.groups for row in operators for one in row)


def assumed(one: Operator) -> float:
    """Return a time that grows linearly with either channel count, and with the only one of a sum."""
    if one.kind in ("add", "mul"):
        return 2e-6 * one.channels_in
    return 1e-6 * (2 + one.channels_in / one.groups) * (3 + one.channels_out)


@pytest.mark.parametrize("make", [residual, concatenated, flattened, depthwise])
def test_measured_widths_take_the_sum_of_their_operators_times(make):
    _, channels, sizes = opened(make())
    studied = {name: studied_widths(channels, name, 8) for name in channels.groups}
    rows = grid(sizes, studied)
    times = times_of(sizes, rows, {one: assumed(one) for place in rows for row in place for one in row})
    for rank in range(3):
        widths = {name: widths[min(rank, len(widths) - 1)] for name, widths in studied.items()}
        assert times.latency_s(widths) == pytest.approx(sum(map(assumed, sizes.operators(widths))))


def test_between_measured_widths_times_are_interpolated():
    _, channels, sizes = opened(residual())
    rows = grid(sizes, {name: [32, 16, 8] for name in channels.groups})
    times = times_of(sizes, rows, {one: assumed(one) for place in rows for row in place for one in row})
    widths = dict.fromkeys(channels.groups, 20)
    assert times.latency_s(widths) == pytest.approx(sum(map(assumed, sizes.operators(widths))))
    steps = [times.latency_s(dict.fromkeys(channels.groups, width)) for width in range(8, 33)]
    assert np.all(np.diff(steps) > 0)
    beyond = times.latency_s(dict.fromkeys(channels.groups, 4))
    assert beyond == times.latency_s(dict.fromkeys(channels.groups, 8)), "nothing is known below what was measured"


def test_widths_are_legal_and_at_most_eight_are_studied():
    graph = trace(nn.Sequential(nn.Conv2d(3, 160, 1), nn.ReLU(), nn.Flatten(), nn.Linear(160 * 64, 4)), SHAPE)
    channels = channels_of(graph)
    studied = studied_widths(channels, "0", 8)
    assert studied == sorted(studied, reverse=True)
    assert (len(studied), studied[0], studied[-1]) == (8, 160, 8)
    assert all(width % 8 == 0 for width in studied)
    assert studied_widths(channels, "0", 64) == [160, 128, 64]
    assert torch.is_tensor(graph(torch.zeros(SHAPE)))
