"""Labels that say of every element of every activation which channel of the network it belongs to.

Operators that move values move the labels with them (the operator itself runs on the labels), operators that combine
two activations make labels equal, and layers begin new ones. No layer, block or architecture is known by name, so
residual sums, concatenations, splits, shuffles, gates, shared layers and flattening need no rules of their own. What
may mix channels (attention, norms over channels, operators that are not known) keeps all that enter and leave it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.compress.prune.operators import BINARY, MEANS, MOVING, NORMS, SPATIAL, UNARY
from edgeslim.errors import Refused
from edgeslim.model.graph import (
    ATEN,
    LAYERS,
    argument,
    arguments,
    channel_axis,
    output_nodes,
    parameter,
    shape_of,
    weight_name,
)

CANNOT = "its channels cannot be pruned:"
FIXED = 0  # the label of what must stay: the input's channels, all outputs


@dataclass(frozen=True)
class Labels:
    """The channel of everything; two elements with one label are the same channel of the network.

    `parameters` maps a parameter's qualified name to the labels along each of its dimensions (None: a dimension that
    no channel indexes); `activations` maps a node's name to the labels of its elements, batch of one; the results of
    an operator with several are called `NAME[0]` and so on.
    """

    parameters: Mapping[str, tuple[NDArray[np.int64] | None, ...]]
    activations: Mapping[str, Tensor]


def labels_of(graph: fx.GraphModule) -> Labels:
    """Return the labels of a traced network for one image; those that must stay are `FIXED`.

    Raises Refused, naming node and reason, for a network in which channels cannot be told apart.
    """
    follower = _Follower(graph)
    for node in graph.graph.nodes:
        follower.follow(node)
    for node in output_nodes(graph):
        follower.fix(node)
    return follower.labels()


class _Follower:
    """Follows labels through a graph; equal ones are joined in a union-find forest whose root is the smallest label."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self._graph = graph
        self._parent = [FIXED]
        self._of: dict[fx.Node, Tensor | tuple[Tensor, ...]] = {}
        self._parameters: dict[str, list[Tensor | None]] = {}
        self._producers: dict[str, Tensor] = {}  # a layer's weight -> the labels of what it produces

    def follow(self, node: fx.Node) -> None:
        """Give the elements of what `node` produces their labels."""
        if node.op == "placeholder":
            self._of[node] = torch.zeros(1, dtype=torch.int64).expand(shape_of(node))
        elif node.op == "call_function":
            self._of[node] = self._operator(node)

    def _operator(self, node: fx.Node) -> Tensor | tuple[Tensor, ...]:
        rules = (
            (LAYERS, self._layer),
            (UNARY, self._same),
            (NORMS, self._norm),
            (BINARY, self._binary),
            (SPATIAL, self._spatial),
            (MEANS, self._mean),
            (MOVING, self._move),
        )
        for targets, rule in rules:
            if node.target in targets:
                return rule(node)
        return self._mixed(node)

    def _mixed(self, node: fx.Node) -> Tensor | tuple[Tensor, ...]:
        """Keep all channels that enter and leave an operator which may mix them, as norms and attention do."""
        for source in node.all_input_nodes:
            found = self._of.get(source)
            for labels in found if isinstance(found, tuple) else () if found is None else (found,):
                self._join(labels, torch.zeros_like(labels))
        value = node.meta["val"]
        made = value if isinstance(value, list | tuple) else (value,)
        fixed = tuple(torch.zeros((), dtype=torch.int64).expand(one.shape) for one in made)
        return fixed if isinstance(value, list | tuple) else fixed[0]

    def _same(self, node: fx.Node) -> Tensor:
        return self._labels(node.args[0], node)

    def _norm(self, node: fx.Node) -> Tensor:
        labels = self._labels(node.args[0], node)
        for given in node.args[1:5]:
            self._index(given, [self._line(labels, 1)])
        return labels

    def _spatial(self, node: fx.Node) -> Tensor | tuple[Tensor, ...]:
        if len(shape_of(node)) != 4 or (node.target is ATEN.pad.default and len(arguments(node)[1]) > 4):
            return self._mixed(node)  # axis 1 holds no channels, or they are padded
        labels = self._labels(node.args[0], node)
        if _varying(labels) - {1}:
            self._join(labels, torch.zeros_like(labels))  # its windows mix channels, which lie along height or width
        line = self._line(labels, 1)
        return line.view(1, -1, 1, 1).expand(shape_of(node))

    def _labels(self, argument: Any, reader: fx.Node) -> Tensor:
        found = self._of.get(argument) if isinstance(argument, fx.Node) else None
        if not isinstance(found, Tensor):
            raise Refused(f"{CANNOT} `{reader.name}` ({reader.target}) reads `{argument}`, which is no activation")
        return found

    def _line(self, labels: Tensor, axis: int) -> Tensor:
        """Return the labels along one axis; those that vary along others too are joined across them."""
        first = labels
        for other in set(range(labels.dim())) - {axis}:
            first = first.narrow(other, 0, 1)
        if _varying(labels) - {axis}:
            self._join(first.expand_as(labels), labels)
        return first.reshape(-1)

    def _layer(self, node: fx.Node) -> Tensor:
        weight = parameter(self._graph, node.args[1])
        if weight is None:
            raise Refused(f"{CANNOT} `{node.name}` computes its weight while the network runs")
        labels = self._labels(node.args[0], node)
        linear = node.target is ATEN.linear.default
        entering = self._line(labels, channel_axis(node))
        groups = 1 if linear else groups_of(node)
        target = weight_name(node)
        leaving = self._producers.setdefault(target, self._new(len(weight)))
        self._tie_groups(entering.view(groups, -1), leaving.view(groups, -1), groups)
        inner = None if weight.shape[1] == 1 and groups > 1 else entering.view(groups, -1)[0]
        self._index(node.args[1], [leaving, inner, *[None] * (weight.dim() - 2)])
        if len(node.args) > 2:
            self._index(node.args[2], [leaving])
        shape = [*[1] * (len(shape_of(node)) - 1), -1] if linear else [1, -1, 1, 1]
        return leaving.view(shape).expand(shape_of(node))

    def _tie_groups(self, entering: Tensor, leaving: Tensor, groups: int) -> None:
        """Keep the groups of a convolution alike: (groups, channels of one) labels before and after it.

        With one input a group (depthwise) a group goes with its channel; with more, every group loses the same places.
        """
        if groups == 1:
            return
        if entering.shape[1] == 1:
            self._join(entering.expand_as(leaving), leaving)
            return
        for labels in (entering, leaving):
            self._join(labels[:1].expand_as(labels), labels)

    def _binary(self, node: fx.Node) -> Tensor:
        shape = shape_of(node)
        operands = [self._of[a] for a in node.args[:2] if isinstance(a, fx.Node) and a in self._of]
        tensors = [self._broadcast(o, shape, operands) for o in operands if isinstance(o, Tensor)]
        if not tensors:
            raise Refused(f"{CANNOT} `{node.name}` ({node.target}) reads no activation")
        widest = max(tensors, key=lambda one: len(_varying(one)))
        for other in tensors:
            if _varying(other) == _varying(widest):
                self._join(widest, other)
        if any(isinstance(own, Tensor) and self._lacks(own, shape, _varying(widest)) for own in operands):
            self._join(widest, torch.zeros_like(widest))  # its channels meet some that cannot go
        for given in node.args[:2]:
            constant = parameter(self._graph, given)
            if constant is not None:
                aligned = range(len(shape) - constant.dim(), len(shape))
                lines = [
                    self._line(widest, axis) if size > 1 and axis in _varying(widest) else None
                    for axis, size in zip(aligned, constant.shape, strict=True)
                ]
                self._index(given, lines)
        return widest

    def _lacks(self, own: Tensor, shape: tuple[int, ...], axes: set[int]) -> bool:
        """Tell whether an operand has several elements along one of these axes of the result, all of one label."""
        behind = len(shape) - own.dim()
        return any(a >= behind and own.shape[a - behind] > 1 and a - behind not in _varying(own) for a in axes)

    def _broadcast(self, labels: Tensor, shape: tuple[int, ...], operands: list[Any]) -> Tensor:
        """Return labels in a larger shape; a single channel that meets several others must stay."""
        spread = labels.broadcast_to(shape)
        grown = {a for a in range(len(shape)) if spread.stride(a) == 0 and shape[a] > 1}
        if any(isinstance(o, Tensor) and grown & _varying(o.broadcast_to(shape)) for o in operands):
            self._join(labels, torch.zeros_like(labels))
        return spread

    def _mean(self, node: fx.Node) -> Tensor:
        labels = first = self._labels(node.args[0], node)
        axes = {int(axis) % labels.dim() for axis in arguments(node)[1]}
        if axes & _varying(labels):
            self._join(labels, torch.zeros_like(labels))  # it mixes channels: they stay
        for axis in axes:
            first = first.narrow(axis, 0, 1)
        return first.reshape(shape_of(node))

    def _move(self, node: fx.Node) -> Tensor | tuple[Tensor, ...]:
        """Run the operator on the labels themselves."""
        if any(source not in self._of for source in node.all_input_nodes):
            return self._mixed(node)  # it moves parameters too, as tokens are
        if node.target is ATEN.slice.Tensor and argument(node, "step") != 1:
            whole = self._labels(node.args[0], node)
            if int(argument(node, "dim")) % whole.dim() in _varying(whole):
                self._join(whole, torch.zeros_like(whole))  # every n-th channel: none may move

        given = fx.node.map_arg(node.args, self._of.__getitem__)
        move: Any = ATEN.reshape.default if node.target is ATEN.view.default else node.target  # labels lie scattered
        moved = move(*given, **node.kwargs)
        if node.target is ATEN.select.int:
            source = self._labels(node.args[0], node)
            if int(arguments(node)[1]) % source.dim() in _varying(source):
                self._join(source, torch.zeros_like(source))  # an index into channels: none may move
        elif node.target is ATEN.squeeze.dim and not _varying(moved):
            self._join(moved, torch.zeros_like(moved))  # of a single channel, without which nothing would be left
        pieces = moved if isinstance(moved, list | tuple) else (moved,)
        tidy = tuple(self._rectangular(piece) for piece in pieces)
        return tidy if isinstance(moved, list | tuple) else tidy[0]

    def _rectangular(self, labels: Tensor) -> Tensor:
        """Return compact labels; where channels spread over several axes, all but the longest are removed together."""
        varying = _varying(labels)
        for axis in set(range(labels.dim())) - varying:
            labels = labels.narrow(axis, 0, 1).expand(labels.shape)
        if len(varying) > 1:
            for axis in varying - {max(varying, key=lambda a: labels.shape[a])}:
                self._join(labels.narrow(axis, 0, 1).expand_as(labels), labels)
        return labels

    def _new(self, count: int) -> Tensor:
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = self._parent[self._parent[label]]
            label = self._parent[label]
        return label

    def _join(self, a: Tensor, b: Tensor) -> None:
        a, b = torch.broadcast_tensors(a, b)
        for axis in range(a.dim()):
            if a.stride(axis) == 0 and b.stride(axis) == 0:
                a, b = a.narrow(axis, 0, 1), b.narrow(axis, 0, 1)
        pairs = torch.stack([a.reshape(-1), b.reshape(-1)], 1)
        for one, other in pairs.unique(dim=0).tolist():
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low

    def _index(self, argument: Any, lines: list[Tensor | None]) -> None:
        """Note which labels index the dimensions of a parameter; a second use joins them with those of the first."""
        if parameter(self._graph, argument) is None:
            return
        known = self._parameters.setdefault(str(argument.target), lines)
        for one, other in zip(known, lines, strict=True):
            if one is not None and other is not None:
                self._join(one, other)
                continue
            line = one if other is None else other
            if line is not None:  # in another use no channel indexes it
                self._join(line, torch.zeros_like(line))

    def fix(self, node: fx.Node) -> None:
        """Keep every channel of what `node` produces."""
        labels = self._labels(node, node)
        self._join(labels, torch.zeros_like(labels))

    def labels(self) -> Labels:
        """Return what was found."""
        roots = np.array([self._root(label) for label in range(len(self._parent))])

        def resolved(line: Tensor | None) -> NDArray[np.int64] | None:
            return None if line is None else roots[line.numpy()]

        parameters = {name: tuple(map(resolved, lines)) for name, lines in self._parameters.items()}
        table = torch.from_numpy(roots)
        activations = {}
        for node, labels in self._of.items():
            for piece, tensor in _pieces(node.name, labels):
                activations[piece] = _look_up(table, tensor)
        return Labels(parameters, activations)


def _pieces(name: str, labels: Tensor | tuple[Tensor, ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield a node's labels by name; those of an operator with several results as `NAME[0]` and so on."""
    if isinstance(labels, Tensor):
        yield name, labels
    else:
        yield from ((f"{name}[{number}]", piece) for number, piece in enumerate(labels))


def _look_up(table: Tensor, labels: Tensor) -> Tensor:
    """Return table[labels] without spreading what is constant along an axis."""
    return table[compact(labels)].expand(labels.shape)


def compact(labels: Tensor) -> Tensor:
    """Return labels with one element along each axis in which they are only repeated."""
    for axis in range(labels.dim()):
        if labels.stride(axis) == 0:
            labels = labels.narrow(axis, 0, 1)
    return labels


def _varying(labels: Tensor) -> set[int]:
    """Return the axes along which labels differ."""
    return {
        axis
        for axis, size in enumerate(labels.shape)
        if size > 1 and labels.stride(axis) != 0 and not bool((labels == labels.narrow(axis, 0, 1)).all())
    }


def groups_of(node: fx.Node) -> int:
    """Return the number of groups of a convolution."""
    return int(arguments(node)[6]) if len(arguments(node)) > 6 else 1
