"""Rewrites to fewer operators, which every network takes before anything else looks at it: one kind a file.

Each file has `rewrite(graph, node) -> bool`: it writes one node of a traced graph in other operators, exactly but for
rounding, and tells whether it did. Its docstring is the mathematics. What is made is held against the user's module.
"""

from importlib import import_module
from types import ModuleType

from torch import fx

from edgeslim.model.graph import IN_PLACE, drop_unused
from edgeslim.model.normalize import constants

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
        if not changed:
            break
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    drop_unused(graph)
    return graph


def _without_changes_in_place(graph: fx.GraphModule) -> bool:
    """Let every operator write a tensor of its own: `add_(x, y)` is `add(x, y)`, for nothing reads the old x again."""
    found = [node for node in graph.graph.nodes if node.target in IN_PLACE]
    for node in found:
        node.target = IN_PLACE[node.target]
    return bool(found)
