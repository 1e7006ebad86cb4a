"""Squeeze-and-excite is removed: x gate(mean(x)) becomes x. Inexact.

The gate is one number a channel between 0 and 1. On average over images it is a constant, which the layer that reads
the product can take into its weights; the recovery does. What the gate said of the single image is lost.
"""

from torch import fx

from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, shape_of

EXACT = False


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node multiplies an image with gates computed from that image's own mean."""
    return _gated(node) is not None


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Pass the image on, and take out what computed its gates."""
    image = _gated(node)
    if image is None:
        raise TypeError(f"{node.name} is no squeeze-and-excite")
    node.replace_all_uses_with(image)
    graph.graph.eliminate_dead_code()


def _gated(node: fx.Node) -> fx.Node | None:
    """Return the image x of a product x gate(mean(x)); None where a node is no such product."""
    if node.target is not ATEN.mul.Tensor or len(node.all_input_nodes) != 2:
        return None
    for image, gate in (node.all_input_nodes, node.all_input_nodes[::-1]):
        if "val" in gate.meta and "val" in image.meta:
            narrow = len(shape_of(gate)) == 4 and shape_of(gate)[2:] == (1, 1) != shape_of(image)[2:]
            if narrow and _comes_from_mean_of(gate, image):
                return image
    return None


def _comes_from_mean_of(gate: fx.Node, image: fx.Node) -> bool:
    """Tell whether a chain of one-input operators leads from the mean of an image to its gate."""
    node = gate
    while True:
        sources = [one for one in node.all_input_nodes if one.op != "get_attr"]
        if len(sources) != 1:
            return False
        if sources[0] is image:
            return node.target in (ATEN.mean.dim, ATEN.avg_pool2d.default)
        node = sources[0]
