"""Rewrites to fewer operators, which every network takes before anything else looks at it: one kind a file.

Each file has `rewrite(graph, node) -> bool`: it writes one node of a traced graph in other operators, exactly but for
rounding, and tells whether it did. Its docstring is the mathematics. What is made is held against the user's module.
"""

import operator
from importlib import import_module
from types import ModuleType

import torch
from torch import fx

from edgeslim.model.graph import IN_PLACE, changes, drop_unused, output_nodes, parameter
from edgeslim.model.normalize import constants
from edgeslim.model.normalize.rewriting import replaced

# In this order: what one writes a later one may take.
NAMES = (
    "arithmetic",
    "limits",
    "pieces",
    "composed",
    "averages",
    "shuffles",
    "transposed",
    "one_dimension",
    "linear_forms",
    "pads",
    "no_ops",
)
MOST_ROUNDS = 4


def normalized(graph: fx.GraphModule) -> fx.GraphModule:
    """Return a traced graph, changed in place, in the operators that rules, techniques and exporters know best."""
    rewrites: tuple[ModuleType, ...] = tuple(import_module(f"{__name__}.{name}") for name in NAMES)
    for _ in range(MOST_ROUNDS):
        changed = _without_changes_in_place(graph) | constants.store(graph)
        for one in rewrites:
            for node in [n for n in graph.graph.nodes if n.op == "call_function"]:
                changed |= one.rewrite(graph, node)
        changed |= _without_repetition(graph)
        if not changed:
            break
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    drop_unused(graph)
    return graph


def _without_changes_in_place(graph: fx.GraphModule) -> bool:
    """Let every operator write a tensor of its own: `add_(x, y)` is `add(x, y)`, for nothing reads x again.

    What reads it again by another value, a view, was taken apart when the network was traced.
    """
    found = [node for node in graph.graph.nodes if node.target in IN_PLACE]
    for node in found:
        node.target = IN_PLACE[node.target]
    return bool(found)


def _without_repetition(graph: fx.GraphModule) -> bool:
    """Let what is computed twice of the same values be computed once, as exporters do; outputs stay apart.

    Nothing is, where an operator changes what it is given: what reads a value before and after it finds two.
    """
    if any(changes(node) for node in graph.graph.nodes):
        return False
    outputs = output_nodes(graph)
    seen: dict[str, fx.Node] = {}
    found = False
    for node in [one for one in graph.graph.nodes if _is_a_function(one) and one not in outputs]:
        first = seen.setdefault(_computed(graph, node), node)
        found |= first is not node and replaced(graph, node, first)
    return found


def _is_a_function(node: fx.Node) -> bool:
    """Tell whether a node gives the same for the same."""
    known = node.target is operator.getitem or isinstance(node.target, torch._ops.OpOverload)
    return known and constants.RANDOM not in getattr(node.target, "tags", ())


def _computed(graph: fx.GraphModule, node: fx.Node) -> str:
    """Return what a node computes, in words: the operator, and of which values, parameters by themselves."""

    def value(source: fx.Node) -> str:
        held = parameter(graph, source)
        return source.name if held is None else f"parameter {id(held)}"

    return f"{node.target} {fx.node.map_arg((node.args, node.kwargs), value)}"
