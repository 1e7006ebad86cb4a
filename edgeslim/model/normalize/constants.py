"""What is computed of parameters alone is stored: f(w) is a parameter.

Weight and spectral norm, scaled and standardized weights, tables of positions: the network computes them anew for each
image, and always finds the same. So it does with masks that are filled place by place: `new_zeros(x, ...)` takes no
number of x.
"""

from typing import Any

import torch
from torch import Tensor, fx

from edgeslim.model.graph import ATEN, changes, parameter
from edgeslim.model.normalize.rewriting import stored

RANDOM = torch.Tag.nondeterministic_seeded
# What takes no number of its input, only its type or shape.
MADE = (
    ATEN.new_zeros.default,
    ATEN.new_ones.default,
    ATEN.new_full.default,
    ATEN.zeros_like.default,
    ATEN.ones_like.default,
    ATEN.full_like.default,
)


@torch.no_grad()
def store(graph: fx.GraphModule) -> bool:
    """Compute all that reads no activation, and store what activations meet; tell whether anything was."""
    values: dict[fx.Node, Any] = {}
    in_place = any(changes(node) for node in graph.graph.nodes)
    for node in graph.graph.nodes:
        if node.op == "get_attr" and "val" in node.meta:  # a region's graph is no tensor
            value = parameter(graph, node)
            values[node] = value.clone() if in_place and value is not None else value
        elif node.op == "call_function" and _is_constant(node, values):
            given, named = (fx.node.map_arg(one, lambda one: _value(one, values)) for one in (node.args, node.kwargs))
            values[node] = node.target(*given, **named)
    met = [
        node
        for node, value in values.items()
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in values for user in node.users)
    ]
    for node in met:
        node.replace_all_uses_with(stored(graph, node, f"{node.name}_stored", values[node]))
    for node in reversed([one for one in values if one.op == "call_function" and met]):
        if not node.users:  # among them changes in place, which nothing else takes for dead
            graph.graph.erase_node(node)
    return bool(met)


def _is_constant(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    if RANDOM in getattr(node.target, "tags", ()):
        return False
    return node.target in MADE or all(source in values for source in node.all_input_nodes)


def _value(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """Return what a node computes; of an activation, which only what makes tensors takes, one of its shape and type."""
    return values[node] if node in values else torch.zeros(node.meta["val"].shape, dtype=node.meta["val"].dtype)
