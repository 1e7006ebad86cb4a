"""A mean over channels becomes a 1x1 convolution with weights that are all one over their number.

mean(x, 1) = sum over c of x_c / C. An NPU reduces height and width only; a convolution reduces channels as it always
does.
"""

import torch
from torch import fx

from edgeslim.compress.legalize.insert import insert_convolution
from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, argument, shape_of

EXACT = True


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is a mean over the channels of images, no more than a layer reads."""
    if node.target is not ATEN.mean.dim or len(shape_of(node.all_input_nodes[0])) != 4:
        return False
    axes = [axis % 4 for axis in argument(node, "dim") or ()]
    return axes == [1] and shape_of(node.all_input_nodes[0])[1] <= limits.max_channels


def rewrite(graph: fx.GraphModule, node: fx.Node, _: NpuLimits) -> None:
    """Put a convolution in the mean's place, and a view behind it where the mean drops its axis."""
    image = node.all_input_nodes[0]
    weight = torch.full((1, shape_of(image)[1], 1, 1), 1 / shape_of(image)[1])
    made = insert_convolution(graph, node, image, weight, torch.zeros(1))
    if not argument(node, "keepdim"):
        with graph.graph.inserting_before(node):
            made = graph.graph.call_function(ATEN.view.default, (made, list(shape_of(node))))
    node.replace_all_uses_with(made)
    graph.graph.erase_node(node)
