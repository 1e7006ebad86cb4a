"""Proof that planned layers ran on integers, from the runtime's own record of what it executed."""

import re
from collections.abc import Sequence

from edgeslim.deploy.agent_session import GraphNode
from edgeslim.export.job import Spelling

INTEGERS = ("int8", "uint8")
LAYER_OPERATORS = re.compile(r"conv|gemm|matmul|fully_?connected", re.IGNORECASE)


def proven_layers(executed: Sequence[GraphNode], spelling: Spelling) -> list[str]:
    """Return the spelled layers that the runtime ran with integer activations and weights, of 8 bits each."""
    integer = [
        node
        for node in executed
        if LAYER_OPERATORS.search(node.op) and node.precision in INTEGERS and {*INTEGERS} & {*node.inputs[1:]}
    ]
    return [layer for layer, name in spelling.nodes.items() if any(_is(node, name) for node in integer)]


def _is(node: GraphNode, name: str) -> bool:
    """Tell whether an executed node was made from the file's node `name`: runtimes append to names when they fuse."""
    made_from = re.compile(rf"{re.escape(name)}(_token_\d+|_nchwc|/.*)?")
    return any(made_from.fullmatch(origin) for origin in (node.name, *node.origins))
