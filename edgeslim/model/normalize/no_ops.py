"""What changes nothing goes: f(x) = x.

Copies and aliases, dropout in eval mode, and slices, views, expansions, paddings and permutations that leave every
element where it is. A ReLU of what is never negative. An expansion that only sums, products and the like read is what
they do themselves.
"""

import torch
from torch import fx

from edgeslim.model.graph import ATEN, argument, input_of, output_nodes, shape_of
from edgeslim.model.normalize.rewriting import replaced

DROPOUTS = (ATEN.dropout.default, ATEN.feature_dropout.default, ATEN.alpha_dropout.default)
ALWAYS = (
    ATEN.alias.default,
    ATEN.detach.default,
    ATEN.contiguous.default,
    ATEN.clone.default,
    ATEN.lift_fresh_copy.default,
)
# They keep the order of the elements, so that they do nothing where the shape stays.
IN_ORDER = (
    ATEN.view.default,
    ATEN.reshape.default,
    ATEN.flatten.using_ints,
    ATEN.expand.default,
    ATEN.slice.Tensor,
    ATEN.squeeze.dim,
    ATEN.pad.default,
    ATEN.constant_pad_nd.default,
)
NEVER_NEGATIVE = (
    ATEN.relu.default,
    ATEN.relu6.default,
    ATEN.sigmoid.default,
    ATEN.hardsigmoid.default,
    ATEN.softmax.int,
    ATEN.exp.default,
)
# They let what they read grow to a common shape.
BROADCASTING = (
    ATEN.add.Tensor,
    ATEN.sub.Tensor,
    ATEN.mul.Tensor,
    ATEN.div.Tensor,
    ATEN.maximum.default,
    ATEN.minimum.default,
)


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Let all that read the node read its input."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not _does_nothing(node, source):
        return False
    if source is input_of(graph) and node in output_nodes(graph):
        return False
    return replaced(graph, node, source)


def _does_nothing(node: fx.Node, source: fx.Node) -> bool:
    stays = node.target is ATEN.relu.default and source.target in NEVER_NEGATIVE
    if node.target in ALWAYS or stays or _grows_anyway(node, source):
        return True
    if node.target in DROPOUTS:
        return not argument(node, "train")
    if node.target is ATEN.permute.default:
        return list(node.args[1]) == list(range(len(shape_of(node))))  # type: ignore[arg-type] # a list of axes
    if node.target not in IN_ORDER or "val" not in source.meta or shape_of(node) != shape_of(source):
        return False
    if node.target in (ATEN.pad.default, ATEN.constant_pad_nd.default):
        return not any(argument(node, "pad"))
    return True


def _grows_anyway(node: fx.Node, source: fx.Node) -> bool:
    """Tell whether a node is an expansion of whose source all its readers make what they make of it."""
    return node.target is ATEN.expand.default and bool(node.users) and all(_grows(u, node, source) for u in node.users)


def _grows(user: fx.Node, node: fx.Node, source: fx.Node) -> bool:
    if user.target not in BROADCASTING or "val" not in source.meta:
        return False
    shapes = [shape_of(source if one is node else one) for one in user.all_input_nodes]
    return tuple(torch.broadcast_shapes(*shapes)) == shape_of(user)
