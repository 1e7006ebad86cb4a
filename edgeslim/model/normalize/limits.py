"""Limits in the form that kernels have: clamp(x, a, b) = hardtanh(x, a, b); max(x, 0) = relu(x);
max(x, a) = relu(x - a) + a; min(x, b) = b - relu(b - x). A limit that exporters would take for zero stays a maximum.
"""

import math
from typing import Any

import torch
from torch import fx

from edgeslim.model.graph import ATEN, argument, arguments
from edgeslim.model.normalize.rewriting import inserted, replaced, stored

TINY = 1e-6


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write one clamp as a clipping activation."""
    if node.target not in (ATEN.clamp.default, ATEN.clip.default, ATEN.clamp_min.default, ATEN.clamp_max.default):
        return False
    source = arguments(node)[0]
    low = None if node.target is ATEN.clamp_max.default else argument(node, "min")
    high = None if node.target in (ATEN.clamp_min.default,) else argument(node, "max")
    low, high = (None if one is None or math.isinf(one) else one for one in (low, high))
    if low is not None and high is not None:
        return replaced(graph, node, inserted(graph, node, ATEN.hardtanh.default, source, low, high))
    if low is not None:
        return replaced(graph, node, _shifted(graph, node, source, low))
    if high is not None:
        turned = _shifted(graph, node, inserted(graph, node, ATEN.mul.Tensor, source, -1), -high)
        return replaced(graph, node, inserted(graph, node, ATEN.mul.Tensor, turned, -1))
    return replaced(graph, node, source)


def _shifted(graph: fx.GraphModule, before: fx.Node, source: Any, low: float) -> fx.Node:
    """Return max(source, low)."""
    if low == 0:
        return inserted(graph, before, ATEN.relu.default, source)
    if abs(low) < TINY:
        limit = stored(graph, before, f"{before.name}_limit", torch.tensor(low))
        return inserted(graph, before, ATEN.maximum.default, source, limit)
    down = inserted(graph, before, ATEN.add.Tensor, source, -low)
    return inserted(graph, before, ATEN.add.Tensor, inserted(graph, before, ATEN.relu.default, down), low)
