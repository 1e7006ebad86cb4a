"""A clip that stands alone gets a layer before it that the compiler can merge it with.

clip(x, a, b) = a + (b - a) / 6 relu6(6 (x - a) / (b - a)): a depthwise 1x1 convolution with weight 6 / (b - a) and bias
-6 a / (b - a), ReLU6, and, unless that is a = 0 and b = 6, a second one with weight (b - a) / 6 and bias a.
"""

import math

import torch
from torch import fx

from edgeslim.compress.legalize.insert import insert_convolution
from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, argument, shape_of

EXACT = True


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node clips an image (N, C, H, W) at two finite bounds."""
    bounds = bounds_of(node)
    return bounds is not None and len(shape_of(node)) == 4 and bounds[0] < bounds[1]


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Put the first layer before the clip, which becomes ReLU6, and the second behind it."""
    bounds = bounds_of(node)
    if bounds is None:
        raise TypeError(f"{node.name} does not clip")
    low, high = bounds
    channels = shape_of(node)[1]
    one, scale = torch.ones(channels, 1, 1, 1), 6 / (high - low)
    image = node.all_input_nodes[0]
    spread = insert_convolution(graph, node, image, one * scale, torch.full((channels,), -low * scale), groups=channels)
    node.target, node.args, node.kwargs = ATEN.hardtanh.default, (spread, 0.0, 6.0), {}
    if (low, high) != (0.0, 6.0):
        after = node.next
        back = insert_convolution(graph, after, node, one / scale, torch.full((channels,), low), groups=channels)
        node.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)


def bounds_of(node: fx.Node) -> tuple[float, float] | None:
    """Return between what a node clips its input; None where it does not, or on one side only."""
    if node.target is ATEN.relu6.default:
        return 0.0, 6.0
    if node.target is not ATEN.hardtanh.default:
        return None
    low, high = float(argument(node, "min_val")), float(argument(node, "max_val"))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
