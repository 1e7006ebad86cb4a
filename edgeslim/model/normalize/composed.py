"""Operators made of others, spelled out.

prelu(x, w) = leaky_relu(x, w) for one slope w, else relu(x) - w relu(-x);  expand_as, reshape_as, view_as and unflatten
are expand, reshape and view;  x with all of it y (copy, fill) is y as large as x;  the first output of a batch norm
that gives its statistics too is a batch norm;  the 2-norm is the root of the sum of squares;  the maximum over height
and width, or over channels, is a pool whose window they fill; an average over neighbouring channels one over the rows
of an image.

An adaptive average to one place is a mean. An adaptive pool from n places to m takes for its i-th the places from
floor(i n / m) to ceil((i + 1) n / m), of rows and of columns independently: where m divides n it is a pool with that
window, else rows and then columns are slices pooled each by itself and put together.
"""

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from edgeslim.model.graph import ATEN, argument, arguments, parameter, shape_of
from edgeslim.model.normalize.rewriting import inserted, replaced, replaced_all


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Spell one operator out."""
    form = _FORMS.get(node.target)
    return form is not None and form(graph, node)


def _expand_as(graph: fx.GraphModule, node: fx.Node) -> bool:
    source, other = arguments(node)
    return replaced(graph, node, inserted(graph, node, ATEN.expand.default, source, list(shape_of(other))))


def _reshape_as(graph: fx.GraphModule, node: fx.Node) -> bool:
    return replaced(graph, node, inserted(graph, node, ATEN.reshape.default, node.args[0], list(shape_of(node))))


def _unflatten(graph: fx.GraphModule, node: fx.Node) -> bool:
    return replaced(graph, node, inserted(graph, node, ATEN.view.default, node.args[0], list(shape_of(node))))


def _overwritten(graph: fx.GraphModule, node: fx.Node) -> bool:
    if not isinstance(source := arguments(node)[1], fx.Node):
        return False
    if shape_of(source) != shape_of(node):
        source = inserted(graph, node, ATEN.expand.default, source, list(shape_of(node)))
    return replaced(graph, node, source)


def _normalized(graph: fx.GraphModule, node: fx.Node) -> bool:
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
        return False
    image, weight, bias, mean, variance, momentum, eps = arguments(node)
    plain = (image, weight, bias, mean, variance, False, momentum, eps, False)
    return replaced_all(graph, list(node.users), inserted(graph, node, ATEN.batch_norm.default, *plain))


def _prelu(graph: fx.GraphModule, node: fx.Node) -> bool:
    source, weight = arguments(node)
    slopes = parameter(graph, weight)
    if slopes is None:
        return False
    if bool((slopes == slopes.flatten()[0]).all()):
        made = inserted(graph, node, ATEN.leaky_relu.default, source, float(slopes.detach().flatten()[0]))
        return replaced(graph, node, made)
    axes = [1, -1, *[1] * (len(shape_of(node)) - 2)]
    above = inserted(graph, node, ATEN.relu.default, source)
    below = inserted(graph, node, ATEN.relu.default, inserted(graph, node, ATEN.mul.Tensor, source, -1))
    turned = inserted(graph, node, ATEN.mul.Tensor, inserted(graph, node, ATEN.view.default, weight, axes), -1)
    scaled = inserted(graph, node, ATEN.mul.Tensor, below, turned)
    return replaced(graph, node, inserted(graph, node, ATEN.add.Tensor, above, scaled))


def _norm(graph: fx.GraphModule, node: fx.Node) -> bool:
    axes = argument(node, "dim")
    if argument(node, "ord") != 2 or not axes:
        return False
    source = arguments(node)[0]
    squares = inserted(graph, node, ATEN.mul.Tensor, source, source)
    summed = inserted(graph, node, ATEN.sum.dim_IntList, squares, list(axes), bool(argument(node, "keepdim")))
    return replaced(graph, node, inserted(graph, node, ATEN.sqrt.default, summed))


def _is_first(user: fx.Node) -> bool:
    return len(user.args) == 2 and bool(user.args[1] == 0)


def _adaptive_maximum(graph: fx.GraphModule, node: fx.Node) -> bool:
    if not all(_is_first(user) for user in node.users if user.users):
        return False
    return replaced_all(graph, list(node.users), _adapted(graph, node, ATEN.max_pool2d.default))


def _adaptive_average(graph: fx.GraphModule, node: fx.Node) -> bool:
    if list(arguments(node)[1]) == [1, 1]:
        return replaced(graph, node, inserted(graph, node, ATEN.mean.dim, arguments(node)[0], [-2, -1], True))
    return replaced(graph, node, _adapted(graph, node, ATEN.avg_pool2d.default))


def _adapted(graph: fx.GraphModule, node: fx.Node, pool: Any) -> fx.Node:
    """Return an adaptive pool written as pools of this kind, of the whole image or along one axis after the other."""
    image: fx.Node = arguments(node)[0]
    counts, sizes = list(arguments(node)[1]), shape_of(image)[-2:]
    if sizes == tuple(counts):
        return image
    if all(size % count == 0 for size, count in zip(sizes, counts, strict=True)):
        window = [size // count for size, count in zip(sizes, counts, strict=True)]
        return inserted(graph, node, pool, image, window, window)
    for axis, size, count in zip((-2, -1), sizes, counts, strict=True):
        image = _adapted_along(graph, node, pool, image, axis, size, count)
    return image


def _adapted_along(
    graph: fx.GraphModule, node: fx.Node, pool: Any, image: fx.Node, axis: int, size: int, count: int
) -> fx.Node:
    """Return rows (axis -2) or columns (-1) of an image pooled from `size` to `count`, window by window."""
    along = len(shape_of(image)) + axis
    parts = []
    for place in range(count):
        begin, end = place * size // count, -(-(place + 1) * size // count)
        part = inserted(graph, node, ATEN.slice.Tensor, image, along, begin, end)
        window = [end - begin, 1] if axis == -2 else [1, end - begin]
        parts.append(part if end - begin == 1 else inserted(graph, node, pool, part, window, window))
    return inserted(graph, node, ATEN.cat.default, parts, along)


def _maximum(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write a maximum over places or over channels as a pool over all of them."""
    source, shape = arguments(node)[0], shape_of(arguments(node)[0])
    axes = sorted(int(axis) % len(shape) for axis in argument(node, "dim") or range(len(shape)))
    if len(shape) != 4 or axes not in ([2, 3], [2], [3], [1]):
        return False
    if axes == [1]:
        image = inserted(graph, node, ATEN.reshape.default, source, [shape[0], 1, shape[1], shape[2] * shape[3]])
        window = [shape[1], 1]
    else:
        image, window = source, [shape[axis] if axis in axes else 1 for axis in (2, 3)]
    pooled = inserted(graph, node, ATEN.max_pool2d.default, image, window)
    return replaced(graph, node, inserted(graph, node, ATEN.view.default, pooled, list(shape_of(node))))


