"""Operators that the quantizer of TFLite files lacks: what stays float, and what is written in others before it."""

import torch
from torch import fx

from edgeslim.formats import Io
from edgeslim.model.graph import (
    ATEN,
    CLIPPING,
    LAYERS,
    PROBABILITIES,
    argument,
    arguments,
    grows_by_whole_factors,
    output_nodes,
    shape_of,
)
from edgeslim.model.normalize.pieces import gathered
from edgeslim.model.normalize.rewriting import inserted, replaced

# The converter writes them as many operators, whose own ranges the quantizer would lose most of the digits in.
FLOAT_OPERATORS = (
    ATEN.group_norm.default,
    ATEN.instance_norm.default,
    ATEN.layer_norm.default,
    ATEN.scaled_dot_product_attention.default,
    ATEN.softplus.default,
    ATEN.mish.default,
    ATEN.elu.default,
    ATEN.sqrt.default,
    ATEN.rsqrt.default,
    ATEN.reciprocal.default,
    ATEN.exp.default,
    ATEN.pow.Tensor_Scalar,
    ATEN.div.Tensor,
    ATEN.where.self,
)
CLIPS = ((0.0, 6.0), (-1.0, 1.0))  # which the converter merges into a layer


def float_operators(graph: fx.GraphModule, io: Io) -> dict[str, tuple[str, ...]]:
    """Return the nodes that stay float, with what they read: FLOAT_OPERATORS, and probabilities at the end.

    A clip that alone reads one is computed with it.
    """
    last = output_nodes(graph) if io == "float32" else ()
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.graph.nodes:
        if node.target in FLOAT_OPERATORS or (node in last and node.target in PROBABILITIES):
            sources = tuple(one.name for one in node.all_input_nodes)
            users = list(node.users)
            clip = users[0] if len(users) == 1 and users[0].target in CLIPPING else node
            found |= {node.name: sources, clip.name: sources}
    return found


def as_in_torch(graph: fx.GraphModule) -> None:
    """Write a graph so that the converter computes what PyTorch does.

    Views become reshapes, for which it is all the same how their input lies in memory: here channels last. Resizing to
    nearest values by no whole factor becomes slices: the converter's own takes other values.
    """
    for node in list(graph.graph.nodes):
        if node.target is ATEN.view.default:
            node.target = ATEN.reshape.default
        elif node.target is ATEN.upsample_nearest2d.vec and not grows_by_whole_factors(node):
            _spell_nearest(graph, node)
    graph.recompile()


def _spell_nearest(graph: fx.GraphModule, node: fx.Node) -> None:
    image, sizes = arguments(node)[0], shape_of(arguments(node)[0])[2:]
    rows = torch.arange(sizes[0], dtype=torch.float32).view(1, 1, -1, 1).expand(1, 1, *sizes)
    columns = torch.arange(sizes[1], dtype=torch.float32).view(1, 1, 1, -1).expand(1, 1, *sizes)
    taken = [ATEN.upsample_nearest2d.vec(one, *arguments(node)[1:])[0, 0] for one in (rows, columns)]
    for axis, places in ((2, taken[0][:, 0]), (3, taken[1][0])):
        image = gathered(graph, node, image, axis, [int(one) for one in places])
        if image is None:
            return
    name = node.name
    replaced(graph, node, image)
    image._rename(name)  # by which the plan knows what it computes


def respell(graph: fx.GraphModule) -> set[str]:
    """Write the graph's operators in those that the quantizer knows; return the layers with a clip behind them.

    Such a layer saturates where its clip does, if it has the clip's range.
    """
    clips = _other_clips(graph)
    sources = [node.all_input_nodes[0] for node in clips]
    clipped = {one.name for one in sources if one.target in LAYERS and len(one.users) == 1}
    for node in clips:
        _spell_clip(graph, node)
    for node in [n for n in graph.graph.nodes if n.target is ATEN.minimum.default]:
        _spell_minimum(graph, node)
    for node in [n for n in graph.graph.nodes if n.target is ATEN.leaky_relu.default]:
        _spell_leaky_relu(graph, node)
    graph.recompile()
    return clipped


def _other_clips(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the clips at other bounds than CLIPS."""
    found = [node for node in graph.graph.nodes if node.target is ATEN.hardtanh.default]
    return [node for node in found if (argument(node, "min_val"), argument(node, "max_val")) not in CLIPS]


def _spell_clip(graph: fx.GraphModule, node: fx.Node) -> None:
    """Write min(max(x, a), b) as -max(-max(x, a), -b): the quantizer has no minimum."""
    raised = inserted(graph, node, ATEN.clamp.default, node.args[0], argument(node, "min_val"))
    turned = inserted(graph, node, ATEN.mul.Tensor, raised, -1)
    lowered = inserted(graph, node, ATEN.clamp.default, turned, -argument(node, "max_val"))
    replaced(graph, node, inserted(graph, node, ATEN.mul.Tensor, lowered, -1))


def _spell_minimum(graph: fx.GraphModule, node: fx.Node) -> None:
    """Write min(x, y) as -max(-x, -y)."""
    turned = [inserted(graph, node, ATEN.mul.Tensor, one, -1) for one in arguments(node)]
    largest = inserted(graph, node, ATEN.maximum.default, *turned)
    replaced(graph, node, inserted(graph, node, ATEN.mul.Tensor, largest, -1))


def _spell_leaky_relu(graph: fx.GraphModule, node: fx.Node) -> None:
    """Write leaky_relu(x, a) as max(x, a x), for a between 0 and 1: the quantizer has no such operator."""
    slope = argument(node, "negative_slope")
    if 0 <= slope <= 1:
        scaled = inserted(graph, node, ATEN.mul.Tensor, node.args[0], slope)
        replaced(graph, node, inserted(graph, node, ATEN.maximum.default, node.args[0], scaled))
