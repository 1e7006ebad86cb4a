"""Residual blocks that a network may do without: the sum at a block's end then passes on its shortcut alone."""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from edgeslim.model.graph import ATEN, IN_PLACE, drop_unused, is_activation, layers_of, shape_of, weight_name


@dataclass(frozen=True)
class Block:
    """One residual block: `gone` are the nodes that nothing but its branch needs, `stays` the sum's other argument."""

    name: str
    end: str  # the sum
    stays: int  # 0 or 1
    gone: frozenset[str]


def blocks_of(graph: fx.GraphModule) -> dict[str, Block]:
    """Return the residual blocks of a traced network by name, in execution order.

    The branch is the side of a sum with more layers than the other has for itself; a sum of two like sides is no block.
    """
    found: dict[str, Block] = {}
    for node in graph.graph.nodes:
        if IN_PLACE.get(node.target, node.target) is not ATEN.add.Tensor or node.kwargs or not _joins_alike(node):
            continue
        sides = [_only_for(node, argument) for argument in node.args[:2]]
        layers = [[name for name in layers_of(graph) if name in side] for side in sides]
        if len(layers[0]) == len(layers[1]):
            continue
        branch = 0 if len(layers[0]) > len(layers[1]) else 1
        weights = [weight_name(layers_of(graph)[name]) for name in layers[branch]]
        name = _name(weights, node.name, found)
        found[name] = Block(name, node.name, 1 - branch, frozenset(sides[branch]))
    return found


def _joins_alike(node: fx.Node) -> bool:
    """Tell whether a sum is one of two activations (N, C, H, W) of one shape."""
    arguments = node.args[:2]
    return (
        all(
            isinstance(a, fx.Node) and a.op == "call_function" and is_activation(a) and shape_of(a) == shape_of(node)
            for a in arguments
        )
        and len(shape_of(node)) == 4
        and arguments[0] is not arguments[1]
    )


def _only_for(end: fx.Node, argument: Any) -> set[str]:
    """Return the operators whose values nothing but this argument of `end` needs."""
    gone: set[str] = set()
    for node in reversed(end.graph.nodes):
        if node.op != "call_function" or node is end:
            continue
        needed_by = [user.name for user in node.users if not (node is argument and user is end)]
        if (node is argument or needed_by) and all(name in gone for name in needed_by):
            gone.add(node.name)
    return gone


def _name(weights: Sequence[str], end: str, taken: Mapping[str, Block]) -> str:
    """Return what a block's layers have in common in the network's own words, as `block stages.1.0`."""
    common = posixpath.commonpath(["/".join(weight.split(".")[:-2]) for weight in weights]).replace("/", ".")
    base = f"block {common or end}"
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}#{number}"
    return name


def drop(graph: fx.GraphModule, blocks: Iterable[Block]) -> None:
    """Take blocks out of a graph, in place; one inside another that is gone too is no more to take."""
    blocks = list(blocks)
    if not blocks:
        return
    nodes = {node.name: node for node in graph.graph.nodes}
    for node in nodes.values():
        node.target = IN_PLACE.get(node.target, node.target)  # a shortcut may now be changed while others read it
    gone = {name for block in blocks for name in block.gone}
    for block in blocks:
        if block.end not in gone:
            nodes[block.end].replace_all_uses_with(nodes[block.end].args[block.stays])
            graph.graph.erase_node(nodes[block.end])
    for name in [name for name in reversed(nodes) if name in gone]:
        graph.graph.erase_node(nodes[name])
    drop_unused(graph)
    graph.graph.lint()
    graph.recompile()
