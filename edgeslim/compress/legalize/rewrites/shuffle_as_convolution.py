"""A channel shuffle becomes a 1x1 convolution with a permutation matrix.

view (N, g, C/g, H, W), axes 1 and 2 exchanged, view (N, C, H, W): output c is input (c mod g) C/g + c div g. With
W[c, that] = 1 and 0 elsewhere, y = W x. It costs C multiplications a value, and no image is moved through memory.
"""

import torch
from torch import fx

from edgeslim.compress.legalize.insert import insert_convolution
from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, arguments, shape_of

EXACT = True
_VIEWS = (ATEN.view.default, ATEN.reshape.default, ATEN.flatten.using_ints)
_COPIES = (ATEN.contiguous.default, ATEN.clone.default)


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is the last of a channel shuffle."""
    return _shuffled(node) is not None


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Replace the shuffle by the convolution."""
    found = _shuffled(node)
    if found is None:
        raise TypeError(f"{node.name} is no channel shuffle")
    image, groups = found
    channels = shape_of(node)[1]
    order = torch.arange(channels).view(groups, channels // groups).t().reshape(-1)
    weight = torch.eye(channels)[order].view(channels, channels, 1, 1)
    node.replace_all_uses_with(insert_convolution(graph, node, image, weight, torch.zeros(channels)))
    graph.graph.eliminate_dead_code()


def _shuffled(node: fx.Node) -> tuple[fx.Node, int] | None:
    """Return the image and the number of groups of a channel shuffle that ends in a node; None where none does."""
    if node.target not in _VIEWS or len(shape_of(node)) != 4:
        return None
    exchange = node.all_input_nodes[0]
    while exchange.target in _COPIES:
        exchange = exchange.all_input_nodes[0]
    if exchange.target is not ATEN.transpose.int or sorted(a % 5 for a in arguments(exchange)[1:3]) != [1, 2]:
        return None
    grouped = exchange.all_input_nodes[0]
    if grouped.target not in _VIEWS or len(shape_of(grouped)) != 5:
        return None
    image, shape = grouped.all_input_nodes[0], shape_of(grouped)
    count, channels, height, width = shape_of(node)
    groups = shape[1]
    if shape_of(image) != shape_of(node) or shape != (count, groups, channels // groups, height, width):
        return None
    return image, groups
