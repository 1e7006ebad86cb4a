"""An average over a window beyond the limit becomes a depthwise convolution, whose kernel the compiler splits itself.

mean over a window of k_h x k_w values = sum of w x with every w = 1 / (k_h k_w). Where padding does not count, the
sum is then multiplied, place by place, with k_h k_w over the number of values that do: a constant image.
"""

import math

import torch
from torch import fx, nn

from edgeslim.compress.legalize.insert import insert_convolution
from edgeslim.devices.npu_limits import MOST_CODE, NpuLimits
from edgeslim.model.graph import ATEN, argument, shape_of, window_of

EXACT = True


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is an average over windows within the padded image, whose like weights can be added up."""
    if node.target is not ATEN.avg_pool2d.default or argument(node, "ceil_mode"):
        return False
    fits = math.prod(window_of(node)[0]) * MOST_CODE <= limits.max_weight_sum
    return fits and argument(node, "divisor_override") is None


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Replace the average by the convolution and, where padding does not count, the product."""
    kernel, stride, padding = window_of(node)
    image, channels = node.all_input_nodes[0], shape_of(node)[1]
    weight = torch.full((channels, 1, *kernel), 1 / (kernel[0] * kernel[1]))
    result = insert_convolution(graph, node, image, weight, torch.zeros(channels), stride, padding, channels)
    if max(padding) and not argument(node, "count_include_pad"):
        ones = torch.ones(1, 1, *shape_of(image)[2:])
        counted = nn.functional.conv2d(ones, torch.ones(1, 1, *kernel), None, stride, padding)
        name = f"{node.name}_share"
        graph.register_buffer(name, kernel[0] * kernel[1] / counted)
        with graph.graph.inserting_before(node):
            result = graph.graph.call_function(ATEN.mul.Tensor, (result, graph.graph.get_attr(name)))
    node.replace_all_uses_with(result)
    graph.graph.erase_node(node)
