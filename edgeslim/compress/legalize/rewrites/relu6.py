"""Hard-swish and SiLU become ReLU6, min(max(x, 0), 6), which costs an NPU nothing behind a layer. Inexact.

hardswish(x) = x relu6(x + 3) / 6 and SiLU(x) = x sigmoid(x), folded: a product of x and its own sigmoid. Both dip below
zero (to -0.375 and -0.278) where ReLU6 is flat, and go on growing where it ends.
"""

from torch import fx

from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN

EXACT = False
_GATES = (ATEN.sigmoid.default, ATEN.hardsigmoid.default)


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is hard-swish or SiLU, and ReLU6 is among what the NPU runs."""
    if "hardtanh" not in limits.operators:
        return False
    return node.target is ATEN.hardswish.default or _gate_of(node) is not None


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Change the operator; a SiLU's own sigmoid goes."""
    gate = _gate_of(node)
    image = node.args[0] if gate is None else gate.args[0]
    node.target, node.args = ATEN.hardtanh.default, (image, 0.0, 6.0)
    if gate is not None and not gate.users:
        graph.graph.erase_node(gate)


def _gate_of(node: fx.Node) -> fx.Node | None:
    """Return the sigmoid of x in a product of x and its sigmoid; None where a node is no such product."""
    if node.target is not ATEN.mul.Tensor:
        return None
    for image, gate in (node.args[:2], node.args[1::-1]):
        if isinstance(gate, fx.Node) and gate.target in _GATES and gate.args[0] is image:
            return gate
    return None