def _average_of_channels(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write an average over neighbouring channels, (N, 1, C, H, W) and a window (n, 1, 1), as one of two dimensions."""
    source, shape = arguments(node)[0], shape_of(arguments(node)[0])
    window, stride = list(argument(node, "kernel_size")), list(argument(node, "stride")) or [1, 1, 1]
    padded = any(argument(node, "padding")) or argument(node, "divisor_override") is not None
    if len(shape) != 5 or shape[1] != 1 or window[1:] != [1, 1] or stride != [1, 1, 1] or padded:
        return False
    image = inserted(graph, node, ATEN.reshape.default, source, [shape[0], 1, shape[2], shape[3] * shape[4]])
    pooled = inserted(graph, node, ATEN.avg_pool2d.default, image, [window[0], 1], [1, 1])
    return replaced(graph, node, inserted(graph, node, ATEN.view.default, pooled, list(shape_of(node))))


_FORMS: dict[Any, Callable[[fx.GraphModule, fx.Node], bool]] = {
    ATEN.prelu.default: _prelu,
    ATEN.copy.default: _overwritten,
    ATEN.fill.Tensor: _overwritten,
    ATEN._native_batch_norm_legit_no_training.default: _normalized,
    ATEN.expand_as.default: _expand_as,
    ATEN.reshape_as.default: _reshape_as,
    ATEN.view_as.default: _reshape_as,
    ATEN.unflatten.int: _unflatten,
    ATEN.linalg_vector_norm.default: _norm,
    ATEN.adaptive_max_pool2d.default: _adaptive_maximum,
    ATEN.adaptive_avg_pool2d.default: _adaptive_average,
    ATEN.amax.default: _maximum,
    ATEN.avg_pool3d.default: _average_of_channels,
}
