"""Zeros put around an image before convolutions become padding of those convolutions.

conv(pad(x, p), padding q) = conv(x, padding p + q): the same zeros, for p alike on opposite sides.
"""

from torch import fx

from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, argument

EXACT = True


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node pads with zeros, alike on opposite sides, for convolutions only."""
    if node.target not in (ATEN.pad.default, ATEN.constant_pad_nd.default) or argument(node, "value"):
        return False
    sides = list(argument(node, "pad"))
    constant = node.target is ATEN.constant_pad_nd.default or argument(node, "mode") == "constant"
    alike = len(sides) == 4 and sides[0] == sides[1] >= 0 and sides[2] == sides[3] >= 0
    return constant and alike and all(user.target is ATEN.conv2d.default for user in node.users)


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Let every convolution that reads the padded image read the image, and pad itself."""
    width, _, height, _ = argument(node, "pad")
    for layer in list(node.users):
        own = list(argument(layer, "padding"))
        own = own if len(own) == 2 else own * 2
        bias = layer.args[2] if len(layer.args) > 2 else None
        layer.args = (
            node.args[0],
            layer.args[1],
            bias,
            argument(layer, "stride"),
            [own[0] + height, own[1] + width],
            argument(layer, "dilation"),
            argument(layer, "groups"),
        )
    graph.graph.erase_node(node)
