"""Bring channels that share a grid nearer to each other in size; what the network computes stays the same.

A grid for a whole activation is as coarse as its largest channel asks for. A channel becomes s times smaller where all
layers that write it make it so and all that read it take s times as much, provided that nothing else meets it but what
commutes with a positive factor (sums, ReLU, pools): s = sqrt(a / w), with a the largest value of the channel and w the
largest weight that reads it (SmoothQuant, Xiao et al. 2023, section 4; there between a norm and a layer, here for
channels coupled in any way, as in residual networks). Factors are powers of two: float32 stays as exact as it was.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.compress.prune.labels import FIXED, Labels, compact, labels_of
from edgeslim.compress.prune.operators import MEANS, MOVING, SPATIAL
from edgeslim.compress.quantize.edges import edges_of, tie
from edgeslim.compress.quantize.ranges import Extremes
from edgeslim.compress.quantize.rounding import Grids, parameters, round_each, with_grids
from edgeslim.errors import Refused
from edgeslim.model.equivalence import outputs_db
from edgeslim.model.graph import (
    ATEN,
    argument,
    arguments,
    batched,
    copy_of,
    layers_of,
    observe,
    parameter,
    shape_of,
    weight_name,
)
from edgeslim.model.numerics import WEIGHT_LIMIT

SUMS = {ATEN.add.Tensor, ATEN.sub.Tensor, ATEN.maximum.default, ATEN.minimum.default}
# What commutes with a positive factor for each channel, wherever it moves them.
COMMUTING = {
    *SUMS,
    *SPATIAL,
    *MEANS,
    *MOVING,
    ATEN.relu.default,
    ATEN.leaky_relu.default,
    ATEN.dropout.default,
    ATEN.contiguous.default,
    ATEN.clone.default,
}
LEAST_FACTOR = 4.0  # the largest of a network that is worth measuring: trained ones without outliers ask for 2
MOST_FACTOR = 2.0**10  # a nearly dead channel would become the largest


def smoothed(graph: fx.GraphModule, images: Sequence[Tensor]) -> tuple[fx.GraphModule, float, float] | None:
    """Return a folded graph with channels brought nearer to each other, and the outputs' SQNR in dB before and after.

    `images`: batches (n, C, H, W) on which weights and activations are rounded to measure it. None where no channel is
    far larger than the others of its layer, or the outputs come no nearer.
    """
    try:
        labels = labels_of(graph)
    except Refused:  # channels cannot be told apart
        return None
    factors = _factors(graph, labels, images)
    if max(factors.max(), 1 / factors.min()) < LEAST_FACTOR:
        return None
    moved = _moved(graph, labels, torch.from_numpy(factors).float())
    before, after = outputs_db(batched(graph), (_rounded(one, images) for one in (graph, moved)), images)
    return (moved, before, after) if after > before else None


def _factors(graph: fx.GraphModule, labels: Labels, images: Sequence[Tensor]) -> NDArray[np.float64]:
    """Return by label how many times smaller a channel becomes, as powers of two."""
    count = 1 + max(int(one.max()) for one in labels.activations.values())
    free = np.ones(count, bool)
    free[[FIXED, *_met_by_others(graph, labels)]] = False
    values, weights = _largest_values(graph, labels, images, count), np.zeros(count)
    layers = layers_of(graph)
    for node in layers.values():
        weight, inner = parameters(graph, node)[0], labels.parameters[weight_name(node)][1]
        if inner is not None:
            np.maximum.at(weights, inner, weight.detach().abs().transpose(0, 1).flatten(1).amax(1).numpy())
    free &= (values > 0) & (weights > 0)
    factors = np.ones(count)
    factors[free] = np.sqrt(values[free] / weights[free])
    for node in layers.values():  # one factor for a whole layer changes nothing
        written = labels.parameters[weight_name(node)][0]
        own = [] if written is None else [one for one in np.unique(written) if free[one]]
        if own:
            factors[own] /= np.median(factors[own])
    powers: NDArray[np.float64] = np.exp2(np.log2(factors.clip(1 / MOST_FACTOR, MOST_FACTOR)).round())
    return powers


def _met_by_others(graph: fx.GraphModule, labels: Labels) -> Iterator[int]:
    """Yield the labels of channels that meet an operator which is no layer and does not commute with a factor."""
    layers = layers_of(graph)
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.name not in layers and not _commutes(graph, node):
            for one in (node, *node.all_input_nodes):
                if one.name in labels.activations:
                    yield from compact(labels.activations[one.name]).flatten().tolist()


def _commutes(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether making channels smaller before an operator equals making them smaller behind it."""
    if node.target is ATEN.pad.default:
        return not argument(node, "value")  # the border is scaled too
    if node.target in SUMS:  # of what is repeated along an axis the channels have factors of their own
        return all(
            isinstance(one, fx.Node) and parameter(graph, one) is None and shape_of(one) == shape_of(node)
            for one in node.args[:2]
        )
    return node.target in COMMUTING


def _largest_values(graph: fx.GraphModule, labels: Labels, images: Sequence[Tensor], count: int) -> NDArray[np.float64]:
    """Return by label the largest absolute value of a channel on these images, wherever it is."""
    found = np.zeros(count)

    def see(name: str, value: Tensor) -> None:
        if name not in labels.activations:
            return
        channels, largest = compact(labels.activations[name]), value.abs()
        for axis, size in enumerate(channels.shape):
            largest = largest.amax(axis, keepdim=True) if size == 1 else largest
        np.fmax.at(found, channels.flatten().numpy(), largest.flatten().double().numpy())

    observe(graph, images, see)
    return found


@torch.no_grad()
def _moved(graph: fx.GraphModule, labels: Labels, factors: Tensor) -> fx.GraphModule:
    """Return the graph with the factors in its layers' parameters; one that several layers read changes once."""
    moved = copy_of(graph)
    given: dict[str, Tensor] = {}
    for node in layers_of(moved).values():
        given |= zip((str(one.target) for one in arguments(node)[1:3]), parameters(moved, node), strict=True)
    for name, tensor in given.items():
        leaving, *others = (None if line is None else factors[line] for line in labels.parameters[name])
        entering = others[0] if others else None
        if leaving is None or (others and entering is None):
            continue  # the weight of a depthwise convolution passes the factor on
        tensor.div_(leaving.view(-1, *[1] * (tensor.dim() - 1)))
        if entering is not None:
            tensor.mul_(entering.view(1, -1, *[1] * (tensor.dim() - 2)))
    return moved


def _rounded(graph: fx.GraphModule, images: Sequence[Tensor]) -> fx.GraphModule:
    """Return a network that takes batches, with weights and activations rounded by what is seen on these images."""
    groups, layers, rounded = tie(graph), layers_of(graph), copy_of(graph)
    seen = Extremes(set(groups), {str(node.args[0]) for node in layers.values()})
    observe(graph, images, seen.see)
    edges = edges_of(graph, groups, {name: (low, seen.high[name]) for name, low in seen.low.items()})
    round_each(rounded, seen.mean, edges, Grids(dict.fromkeys(layers, WEIGHT_LIMIT)))
    return with_grids(batched(rounded), edges)
