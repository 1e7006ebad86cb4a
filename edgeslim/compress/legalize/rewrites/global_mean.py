"""A mean over height and width keeps the two axes, channels last: where it dropped them, a view drops them behind it.

mean(x, (2, 3)) = view(mean(x, (2, 3), keepdim)). Exporters lay an operator's image out with channels last only where
what it computes is an image (N, C, H, W) again, and an NPU reduces height and width in that layout only. Where what
the mean reads is no image of a layer or of a pooling, a window of one value, x = max over {x}, makes it one.
"""

from torch import Tensor, fx

from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, argument, shape_of

EXACT = True
# What is always laid out with channels last, and what loses a layout.
FIXING = (
    ATEN.conv2d.default,
    ATEN.conv2d.padding,
    ATEN.max_pool2d.default,
    ATEN.avg_pool2d.default,
)
LOSING = (
    ATEN.view.default,
    ATEN.reshape.default,
    ATEN.flatten.using_ints,
    ATEN.expand.default,
    ATEN.permute.default,
    ATEN.transpose.int,
    ATEN.pad.default,
    ATEN.matmul.default,
)


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is a mean over height and width whose sides are within the limit."""
    if node.target is not ATEN.mean.dim or len(shape_of(node.all_input_nodes[0])) != 4:
        return False
    image = shape_of(node.all_input_nodes[0])
    axes = sorted(axis % 4 for axis in argument(node, "dim") or range(4))
    return axes == [2, 3] and max(image[2:]) <= limits.max_mean_side


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Lay out what the mean reads, keep its axes, and drop them behind it where it did."""
    image, shape = node.all_input_nodes[0], list(shape_of(node))
    if not argument(node, "keepdim"):
        with graph.graph.inserting_after(node):
            flat = graph.graph.call_function(ATEN.view.default)
        node.replace_all_uses_with(flat)
        flat.args = (node, shape)
    if not is_laid_out(image):
        with graph.graph.inserting_before(node):
            image = graph.graph.call_function(ATEN.max_pool2d.default, (image, [1, 1]))
    node.args = (image, [2, 3], True)
    node.kwargs = {}


def is_laid_out(node: fx.Node) -> bool:
    """Tell whether exporters surely lay a node's image out with channels last.

    They do behind convolutions and pooling, and behind what computes an image from such images only.
    """
    laid_out: dict[fx.Node, bool] = {}
    for one in node.graph.nodes:
        sources = [source for source in one.all_input_nodes if source.op != "get_attr"]
        follows = bool(sources) and all(laid_out[source] for source in sources)
        laid_out[one] = _is_image(one) and (one.target in FIXING or (one.target not in LOSING and follows))
        if one is node:
            break
    return laid_out[node]


def _is_image(node: fx.Node) -> bool:
    """Tell whether a node computes an image (N, C, H, W), or several."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) else value
    return isinstance(first, Tensor) and first.dim() == 4
