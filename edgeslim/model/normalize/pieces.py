"""Pieces of an activation as chunks and concatenations.

split(x, n) into equal pieces = chunk(x, size / n);  unbind(x)[i] = chunk(x, size)[i] without the axis;  stack(x, y) =
cat(x with the axis, y with the axis);  narrow(x, begin, n) = x[begin : begin + n];  the values of max(x, axis) are
amax(x, axis);  roll(x, n) = cat(the last n of x, the rest);  x[places] = cat of slices, one for each run of places;
repeat(x, n) = cat(x, x, ...);  swapaxes is transpose;  cat(w, x) with a stored w (a class token) is x with zeros before
it, plus w with zeros behind it: a sum takes as many images as there are.  x with y at some places of an axis
(select_scatter, slice_scatter) = cat(what is before them, y, what is behind them).
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from edgeslim.model.graph import ATEN, argument, arguments, parameter, shape_of
from edgeslim.model.normalize.rewriting import inserted, replaced, replaced_all, stored

MOST_SLICES = 256


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write one cut or stacking in these forms."""
    form = _FORMS.get(node.target)
    return form is not None and form(graph, node)


def _stacked(graph: fx.GraphModule, node: fx.Node) -> bool:
    axis = int(argument(node, "dim")) % len(shape_of(node))
    parts = [inserted(graph, node, ATEN.unsqueeze.default, one, axis) for one in arguments(node)[0]]
    return replaced(graph, node, inserted(graph, node, ATEN.cat.default, parts, axis))


def _narrowed(graph: fx.GraphModule, node: fx.Node) -> bool:
    source, axis, begin, length = arguments(node)
    return replaced(graph, node, inserted(graph, node, ATEN.slice.Tensor, source, axis, begin, begin + length))


def _largest(graph: fx.GraphModule, node: fx.Node) -> bool:
    if not all(_place(user) == 0 for user in node.users if user.users):
        return False
    source, axis = arguments(node)[:2]
    largest = inserted(graph, node, ATEN.amax.default, source, [axis], bool(argument(node, "keepdim")))
    return replaced_all(graph, list(node.users), largest)


