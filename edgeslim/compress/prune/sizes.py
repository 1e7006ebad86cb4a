"""How the operators of a network shrink with the widths of its groups of channels, and how long they then take."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from edgeslim.compress.prune.blocks import Block
from edgeslim.compress.prune.channels import Channels
from edgeslim.compress.prune.labels import groups_of
from edgeslim.model.fitting.least_squares import geometry, more_behind
from edgeslim.model.graph import ATEN, IN_PLACE, arguments, channel_axis, layers_of, shape_of, weight_name
from edgeslim.model.operator import Operator

Widths = Mapping[str, int]
ELEMENTWISE = {ATEN.add.Tensor: "add", ATEN.mul.Tensor: "mul"}


@dataclass(frozen=True)
class Side:
    """The channels on one side of an operator: `fixed` ones, and for each group how many for each of its channels."""

    fixed: int
    groups: Mapping[str, int]

    def count(self, widths: Widths) -> int:
        """Return the number of channels at some widths."""
        return self.fixed + sum(times * widths[group] for group, times in self.groups.items())


@dataclass(frozen=True)
class Place:
    """An operator of the network as it is, and what its channels depend on."""

    operator: Operator
    entering: Side
    leaving: Side
    weight: str | None = None  # its name, where there is one: layers may share it
    blocks: tuple[str, ...] = ()  # those it goes with

    @property
    def together(self) -> bool:
        """Tell whether the channels out follow from the channels in."""
        one = self.operator
        return one.depthwise or one.kind in ("add", "mul") or (one.groups > 1 and self.entering == self.leaving)

    def is_there(self, widths: Widths) -> bool:
        """Tell whether none of the blocks it goes with is gone."""
        return all(widths[block] for block in self.blocks)

    def at(self, channels_in: int, channels_out: int) -> Operator:
        """Return the operator with other channel counts; a depthwise convolution has as many groups as inputs."""
        groups = self.operator.groups
        if groups > 1 and groups == self.operator.channels_in:
            groups = channels_in
        return replace(self.operator, channels_in=channels_in, channels_out=channels_out, groups=groups)


@dataclass(frozen=True)
class Sizes:
    """The operators of a network whose cost depends on widths, and the network's own widths; that of a block is 1."""

    dense: Widths
    places: tuple[Place, ...]

    def operators(self, widths: Widths) -> list[Operator]:
        """Return the operators at some widths."""
        return [one for _, one in self._places_at(widths)]

    def _places_at(self, widths: Widths) -> list[tuple[Place, Operator]]:
        return [
            (place, place.at(place.entering.count(widths), place.leaving.count(widths)))
            for place in self.places
            if place.is_there(widths)
        ]

    def macs(self, widths: Widths) -> int:
        """Return the multiply-accumulates of convolutions and linear layers at some widths."""
        return sum(
            one.channels_out * one.output_size[0] * one.output_size[1] * _weights_of_one_output(one)
            for one in self.operators(widths)
            if one.kind in ("conv", "linear")
        )

    def parameters(self, widths: Widths) -> int:
        """Return the number of weights of convolutions and linear layers at some widths, without biases."""
        weights = {
            place.weight or number: one.channels_out * _weights_of_one_output(one)
            for number, (place, one) in enumerate(self._places_at(widths))
            if one.kind in ("conv", "linear")
        }
        return sum(weights.values())


def _weights_of_one_output(one: Operator) -> int:
    return one.channels_in // one.groups * one.kernel[0] * one.kernel[1]


def sizes_of(
    graph: fx.GraphModule, channels: Channels, blocks: Mapping[str, Block] | None = None, *, sums_are_free: bool = False
) -> Sizes:
    """Return how a traced network's operators depend on the widths of its groups and on which blocks are there.

    `sums_are_free`: the runtime adds inside the convolution before it, so that a sum is no operator of its own.
    """
    owner = {label: name for name, group in channels.groups.items() for label in group.labels}
    blocks = blocks or {}
    places = []
    for node in layers_of(graph).values():
        lines = channels.labels.parameters[weight_name(node)]
        leaving = _side(lines[0], owner, channels)
        source = channels.labels.activations[str(node.args[0])]
        entering = _side(_line(source, channel_axis(node)), owner, channels)
        weight = weight_name(node)
        widths = _widths(channels)
        operator = operator_of(graph, node, (entering.count(widths), leaving.count(widths)))
        places.append(Place(operator, entering, leaving, weight, _blocks_with(node, blocks)))
    for node in graph.graph.nodes:
        kind = ELEMENTWISE.get(IN_PLACE.get(node.target, node.target))
        if kind == "add" and sums_are_free:
            continue
        shape = shape_of(node) if kind else ()
        if kind and len(shape) == 4 and all(_is_activation_of(shape, argument) for argument in node.args[:2]):
            side = _side(_line(channels.labels.activations[node.name], 1), owner, channels)
            count = side.count(_widths(channels))
            operator = Operator(kind, shape[2], shape[3], count, count)
            places.append(Place(operator, side, side, blocks=_blocks_with(node, blocks)))
    return Sizes({**_widths(channels), **dict.fromkeys(blocks, 1)}, tuple(places))


