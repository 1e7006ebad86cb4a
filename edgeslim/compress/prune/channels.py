"""Channels that can only be removed together, and the network without some of them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from edgeslim.compress.prune.labels import FIXED, Labels, groups_of, labels_of
from edgeslim.errors import BadInput, near_misses
from edgeslim.model.graph import ATEN, WITH_SIZES, argument, arguments, copy_of, drop_unused, input_of, shape_of, trace

Removed = Mapping[str, Collection[int]]  # a group's name -> indices below its width
PIECES = {ATEN.chunk.default, ATEN.split.Tensor, ATEN.split_with_sizes.default}


@dataclass(frozen=True)
class Group:
    """Interchangeable channels: each is removed everywhere at once, and removing any changes the same shapes."""

    name: str  # the first layer that produces them, as the network's module is called
    labels: tuple[int, ...]  # one for each channel, in the order of that layer's outputs

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.labels)


@dataclass(frozen=True)
class Channels:
    """The groups of a network by name, in execution order, and where each of their channels lies."""

    groups: Mapping[str, Group]
    labels: Labels

    def kept(self, removed: Removed) -> NDArray[np.bool_]:
        """Return for each label whether it stays; BadInput for a group or channel that is unknown, or would vanish."""
        gone: list[int] = []
        for name, indices in removed.items():
            if name not in self.groups:
                raise BadInput(f"no group of channels `{name}`{near_misses(name, self.groups)}")
            group = self.groups[name]
            if outside := sorted(i for i in indices if not 0 <= i < group.width):
                raise BadInput(f"`{name}` has {group.width} channels, 0 to {group.width - 1}; there is no {outside[0]}")
            if len(set(indices)) == group.width:
                raise BadInput(f"`{name}` would vanish: all of its {group.width} channels were to be removed")
            gone += [group.labels[i] for i in indices]
        highest = max((int(labels.max()) for labels in self.labels.activations.values()), default=0)
        stays = np.ones(highest + 1, bool)
        stays[gone] = False
        return stays


def channels_of(graph: fx.GraphModule) -> Channels:
    """Return the groups of channels of a traced network for one image.

    Raises Refused, naming node and reason, for a network in which channels cannot be told apart.
    """
    labels = labels_of(graph)
    return Channels(_groups_of(labels), labels)


def legal_widths(channels: Channels, group: str, multiple: int) -> list[int]:
    """Return the widths a group may have, descending, its own first: every layer's count on a multiple.

    A layer may hold several elements of each channel (a concatenation with itself, say) or channels of other groups
    too; a narrower width is legal when what the group contributes to every layer's outputs is a multiple.
    """
    own = channels.groups[group]
    first = own.labels[0]
    counts = {
        int((labels[0] == first).sum())
        for labels in channels.labels.parameters.values()
        if len(labels) > 1 and labels[0] is not None
    }
    return [own.width] + [
        w for w in range(own.width - 1, 0, -1) if all(w * count % multiple == 0 for count in counts if count)
    ]


def cut(graph: fx.GraphModule, channels: Channels, removed: Removed) -> fx.GraphModule:
    """Return a copy of the graph without some channels of some groups, its nodes named as before.

    Raises BadInput as `Channels.kept`.
    """
    stays = channels.kept(removed)
    pruned = copy_of(graph)
    drop_unused(pruned)  # a module that the network owns under a second name
    for name, labels in channels.labels.parameters.items():
        _narrow(pruned, name, labels, stays)
    for node in pruned.graph.nodes:
        _rewrite(node, channels.labels.activations, stays)
    pruned.graph.lint()
    pruned.recompile()
    return pruned


def without(graph: fx.GraphModule, channels: Channels, removed: Removed) -> fx.GraphModule:
    """Return what `cut` returns, traced anew: its nodes carry the new shapes."""
    return trace(cut(graph, channels, removed), shape_of(input_of(graph)))


def surviving_rows(channels: Channels, removed: Removed) -> dict[str, NDArray[np.int64]]:
    """Return for each parameter which indices of its first dimension stay."""
    stays = channels.kept(removed)
    lines = {name: labels[0] for name, labels in channels.labels.parameters.items()}
    return {name: np.flatnonzero(stays[line]) for name, line in lines.items() if line is not None}


def _groups_of(labels: Labels) -> dict[str, Group]:
    """Gather channels that lie in the same parameters and activations equally often."""
    parameters = labels.parameters
    places: dict[int, dict[tuple[str, int], int]] = {}
    first: dict[int, str] = {}
    for name, axis, line in _lines(labels):
        for label, count in zip(*np.unique(line, return_counts=True), strict=True):
            places.setdefault(int(label), {})[name, axis] = int(count)
            if axis == 0 and len(parameters[name]) > 1:
                first.setdefault(int(label), name)
    alike: dict[tuple[Any, ...], list[int]] = {}
    for label in sorted(first, key=lambda one: (list(parameters).index(first[one]), one)):
        if label != FIXED:
            alike.setdefault(tuple(sorted(places[label].items())), []).append(label)
    groups: dict[str, Group] = {}
    for members in alike.values():
        base = first[members[0]].removesuffix(".weight")
        name, number = base, 1
        while name in groups:
            number += 1
            name = f"{base}#{number}"
        groups[name] = Group(name, tuple(members))
    return groups


def _lines(labels: Labels) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    """Yield (name, axis, labels) of everything that channels index; an activation's axis is -1, each label once."""
    for name, lines in labels.parameters.items():
        yield from ((name, axis, line) for axis, line in enumerate(lines) if line is not None)
    for name, tensor in labels.activations.items():
        yield name, -1, _compact(tensor).unique().numpy()


