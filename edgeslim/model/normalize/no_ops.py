"""What changes nothing goes: f(x) = x.

Copies and aliases, conversions to the type that is there, dropout in eval mode, and slices, views, expansions, paddings
and permutations that leave every element where it is. A ReLU of what is never negative. An expansion that only sums,
products and the like read is what they do themselves. What stands under `torch.no_grad`, or where autocast is off, is
computed as outside.
"""

import torch
from torch import fx

from edgeslim.errors import BadModel
from edgeslim.model.graph import ATEN, argument, input_of, operator_name, output_nodes, parameter, shape_of
from edgeslim.model.normalize.rewriting import replaced, stored

DROPOUTS = (ATEN.dropout.default, ATEN.feature_dropout.default, ATEN.alpha_dropout.default)
ALWAYS = (
    ATEN.alias.default,
    ATEN.detach.default,
    ATEN.contiguous.default,
    ATEN.clone.default,
    ATEN.lift_fresh_copy.default,
)
# To a type, which is often the one that is there.
CONVERSIONS = (
    ATEN.to.dtype,
    ATEN.to.dtype_layout,
    ATEN.to.device,
    ATEN.to.other,
    ATEN.type_as.default,
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
AUTOCAST = "wrap_with_autocast"
REGIONS = (AUTOCAST, "wrap_with_set_grad_enabled")


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Let all that read the node read its input, or what stands inside it."""
    if operator_name(node) in REGIONS:
        return _opened(graph, node)
    if node.target is ATEN._assert_tensor_metadata.default:  # of what is to be converted; the shapes here are static
        graph.graph.erase_node(node)
        return True
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not _does_nothing(node, source):
        return False
    if source is input_of(graph) and node in output_nodes(graph):
        return False
    return replaced(graph, node, source)


def _does_nothing(node: fx.Node, source: fx.Node) -> bool:
    stays = node.target is ATEN.relu.default and source.target in NEVER_NEGATIVE
    if node.target in ALWAYS or stays or _keeps_type(node, source) or _grows_anyway(node, source):
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


def _keeps_type(node: fx.Node, source: fx.Node) -> bool:
    return node.target in CONVERSIONS and bool(node.meta["val"].dtype == source.meta["val"].dtype)


def _grows_anyway(node: fx.Node, source: fx.Node) -> bool:
    """Tell whether a node is an expansion of whose source all its readers make what they make of it."""
    return node.target is ATEN.expand.default and bool(node.users) and all(_grows(u, node, source) for u in node.users)


def _grows(user: fx.Node, node: fx.Node, source: fx.Node) -> bool:
    if user.target not in BROADCASTING or "val" not in source.meta:
        return False
    shapes = [shape_of(source if one is node else one) for one in user.all_input_nodes]
    return tuple(torch.broadcast_shapes(*shapes)) == shape_of(user)


def _opened(graph: fx.GraphModule, region: fx.Node) -> bool:
    """Write what stands in a region outside of it; BadModel where autocast computes it in another type."""
    if operator_name(region) == AUTOCAST and region.args[2]:
        raise BadModel(
            f"the network computes part of itself in {region.args[1]} (torch.autocast in its forward), and edgeslim "
            "takes networks in float32: leave autocast to the code around it"
        )
    place = next(index for index, one in enumerate(region.args) if isinstance(one, fx.Node))
    inside, *given = (one for one in region.args[place:] if isinstance(one, fx.Node))
    module = graph.get_submodule(str(inside.target))
    if not isinstance(module, fx.GraphModule):
        raise TypeError(f"{inside.target} is a {type(module).__name__}, not a graph")
    for node in [one for one in module.graph.nodes if operator_name(one) in REGIONS]:
        _opened(module, node)
    taken = [node for node in module.graph.nodes if node.op == "placeholder"]
    outside = dict(zip(taken, given, strict=True))
    for node in [one for one in module.graph.nodes if one.op == "get_attr" and one.users]:
        if (value := parameter(module, node)) is not None:
            outside[node] = stored(graph, region, f"{inside.target}_{node.name}", value)
    with graph.graph.inserting_before(region):
        made = graph.graph.graph_copy(module.graph, outside)
    for reader in list(region.users):
        replaced(graph, reader, made[reader.args[1]])  # type: ignore[index, arg-type] # each reads one of its outputs
    graph.graph.erase_node(region)
    return True
