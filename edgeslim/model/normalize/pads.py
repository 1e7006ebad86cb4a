"""Zeros around an image become padding of the convolutions that read it.

conv(pad(x, p), padding q) = conv(x, padding p + q): the same zeros, for p alike on opposite sides.
"""

from torch import fx

from edgeslim.model.graph import ATEN, argument
from edgeslim.model.normalize.rewriting import inserted, replaced

PADS = (ATEN.pad.default, ATEN.constant_pad_nd.default)


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Let every convolution that reads the padded image read the image, and pad itself."""
    if not is_merged(node):
        return False
    width, _, height, _ = argument(node, "pad")
    for layer in list(node.users):
        own = list(argument(layer, "padding"))
        own = own if len(own) == 2 else own * 2
        settings = (argument(layer, "stride"), [own[0] + height, own[1] + width], argument(layer, "dilation"))
        inputs = (node.args[0], layer.args[1], argument(layer, "bias"))
        made = inserted(graph, layer, ATEN.conv2d.default, *inputs, *settings, argument(layer, "groups"))
        made.meta.update({key: value for key, value in layer.meta.items() if key != "val"})
        replaced(graph, layer, made)
    graph.graph.erase_node(node)
    return True


def is_merged(node: fx.Node) -> bool:
    """Tell whether a node pads with zeros, alike on opposite sides, for convolutions only."""
    if node.target not in PADS or argument(node, "value"):
        return False
    sides = list(argument(node, "pad"))
    constant = node.target is ATEN.constant_pad_nd.default or argument(node, "mode") == "constant"
    alike = len(sides) == 4 and sides[0] == sides[1] >= 0 and sides[2] == sides[3] >= 0
    return constant and alike and all(user.target is ATEN.conv2d.default for user in node.users)