def _blocks_with(node: fx.Node, blocks: Mapping[str, Block]) -> tuple[str, ...]:
    return tuple(name for name, block in blocks.items() if node.name in block.gone or node.name == block.end)


def _widths(channels: Channels) -> dict[str, int]:
    return {name: group.width for name, group in channels.groups.items()}


def _is_activation_of(shape: tuple[int, ...], argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op != "get_attr" and shape_of(argument) == shape


def _line(labels: Any, axis: int) -> NDArray[np.int64]:
    """Return the labels along one axis of an activation."""
    index = [slice(0, 1)] * labels.dim()
    index[axis] = slice(None)
    found: NDArray[np.int64] = labels[tuple(index)].reshape(-1).numpy()
    return found


def _side(line: NDArray[np.int64] | None, owner: Mapping[int, str], channels: Channels) -> Side:
    names = Counter(owner.get(label) for label in ([] if line is None else line.tolist()))
    fixed = names.pop(None, 0)
    return Side(fixed, {name: count // channels.groups[name].width for name, count in names.items() if name})


def operator_of(graph: fx.GraphModule, node: fx.Node, counts: tuple[int, int] | None = None) -> Operator:
    """Return a layer as an operator; `counts`: the channels it reads and writes, by default its own."""
    weight = graph.get_parameter(weight_name(node))
    counts = counts or (int(weight.shape[1]) * groups_of(node), int(weight.shape[0]))
    if node.target is ATEN.linear.default:
        return Operator("linear", 1, 1, *counts)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    stride, padding, dilation = geometry(node, weight)
    source = shape_of(arguments(node)[0])
    more = more_behind(node, weight)  # which an Operator has as input
    return Operator(
        "conv", source[2] + more[0], source[3] + more[1], *counts, kernel, stride, padding, dilation, groups_of(node)
    )


def timed_alone(graph: fx.GraphModule, layers: Iterable[str]) -> dict[str, Operator]:
    """Return those of some layers that can be timed as single operators, by name.

    A linear layer that is applied at many places at once is none.
    """
    nodes = layers_of(graph)
    return {
        name: operator_of(graph, nodes[name])
        for name in layers
        if nodes[name].target is not ATEN.linear.default or len(shape_of(nodes[name])) == 2
    }


@dataclass(frozen=True)
class Times:
    """Measured times of a network's operators on a grid of channel counts; seconds."""

    sizes: Sizes
    grids: tuple[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]], ...]

    def latency_s(self, widths: Widths) -> float:
        """Return the sum over the operators; between measured channel counts it is linear."""
        total = 0.0
        for place, (inputs, outputs, seconds) in zip(self.sizes.places, self.grids, strict=True):
            if place.is_there(widths):
                total += _between(inputs, outputs, seconds, place.entering.count(widths), place.leaving.count(widths))
        return total


def grid(sizes: Sizes, studied: Mapping[str, Sequence[int]]) -> list[list[list[Operator]]]:
    """Return for every place the operators to measure: rows for channels in, columns for channels out, ascending.

    Counts are those at which all groups of a side have the same rank in their list of studied widths. A side of one
    group thus has every studied width on its grid.
    """
    ranks = max((len(widths) for widths in studied.values()), default=1)
    levels = [
        {name: _rank(studied.get(name, (width,)), rank) for name, width in sizes.dense.items()} for rank in range(ranks)
    ]
    rows = []
    for place in sizes.places:
        pairs = sorted({(place.entering.count(level), place.leaving.count(level)) for level in levels})
        if place.together:
            rows.append([[place.at(*pair)] for pair in pairs])
        else:
            inputs, outputs = (sorted(set(counts)) for counts in zip(*pairs, strict=True))
            rows.append([[place.at(i, o) for o in outputs] for i in inputs])
    return rows


def _rank(widths: Sequence[int], rank: int) -> int:
    return widths[min(rank, len(widths) - 1)]


def times_of(sizes: Sizes, rows: Sequence[Sequence[Sequence[Operator]]], seconds: Mapping[Operator, float]) -> Times:
    """Return the times of a network from those of the operators of its `grid`."""
    grids = []
    for columns in rows:
        inputs = np.array([row[0].channels_in for row in columns])
        outputs = np.array([one.channels_out for one in columns[0]])
        grids.append((inputs, outputs, np.array([[seconds[one] for one in row] for row in columns])))
    return Times(sizes, tuple(grids))


def _between(
    inputs: NDArray[np.int64], outputs: NDArray[np.int64], seconds: NDArray[np.float64], entering: int, leaving: int
) -> float:
    across = [float(np.interp(leaving, outputs, row)) if len(row) > 1 else float(row[0]) for row in seconds]
    return float(np.interp(entering, inputs, across))