def _narrow(
    graph: fx.GraphModule, name: str, labels: tuple[NDArray[np.int64] | None, ...], stays: NDArray[np.bool_]
) -> None:
    """Take what does not stay out of one parameter or buffer."""
    owner_name, _, attribute = name.rpartition(".")
    owner = graph.get_submodule(owner_name)
    value: Tensor = getattr(owner, attribute)
    narrowed = value.detach()
    for axis, line in enumerate(labels):
        if line is not None:
            narrowed = narrowed.index_select(axis, torch.from_numpy(np.flatnonzero(stays[line])))
    if narrowed.shape == value.shape:
        return
    if isinstance(value, nn.Parameter):
        setattr(owner, attribute, nn.Parameter(narrowed.clone(), requires_grad=value.requires_grad))
    else:
        setattr(owner, attribute, narrowed.clone())


def _rewrite(node: fx.Node, activations: Mapping[str, Tensor], stays: NDArray[np.bool_]) -> None:
    """Correct the sizes that are written into one node."""

    def sizes(name: str) -> list[int]:
        labels = activations[name]
        return [sum(_kept_along(labels, axis, stays)) for axis in range(labels.dim())]

    if node.target in WITH_SIZES:
        batch = arguments(node)[1][0]
        node.args = (node.args[0], [batch, *sizes(node.name)[1:]])
    elif node.target in PIECES:
        axis = int(arguments(node)[2]) if len(arguments(node)) > 2 else 0
        count = sum(name.startswith(f"{node.name}[") for name in activations)
        node.target = ATEN.split_with_sizes.default
        node.args = (node.args[0], [sizes(f"{node.name}[{i}]")[axis] for i in range(count)], axis)
    elif node.target is ATEN.slice.Tensor:
        axis, start = (int(a) for a in (*arguments(node)[1:3], 0, 0)[:2])
        if argument(node, "step") != 1:
            return  # along an axis of which nothing goes
        begin = sum(_kept_along(activations[str(node.args[0])], axis, stays)[:start])
        node.args = (node.args[0], axis, begin, begin + sizes(node.name)[axis])
    elif node.target in (ATEN.conv2d.default, ATEN.conv2d.padding) and groups_of(node) > 1:
        entering, leaving = sizes(str(node.args[0]))[1], sizes(node.name)[1]
        weight_inputs = activations[str(node.args[0])].shape[1] // groups_of(node)
        groups = entering if weight_inputs == 1 else groups_of(node)
        node.args = (*node.args[:6], groups)
        if leaving % groups:
            raise RuntimeError(f"{node.name}: {leaving} channels do not divide into {groups} groups")


def _kept_along(labels: Tensor, axis: int, stays: NDArray[np.bool_]) -> list[bool]:
    """Tell for each index along one axis whether anything of it stays."""
    axis %= labels.dim()
    kept = torch.from_numpy(stays)[_compact(labels, axis)]
    found: list[bool] = kept.movedim(axis, 0).reshape(kept.shape[axis], -1).any(1).tolist()
    return found


def _compact(labels: Tensor, but: int | None = None) -> Tensor:
    """Return labels with one index along the axes on which they are constant, `but` one axis left whole."""
    for axis in range(labels.dim()):
        if axis != but and labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    return labels
