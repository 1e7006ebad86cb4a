"""Give consecutive layers weight ranges that match channel by channel; what the network computes stays as it was.

Between two layers joined by what commutes with a positive factor for each channel, f(s x) = s f(x) (nothing, ReLU,
pooling, flattening), channel i can be made s_i times smaller behind the first layer and s_i times larger in what the
second reads. With r_i the largest weight that writes channel i and q_i the largest that reads it,
s_i = sqrt(r_i / q_i) makes both sqrt(r_i q_i) (Nagel et al. 2019, Data-Free Quantization, section 4.1). A depthwise
layer reads and writes with the same weights, so pairs are gone through until nothing changes.

It serves grids with one scale for a whole layer; with a scale for each output channel, as edgeslim's files have, only
the channels a layer reads profit. ReLU6 and hard-swish do not commute with a factor: layers they join stay as they are,
and so do layers whose channels anything else reads too (a shortcut, a concatenation).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from edgeslim.errors import BadInput
from edgeslim.model.context import Context
from edgeslim.model.graph import (
    ATEN,
    arguments,
    channel_axis,
    copy_of,
    is_folded,
    layers_of,
    output_nodes,
    parameter,
    shape_of,
)
from edgeslim.model.model import Model

# What commutes with a positive factor for each channel and leaves channels where they are.
COMMUTING = {
    ATEN.relu.default,
    ATEN.max_pool2d.default,
    ATEN.avg_pool2d.default,
    ATEN.flatten.using_ints,
    ATEN.dropout.default,
    ATEN.contiguous.default,
    ATEN.clone.default,
}
MOST_ROUNDS = 100
SETTLED = 1e-4  # a round that changes no range by more than this share was the last
# A channel is moved by so much at most: beyond, a nearly dead channel would become the widest activation of its layer.
MOST_FACTOR = 2.0**10


@dataclass(frozen=True)
class Settings:
    """Equalizing has nothing to set."""


@dataclass(frozen=True)
class Pair:
    """Two layers by node name: every channel that `first` writes is read by `second` and by nothing else."""

    first: str
    second: str


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with the weight ranges of consecutive layers equalized; its outputs stay the same.

    Expects a folded graph. Raises BadInput after `quantize`, which decides grids for the weights as they are.
    """
    if model.numerics is not None or not is_folded(model.network):
        raise BadInput("the recipe's step `equalize` comes after `fold` and before `quantize`")
    graph = copy_of(model.graph)
    pairs = pairs_of(graph)
    moved = {pair: torch.ones(shape_of(layers_of(graph)[pair.first])[1]) for pair in pairs}
    with torch.no_grad():
        for _ in range(MOST_ROUNDS):
            if max((_equalize(graph, pair, moved[pair]) for pair in pairs), default=0.0) <= SETTLED:
                break
    return model.exactly("equalize", f"equalize: {len(pairs)} pairs of layers", graph, context.images)


def pairs_of(graph: fx.GraphModule) -> list[Pair]:
    """Return the pairs of layers of a folded graph that can be equalized, in execution order."""
    layers, outputs = layers_of(graph), output_nodes(graph)
    pairs = []
    for name, layer in layers.items():
        node = layer
        if channel_axis(layer) != 1:
            continue  # what is asked below of axis 1 says nothing of its channels
        while len(node.users) == 1 and node not in outputs:
            node = next(iter(node.users))
            if node.name in layers:
                if _reads_channels_of(node, layer):
                    pairs.append(Pair(name, node.name))
                break
            if not _commutes(node):
                break
    return pairs


def _commutes(node: fx.Node) -> bool:
    """Tell whether scaling each channel before a node equals scaling it behind."""
    if node.target is ATEN.mean.dim:
        axes = [int(axis) % 4 for axis in arguments(node)[1]]
        return len(shape_of(node.all_input_nodes[0])) == 4 and not {0, 1} & set(axes)
    if node.target in (ATEN.view.default, ATEN.reshape.default):
        before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
        return len(after) == 2 and before[0] == after[0]
    return node.target in COMMUTING


def _reads_channels_of(second: fx.Node, first: fx.Node) -> bool:
    """Tell whether axis 1 of what `second` reads holds the channels that `first` writes, in their order."""
    written, read = shape_of(first), shape_of(second.all_input_nodes[0])
    if second.target is ATEN.linear.default:
        return len(read) == 2 and len(written) in (2, 4) and read[1] % written[1] == 0
    return len(read) == 4 and len(written) == 4 and read[1] == written[1]


def _equalize(graph: fx.GraphModule, pair: Pair, moved: Tensor) -> float:
    """Equalize one pair in place; return by what share its widest step changed a range.

    `moved` holds the factors of earlier rounds, one for each channel, and is brought up to date.
    """
    layers = layers_of(graph)
    weight, bias = (parameter(graph, argument) for argument in layers[pair.first].args[1:3])
    reading = parameter(graph, layers[pair.second].args[1])
    if weight is None or bias is None or reading is None:
        raise TypeError(f"{pair.first} or {pair.second} has no weight or bias of its own; fold first")
    by_channel = _by_input_channel(reading, len(weight))
    writes, reads = weight.abs().flatten(1).amax(1), by_channel.abs().amax((1, 3)).flatten()
    wanted = torch.where((writes > 0) & (reads > 0), (writes / reads).sqrt(), torch.ones_like(writes))
    factors = (moved * wanted).clamp(1 / MOST_FACTOR, MOST_FACTOR) / moved
    moved.mul_(factors)
    weight.div_(factors.view(-1, *[1] * (weight.ndim - 1)))
    bias.div_(factors)
    by_channel.mul_(factors.view(by_channel.shape[0], 1, by_channel.shape[2], 1))
    return float((factors - 1).abs().max())


def _by_input_channel(weight: Tensor, channels: int) -> Tensor:
    """Return a layer's weight seen as (groups, outputs, input channels, rest), for `channels` inputs in all groups."""
    inputs = weight.shape[1] if weight.ndim == 4 else channels
    groups = channels // inputs
    return weight.view(groups, len(weight) // groups, inputs, -1)
