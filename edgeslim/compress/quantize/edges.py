"""Which edges of a graph carry codes, and which must share one grid."""

import operator
from collections.abc import Collection, Mapping

from torch import fx

from edgeslim.compress.quantize.ranges import affine, centred
from edgeslim.model.graph import ATEN, CLIPPING, argument, arguments, input_of, is_activation, layers_of, output_nodes
from edgeslim.model.numerics import EdgeNumerics, operators_on_integers

Range = tuple[float, float]
Join = tuple[str, str]  # an activation, and a concatenation that reads it
# Operators that move values without computing.
MOVING = {
    ATEN.max_pool2d.default,
    ATEN.flatten.using_ints,
    ATEN.view.default,
    ATEN.reshape.default,
    ATEN.permute.default,
    ATEN.transpose.int,
    ATEN.contiguous.default,
    ATEN.clone.default,
    ATEN.slice.Tensor,
    ATEN.select.int,
    ATEN.squeeze.dim,
    ATEN.unsqueeze.default,
    ATEN.pad.default,
    ATEN.dropout.default,
    ATEN.chunk.default,
    ATEN.expand.default,
    ATEN.upsample_nearest2d.vec,
    ATEN.split.Tensor,
    ATEN.split_with_sizes.default,
}
# What comes out of them has the scale of what went in.
PASSING = {*MOVING, ATEN.avg_pool2d.default, ATEN.upsample_bilinear2d.vec}
# Operators whose integer kernels fix the scale of what they produce: (scale, zero point).
FIXED = {
    ATEN.sigmoid.default: (1 / 256, 0),
    ATEN.softmax.int: (1 / 256, 0),
    ATEN.tanh.default: (1 / 128, 128),
}


def fused_output(node: fx.Node) -> fx.Node:
    """Return the node whose value leaves the integer kernel of `node`: a clipping activation that alone reads it."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in CLIPPING else node


def can_be_dynamic(layer: fx.Node) -> bool:
    """Tell whether a layer has a fast kernel that ranges what it reads: a convolution of groups has none in LiteRT."""
    return layer.target is ATEN.linear.default or argument(layer, "groups") == 1


def tie(graph: fx.GraphModule, apart: Collection[Join] = ()) -> dict[str, str]:
    """Return {edge: first edge of its group} for every activation that is quantized.

    Values before a fused activation are no edges. Edges an operator forces to one scale form a group:
    everything that only passes values on, and all inputs of a concatenation with its output but those `apart`.
    """
    nodes = [n for n in graph.graph.nodes if is_activation(n) and fused_output(n) is n]
    names = {n.name for n in nodes}
    parent = {n.name: n.name for n in nodes}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        for source in tied_inputs(node):
            if source.name in names and node.name in names and (source.name, node.name) not in apart:
                parent[root(node.name)] = root(source.name)
    return {n.name: root(n.name) for n in nodes}


def tied_inputs(node: fx.Node) -> list[fx.Node]:
    """Return the activations that must share the scale of what `node` produces."""
    if node.target is ATEN.cat.default:
        return list(arguments(node)[0])
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return []
    if node.target is operator.getitem:
        return tied_inputs(source)  # a piece of a split: its input is the split's
    return [source] if node.target in PASSING else []


def rounded_edges(graph: fx.GraphModule, int8: Collection[str], *, ends: bool = False) -> set[str]:
    """Return the activations that carry codes while these layers run on integers.

    All that such a layer, or an operator on integers, reads or writes; every one, where all layers are INT8. `ends`:
    the network's input and outputs too, which the device takes and gives as codes.
    """
    nodes = {n.name: n for n in graph.graph.nodes if n.op in ("placeholder", "call_function")}
    floating = layers_of(graph).keys() - set(int8)
    if not floating:
        return set(nodes)
    reads = {name: [one.name for one in node.all_input_nodes if one.name in nodes] for name, node in nodes.items()}
    outputs = [one.name for one in output_nodes(graph)]
    moving = [name for name, node in nodes.items() if node.target in MOVING or node.target is operator.getitem]
    between = operators_on_integers(reads, int8, floating, outputs, moving)
    integer = [nodes[name] for name in (*int8, *between)]
    found = {one.name for node in integer for one in (*node.all_input_nodes, fused_output(node))}
    return found | {*outputs, input_of(graph).name} if ends else found


def _only_passes(node: fx.Node, groups: Mapping[str, str]) -> bool:
    """Tell whether a node computes nothing: all that it reads has its scale."""
    sources = tied_inputs(node)
    return bool(sources) and all(groups.get(one.name, groups[node.name]) == groups[node.name] for one in sources)


def edges_of(
    graph: fx.GraphModule, groups: Mapping[str, str], ranges: Mapping[str, Range], *, symmetric: bool = False
) -> dict[str, EdgeNumerics]:
    """Turn ranges into scales: one for each group, wide enough for all its members."""
    nodes = {n.name: n for n in graph.graph.nodes}
    edges = {}
    for name, first in groups.items():
        members = [m for m, f in groups.items() if f == first]
        fixed = {FIXED.get(nodes[m].target) for m in members if not _only_passes(nodes[m], groups)}
        only = fixed.pop() if len(fixed) == 1 else None  # what all that computes into the group agrees on
        if symmetric:
            scale, zero_point = centred(max(max(-ranges[m][0], ranges[m][1]) for m in members))
        elif only is not None:
            scale, zero_point = only
        else:
            scale, zero_point = affine(min(ranges[m][0] for m in members), max(ranges[m][1] for m in members))
        edges[name] = EdgeNumerics(scale, zero_point, members[0])
    return edges
