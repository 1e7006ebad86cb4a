"""Fold every batch norm into the layer before it, exactly; what stands alone becomes a 1x1 convolution.

With y = gamma * (w * x + b - mean) / sqrt(var + eps) + beta and s = gamma / sqrt(var + eps), the folded
layer has weights s * w and bias s * (b - mean) + beta. A batch norm without a layer before it that writes its channels
where the batch norm has them (on axis 1) is the depthwise 1x1 convolution with weights s and bias beta - s * mean,
which every runtime runs in int8. What exporters would rewrite each in its own way is rewritten once, exactly: a global
average pool is the mean over height and width, SiLU is x * sigmoid(x), a linear layer over rows is one over a matrix, a
layer times or plus a number is a layer, and an average counts padding where there is none.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from edgeslim.errors import BadInput, BadModel
from edgeslim.model.context import Context
from edgeslim.model.graph import (
    ATEN,
    CLIPPING,
    LAYERS,
    argument,
    arguments,
    channel_axis,
    copy_of,
    drop_unused,
    layers_of,
    parameter,
    shape_of,
    trace,
    window_of,
)
from edgeslim.model.model import Model
from edgeslim.model.normalize import normalized

_POOL = ("self", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


@dataclass(frozen=True)
class Settings:
    """Folding has nothing to set."""


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model as a traced graph without batch norms, in which every layer has its own weight and bias.

    Raises BadModel for a batch norm without running statistics: it is no constant that could be folded. Raises
    ToolFailed where the folded network does not compute what the model did.
    """
    if model.numerics is not None:
        raise BadInput("the recipe's step `fold` comes before `quantize`")
    graph, norms = folded_graph(copy_of(model.graph), model.input_shape)
    return model.exactly("fold", f"fold: {norms} batch norms", graph, context.images)


def folded(network: nn.Module, shape: tuple[int, ...]) -> tuple[fx.GraphModule, int]:
    """Return a network traced for an input of `shape` and folded as `apply` says, and how many batch norms it had."""
    return folded_graph(normalized(trace(network, shape)), shape)


def folded_graph(graph: fx.GraphModule, shape: tuple[int, ...]) -> tuple[fx.GraphModule, int]:
    """Return a normalized graph traced for an input of `shape` as `folded` does; the graph itself is used up."""
    norms = [n for n in graph.graph.nodes if n.target is ATEN.batch_norm.default]
    with torch.no_grad():
        for norm in norms:
            _fold(graph, norm)
        for layer in layers_of(graph).values():
            _own_parameters(graph, layer)
    for node in list(graph.graph.nodes):
        _normalize(graph, node)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    drop_unused(graph)
    return trace(graph, shape), len(norms)


def _normalize(graph: fx.GraphModule, node: fx.Node) -> None:
    """Rewrite one operator into the form every exporter understands alike."""
    if node.target in (ATEN.mul.Tensor, ATEN.add.Tensor) and _takes_number(graph, node):
        node.replace_all_uses_with(arguments(node)[0])
        graph.graph.erase_node(node)
    elif node.target is ATEN.avg_pool2d.default and not any(window_of(node)[2]):
        node.args = (*(argument(node, name) for name in _POOL[:-2]), True, argument(node, _POOL[-1]))
    elif node.target is ATEN.linear.default and len(shape_of(node)) > 2:
        _as_matrix(graph, node)
    elif node.target is ATEN.silu.default:
        with graph.graph.inserting_before(node):
            gate = graph.graph.call_function(ATEN.sigmoid.default, (node.args[0],))
        node.target, node.args = ATEN.mul.Tensor, (node.args[0], gate)


