"""What is computed of parameters alone is stored: f(w) is a parameter.

Weight and spectral norm, scaled and standardized weights, tables of positions: the network computes them anew for each
image, and always finds the same.
"""

from typing import Any

import torch
from torch import Tensor, fx

from edgeslim.model.graph import parameter
from edgeslim.model.normalize.rewriting import stored

RANDOM = torch.Tag.nondeterministic_seeded


@torch.no_grad()
def store(graph: fx.GraphModule) -> bool:
    """Compute all that reads no activation, and store what activations meet; tell whether anything was."""
    values: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node] = parameter(graph, node)
        elif node.op == "call_function" and _is_constant(node, values):
            given, named = (fx.node.map_arg(one, values.__getitem__) for one in (node.args, node.kwargs))
            values[node] = node.target(*given, **named)
    met = [
        node
        for node, value in values.items()
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in values for user in node.users)
    ]
    for node in met:
        node.replace_all_uses_with(stored(graph, node, f"{node.name}_stored", values[node]))
    return bool(met)


def _is_constant(node: fx.Node, values: dict[fx.Node, Any]) -> bool:
    if RANDOM in getattr(node.target, "tags", ()):
        return False
    return all(source in values for source in node.all_input_nodes)
