"""A maximum over a window beyond the limit becomes maxima of smaller windows, one behind another.

max over n + m - 1 neighbours = max over m neighbours of the maxima over n. The first window pads, the last one strides;
what it pads, minus infinity, changes no maximum.
"""

from torch import fx

from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, argument, window_of

EXACT = True


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is a maximum without dilation over a window beyond the limit."""
    if node.target is not ATEN.max_pool2d.default or set(argument(node, "dilation")) != {1}:
        return False
    (kernel, _, padding), side = window_of(node), _side(limits)
    return not argument(node, "ceil_mode") and max(kernel) > side and max(padding) <= side // 2


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Put the smaller windows before the node until the rest of its own is within the limit."""
    (kernel, stride, padding), side = window_of(node), _side(limits)
    image = node.all_input_nodes[0]
    while max(kernel) > side:
        part = [min(k, side) for k in kernel]
        with graph.graph.inserting_before(node):
            image = graph.graph.call_function(ATEN.max_pool2d.default, (image, part, [1, 1], padding))
        kernel, padding = [k - p + 1 for k, p in zip(kernel, part, strict=True)], [0, 0]
    node.args = (image, kernel, stride, padding)
    node.kwargs = {}


def _side(limits: NpuLimits) -> int:
    """Return a side of which even the square is within the limits."""
    return min(limits.max_pool_height, int(limits.max_pool_area**0.5))
