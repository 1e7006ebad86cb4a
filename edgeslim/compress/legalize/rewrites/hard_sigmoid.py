"""Sigmoid, in the gates of squeeze-and-excite and elsewhere, becomes hard-sigmoid: relu6(x + 3) / 6. Inexact.

The two differ by at most 0.072, near x = 1.9 and -1.9. A sigmoid that makes SiLU, x sigmoid(x), so becomes hard-swish.
"""

from torch import fx

from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN

EXACT = False


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is a sigmoid, and hard-sigmoid is among what the NPU runs."""
    return node.target is ATEN.sigmoid.default and "hardsigmoid" in limits.operators


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Change the operator."""
    node.target = ATEN.hardsigmoid.default
