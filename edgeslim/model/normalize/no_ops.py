"""What changes nothing goes: f(x) = x.

Copies and aliases, dropout in eval mode, and slices, views, expansions, paddings and permutations that leave every
element where it is.
"""

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


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Let all that read the node read its input."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not _does_nothing(node, source):
        return False
    if source is input_of(graph) and node in output_nodes(graph):
        return False
    for reader in node.users:
        if reader.target is ATEN.view.default:  # which asks how its input lies in memory
            reader.target = ATEN.reshape.default
    return replaced(graph, node, source)


def _does_nothing(node: fx.Node, source: fx.Node) -> bool:
    if node.target in ALWAYS:
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