def _rolled(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write roll(x, n) along an axis as cat(the last n of x, the rest of it)."""
    image, axes = arguments(node)[0], list(argument(node, "dims"))
    if not axes:
        return False
    for axis, shift in zip(axes, arguments(node)[1], strict=True):
        size = shape_of(image)[axis]
        cut = -int(shift) % size
        if cut:
            behind = inserted(graph, node, ATEN.slice.Tensor, image, axis, cut, size)
            before = inserted(graph, node, ATEN.slice.Tensor, image, axis, 0, cut)
            image = inserted(graph, node, ATEN.cat.default, [behind, before], axis)
    return replaced(graph, node, image)


def _selected(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write x[places] along an axis, the places stored, as slices of neighbouring places put together."""
    image = arguments(node)[0]
    if node.target is ATEN.index_select.default:
        axis, given = int(arguments(node)[1]) % len(shape_of(image)), arguments(node)[2]
    else:
        indices = list(arguments(node)[1])
        used = [place for place, one in enumerate(indices) if one is not None]
        if len(used) != 1:
            return False
        axis, given = used[0], indices[used[0]]
    places = parameter(graph, given)
    if places is None or places.dim() != 1 or places.dtype is torch.bool:
        return False
    whole = gathered(graph, node, image, axis, [int(one) % shape_of(image)[axis] for one in places])
    return whole is not None and replaced(graph, node, whole)


def gathered(
    graph: fx.GraphModule, before: fx.Node, image: fx.Node, axis: int, places: Sequence[int]
) -> fx.Node | None:
    """Return the places of an activation along an axis, as slices of neighbours put together; None for too many."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    if len(runs) > MOST_SLICES:
        return None
    parts = [inserted(graph, before, ATEN.slice.Tensor, image, axis, run[0], run[-1] + 1) for run in runs]
    return parts[0] if len(parts) == 1 else inserted(graph, before, ATEN.cat.default, parts, axis)


def _repeated(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write repeat(x, n) as n of x put together along each axis."""
    image, counts = arguments(node)[0], list(arguments(node)[1])
    if len(counts) != len(shape_of(image)):
        return False
    for axis, count in enumerate(counts):
        if count > 1:
            image = inserted(graph, node, ATEN.cat.default, [image] * count, axis)
    return replaced(graph, node, image)


def _scattered(graph: fx.GraphModule, node: fx.Node) -> bool:
    image, written = arguments(node)[:2]
    axis = int(argument(node, "dim")) % len(shape_of(image))
    size = shape_of(image)[axis]
    if node.target is ATEN.select_scatter.default:
        begin = int(argument(node, "index")) % size
        end = begin + 1
        written = inserted(graph, node, ATEN.unsqueeze.default, written, axis)
    else:
        begin, end, step = slice(*(argument(node, name) for name in ("start", "end", "step"))).indices(size)
        if step != 1:
            return False
    parts = [] if begin == 0 else [inserted(graph, node, ATEN.slice.Tensor, image, axis, 0, begin)]
    parts.append(written)
    parts += [] if end == size else [inserted(graph, node, ATEN.slice.Tensor, image, axis, end, size)]
    whole = written if len(parts) == 1 else inserted(graph, node, ATEN.cat.default, parts, axis)
    return replaced(graph, node, whole)


def _exchanged(graph: fx.GraphModule, node: fx.Node) -> bool:
    return replaced(graph, node, inserted(graph, node, ATEN.transpose.int, *arguments(node)))


def _with_stored(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write a concatenation of one activation and stored tensors as padding and a sum."""
    parts, axis = list(arguments(node)[0]), int(argument(node, "dim")) % len(shape_of(node))
    values = [parameter(graph, one) for one in parts]
    if values.count(None) != 1 or len(parts) == 1 or axis == 0:
        return False
    place, rank = values.index(None), len(shape_of(node))
    sizes = [shape_of(one)[axis] for one in parts]
    around = [0, 0] * (rank - 1 - axis) + [sum(sizes[:place]), sum(sizes[place + 1 :])]
    images = max(len(one) for one in values if one is not None)
    hole = torch.zeros(images, *shape_of(parts[place])[1:])
    filled = torch.cat([hole if one is None else one.detach() for one in values], axis)
    padded = inserted(graph, node, ATEN.pad.default, parts[place], around)
    kept = stored(graph, node, f"{node.name}_stored", filled)
    return replaced(graph, node, inserted(graph, node, ATEN.add.Tensor, padded, kept))


def _place(user: fx.Node) -> int | None:
    return int(arguments(user)[1]) if user.target is operator.getitem else None


def _chunked(graph: fx.GraphModule, node: fx.Node) -> bool:
    source, sizes = arguments(node)[:2]
    axis = int(argument(node, "dim"))
    whole = shape_of(source)[axis]
    equal = whole % sizes == 0 if isinstance(sizes, int) else len(set(sizes)) == 1
    if not equal:
        return False
    count = whole // sizes if isinstance(sizes, int) else len(sizes)
    return replaced(graph, node, inserted(graph, node, ATEN.chunk.default, source, count, axis))


def _unbound(graph: fx.GraphModule, node: fx.Node) -> bool:
    source = arguments(node)[0]
    axis = int(argument(node, "dim")) % len(shape_of(source))
    chunks = inserted(graph, node, ATEN.chunk.default, source, shape_of(source)[axis], axis)
    for user in list(node.users):
        piece = inserted(graph, user, operator.getitem, chunks, arguments(user)[1])
        replaced(graph, user, inserted(graph, user, ATEN.squeeze.dim, piece, axis))
    graph.graph.erase_node(node)
    return True


_FORMS: dict[Any, Callable[[fx.GraphModule, fx.Node], bool]] = {
    ATEN.split.Tensor: _chunked,
    ATEN.split_with_sizes.default: _chunked,
    ATEN.unbind.int: _unbound,
    ATEN.stack.default: _stacked,
    ATEN.narrow.default: _narrowed,
    ATEN.cat.default: _with_stored,
    ATEN.roll.default: _rolled,
    ATEN.max.dim: _largest,
    ATEN.repeat.default: _repeated,
    ATEN.swapaxes.default: _exchanged,
    ATEN.select_scatter.default: _scattered,
    ATEN.slice_scatter.default: _scattered,
    ATEN.index_select.default: _selected,
    ATEN.index.Tensor: _selected,
}