def _takes_number(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Take the number that a layer is multiplied with, or that is added to it, into its parameters; tell whether."""
    layer, number = node.args[:2]
    if not isinstance(layer, fx.Node) or layer.target not in LAYERS or len(layer.users) != 1:
        return False
    weight, bias = (parameter(graph, place) for place in layer.args[1:3])
    if not isinstance(number, int | float) or weight is None or bias is None:
        return False
    if node.target is ATEN.mul.Tensor:
        _set_parameters(graph, layer, weight.double() * number, bias.double() * number)
    else:
        _set_parameters(graph, layer, weight, bias.double() + number)
    return True


def _as_matrix(graph: fx.GraphModule, layer: fx.Node) -> None:
    """Let a linear layer read all rows of its input, whatever the axes before the last, as those of one matrix.

    An activation that alone reads it stays next to it, for kernels compute both at once.
    """
    weight, shape = parameter(graph, layer.args[1]), list(shape_of(layer))
    if weight is None:
        return
    rows = [math.prod(shape[:-1]), weight.shape[1]]
    with graph.graph.inserting_before(layer):
        matrix = graph.graph.call_function(ATEN.reshape.default, (layer.args[0], rows))
    layer.args = (matrix, *layer.args[1:])
    last = next(iter(layer.users)) if len(layer.users) == 1 else layer
    last = last if last.target in CLIPPING else layer
    with graph.graph.inserting_after(last):
        back = graph.graph.call_function(ATEN.reshape.default)
    last.replace_all_uses_with(back)
    back.args = (last, shape)


def _fold(graph: fx.GraphModule, norm: fx.Node) -> None:
    source = norm.args[0]
    gamma, beta, mean, variance = (parameter(graph, place) for place in norm.args[1:5])
    epsilon = norm.args[7]
    if norm.args[5] or not isinstance(source, fx.Node) or mean is None or not isinstance(epsilon, float):
        raise BadModel(
            f"`{norm.name}` normalizes by the statistics of its own batch; "
            "expected a batch norm with running statistics, which can be folded"
        )
    if variance is None:
        raise TypeError(f"{norm.name} has a mean and no variance")
    scale = (variance.double() + epsilon).rsqrt() * (1.0 if gamma is None else gamma.double())
    shift = (0.0 if beta is None else beta.double()) - scale * mean.double()
    shape = list(shape_of(norm))
    takes_it = source.target in LAYERS and len(source.users) == 1 and channel_axis(source) == 1
    weight = parameter(graph, source.args[1]) if takes_it else None
    if weight is not None:
        bias = parameter(graph, source.args[2] if len(source.args) > 2 else None)
        folded = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
        _set_parameters(graph, source, folded, shift if bias is None else shift + scale * bias.double())
        norm.replace_all_uses_with(source)
    else:
        with graph.graph.inserting_before(norm):
            image = source
            if len(shape) < 4:  # a batch norm over vectors
                image = graph.graph.call_function(ATEN.view.default, (source, shape + [1] * (4 - len(shape))))
            alone = graph.graph.call_function(
                ATEN.conv2d.default, (image, None, None, [1, 1], [0, 0], [1, 1], len(scale))
            )
            _set_parameters(graph, alone, scale.view(-1, 1, 1, 1), shift)
            if len(shape) < 4:
                alone = graph.graph.call_function(ATEN.view.default, (alone, shape))
        norm.replace_all_uses_with(alone)
    graph.graph.erase_node(norm)


def _own_parameters(graph: fx.GraphModule, layer: fx.Node) -> None:
    """Give a layer a bias where it has none, and copies where it shares its weight with another layer."""
    weight = parameter(graph, layer.args[1])
    bias = parameter(graph, layer.args[2] if len(layer.args) > 2 else None)
    if weight is not None and (bias is None or _is_shared(graph, layer)):
        _set_parameters(graph, layer, weight, torch.zeros(len(weight)) if bias is None else bias)


def _is_shared(graph: fx.GraphModule, layer: fx.Node) -> bool:
    """Tell whether another node reads the weight or the bias of this layer."""
    targets = [argument.target for argument in layer.args[1:3] if isinstance(argument, fx.Node)]
    readers = [n for n in graph.graph.nodes if n.op == "get_attr" and n.target in targets]
    return sum(len(n.users) for n in readers) > len(targets)


def _set_parameters(graph: fx.GraphModule, layer: fx.Node, weight: Tensor, bias: Tensor) -> None:
    """Store new parameters for one layer in a module that holds nothing else."""
    base = _home(graph, layer)
    owner = _submodule(graph, base)
    for suffix, value in (("weight", weight), ("bias", bias)):
        owner.register_parameter(suffix, nn.Parameter(value.detach().float().contiguous(), requires_grad=False))
    with graph.graph.inserting_before(layer):
        new = [graph.graph.get_attr(f"{base}.{suffix}") for suffix in ("weight", "bias")]
    layer.args = (layer.args[0], *new, *layer.args[3:])


def _home(graph: fx.GraphModule, layer: fx.Node) -> str:
    """Return the path of the module whose `weight` and `bias` are this layer's alone, or of a new one beside it."""
    old = layer.args[1]
    owner, _, attribute = str(old.target).rpartition(".") if isinstance(old, fx.Node) else ("", "", "")
    module = graph.get_submodule(owner)
    bias = parameter(graph, layer.args[2] if len(layer.args) > 2 else None)
    if owner and attribute == "weight" and getattr(module, "bias", None) is bias and not _is_shared(graph, layer):
        return owner
    fresh = layer.name
    while hasattr(module, fresh):
        fresh += "_folded"
    return f"{owner}.{fresh}".lstrip(".")


def _submodule(graph: fx.GraphModule, path: str) -> nn.Module:
    owner: nn.Module = graph
    for part in path.split("."):
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    return owner
