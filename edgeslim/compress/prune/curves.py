"""What a network loses when a group of channels becomes narrower or a block goes: what allocation works on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.cache import graph_sha256, remember
from edgeslim.compress.prune.blocks import Block, drop
from edgeslim.compress.prune.channels import Channels, Group, legal_widths, surviving_rows
from edgeslim.compress.prune.importance import (
    Consumer,
    consumers_of,
    criterion_order,
    gradients_of,
    moments_by_layer,
    obs_order,
)
from edgeslim.compress.prune.labels import groups_of
from edgeslim.model.fitting.least_squares import Moments, from_matrix, matrix, regularized
from edgeslim.model.fitting.reconstruct import reconstruct
from edgeslim.model.graph import (
    ATEN,
    as_arrays,
    copy_of,
    first_of,
    forward,
    layers_of,
    macs_of,
    outputs_from,
    parameter,
    two_at_least,
    values_before,
)
from edgeslim.progress import Tell

MOST_WIDTHS = 8  # legal widths of one group that are studied
HELD_BYTES = 1 << 30  # moments held at a time; what does not fit is taken in another pass over the images
RIDGE = 1e-3
BLOCK_MACS = 2.5e11  # for the images on which the layers behind a block are refitted
BLOCK_IMAGES_LEAST = 64

_Version = list[tuple[Tensor, Tensor, Tensor]]  # parameters, what they become, and what they were


@dataclass(frozen=True)
class Images:
    """Batches (n, C, H, W) in memory with the hash of their values; the task's targets where they are known."""

    batches: tuple[Tensor, ...]
    sha256: str
    targets: NDArray[Any] | None = field(default=None)

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(len(batch) for batch in self.batches)

    def first(self, count: int) -> "Images":
        """Return the batches that hold the first `count` images, two batches at least where there are two images."""
        batches = first_of(self.batches, count)
        held = sum(len(batch) for batch in batches)
        targets = None if self.targets is None else self.targets[:held]
        return Images(tuple(two_at_least(batches)), f"{self.sha256}, the first {held}", targets)


@dataclass(frozen=True)
class Curve:
    """One group: the order in which its channels go, and for each legal width what is lost there.

    Of a block the widths are 1, it is there, and 0.

    `divergence`: of the answers from the dense network's, as the task measures it, the mean of the images; `score`:
    the mean of the task's marks, which where there are no targets are held against the dense network.
    """

    group: str
    order: tuple[int, ...]
    widths: tuple[int, ...]  # descending, the group's own first
    divergence: tuple[float, ...]
    score: tuple[float, ...]

    def removed(self, width: int) -> list[int]:
        """Return the channels that are gone at a width."""
        return sorted(self.order[: len(self.order) - width])


def studied_widths(channels: Channels, group: str, multiple: int) -> list[int]:
    """Return at most `MOST_WIDTHS` legal widths, descending, spread evenly over all of them."""
    legal = legal_widths(channels, group, multiple)
    if len(legal) <= MOST_WIDTHS:
        return legal
    chosen = np.unique(np.linspace(0, len(legal) - 1, MOST_WIDTHS).round().astype(int))
    return [legal[i] for i in chosen]


def study(
    graph: fx.GraphModule,
    channels: Channels,
    blocks: Mapping[str, Block],
    criterion: str,
    multiple: int,
    calibration: Images,
    selection: Images,
    task: ModuleType,
    store: Path | None,
    progress: Tell,
) -> dict[str, Curve]:
    """Return the curve of every group and block; `graph` takes batches (graph.batched).

    Channels are ordered by `criterion` ("obs", or one of importance.CRITERIA) on the calibration images; at each width
    the layers that read the group are refitted, the rest of the network is as it was, and what is lost is measured on
    the selection images. Behind a block that is gone all layers are refitted (model/reconstruct.py), on
    fewer images where the network is large. Each curve is kept in the store as soon as it is there.
    """
    network = graph_sha256(graph)
    curves: dict[str, Curve] = {}
    widths = {name: studied_widths(channels, name, multiple) for name in channels.groups}
    pruned = {name: group for name, group in channels.groups.items() if len(widths[name]) > 1}
    laboratory: _Laboratory | None = None

    def in_the_laboratory() -> _Laboratory:
        nonlocal laboratory
        laboratory = laboratory or _Laboratory(graph, channels, criterion, calibration, selection, pruned, task)
        return laboratory

    def found(name: str, choices: list[int], how: str, compute: Callable[[], dict[str, Any]]) -> Curve:
        depends_on = [network, name, how, choices, calibration.sha256, selection.sha256, task.__name__]
        one = remember(store, "curve", depends_on, compute)
        return Curve(name, tuple(one["order"]), tuple(choices), tuple(one["divergence"]), tuple(one["score"]))

    for number, (name, group) in enumerate(pruned.items()):
        progress("studying what each group of channels is worth", number, len(pruned))

        def narrower(group: Group = group) -> dict[str, Any]:
            return in_the_laboratory().curve(group, widths[group.name])

        curves[name] = found(name, widths[name], criterion, narrower)
    for number, (name, block) in enumerate(blocks.items()):
        progress("studying what each residual block is worth", number, len(blocks))

        def gone(block: Block = block) -> dict[str, Any]:
            return in_the_laboratory().block_curve(block)

        curves[name] = found(name, [1, 0], "block", gone)
    return curves


class _Laboratory:
    """A copy of a network in which one thing at a time is made narrower, with the dense answers to compare with."""

    def __init__(
        self,
        graph: fx.GraphModule,
        channels: Channels,
        criterion: str,
        calibration: Images,
        selection: Images,
        groups: Mapping[str, Group],
        task: ModuleType,
    ) -> None:
        self._task = task
        self._graph, self._copy = graph, copy_of(graph)
        self._channels, self._criterion = channels, criterion
        self._calibration, self._selection = calibration, selection
        self._consumers = {name: consumers_of(graph, channels, group) for name, group in groups.items()}
        self._gradients = gradients_of(graph, calibration.batches, task) if criterion == "taylor" else {}
        self._moments: dict[str, Moments] = {}
        with torch.no_grad():
            self._dense = [forward(graph, batch) for batch in selection.batches]

    @torch.no_grad()
    def curve(self, group: Group, widths: Sequence[int]) -> dict[str, Any]:
        """Return what `Curve` holds of a group."""
        consumers = self._consumers[group.name]
        self._gather(group.name)
        if self._criterion == "obs":
            order = obs_order(self._graph, consumers, self._moments, group.width)
        else:
            order = criterion_order(self._graph, self._channels, group, self._criterion, self._gradients)
        versions = [self._refitted(consumers, order[: group.width - width]) for width in widths]
        return _plain(order, self._losses([one.layer for one in consumers], versions))

    @torch.no_grad()
    def block_curve(self, block: Block) -> dict[str, Any]:
        """Return what `Curve` holds of a block."""
        without = copy_of(self._graph)
        drop(without, [block])
        images = self._calibration.first(max(round(BLOCK_MACS / max(macs_of(self._graph), 1)), BLOCK_IMAGES_LEAST))
        reconstruct(self._graph, without, surviving_rows(self._channels, {}), images.batches)
        return _plain([0], [self._own, self._lost(without)])

    def _gather(self, name: str) -> None:
        """Make sure the moments of a group's consumers are there, with those of as many later groups as fit."""
        if all(consumer.layer in self._moments for consumer in self._consumers[name]):
            return
        wanted: dict[str, int] = {}
        names = list(self._consumers)
        for later in names[names.index(name) :]:
            more = {c.layer: self._bytes(c.layer) for c in self._consumers[later]}
            if wanted and sum({**wanted, **more}.values()) > HELD_BYTES:
                break
            wanted |= more
        self._moments = moments_by_layer(self._graph, wanted, self._calibration.batches)

    def _bytes(self, layer: str) -> int:
        weight = parameter(self._graph, layers_of(self._graph)[layer].args[1])
        inputs = 0 if weight is None else weight[0].numel()
        return 8 * inputs * inputs

    def _refitted(self, consumers: Sequence[Consumer], removed: Sequence[int]) -> _Version:
        """Return the parameters of the layers that read a group, with some channels gone and the rest refitted."""
        changed: _Version = []
        for consumer in consumers if removed else ():
            node = layers_of(self._copy)[consumer.layer]
            own = _parameters(self._copy, node)
            before = [one.clone() for one in own]
            _refit(self._copy, node, consumer, removed, self._moments[consumer.layer])
            changed += [(one, one.clone(), old) for one, old in zip(own, before, strict=True)]
            for one, old in zip(own, before, strict=True):
                one.copy_(old)
        return changed

    def _losses(self, layers: Sequence[str], versions: Sequence[_Version]) -> list[tuple[float, float]]:
        """Return divergence and score of the copy in some versions, which differ in some layers.

        What lies before the first of them is computed once for all; without a change nothing is.
        """
        narrower = [one for one in versions if one]
        sums = np.zeros((len(narrower), 2))
        first = next((node for name, node in layers_of(self._copy).items() if name in layers), None)
        for number, batch in enumerate(self._selection.batches if narrower else ()):
            if first is None:
                raise TypeError("only layers that read a group change with it")
            before = values_before(self._copy, first, batch)
            for place, version in enumerate(narrower):
                for changed, value, _ in version:
                    changed.copy_(value)
                sums[place] += self._lost_on(number, outputs_from(self._copy, before))
                for changed, _, value in version:
                    changed.copy_(value)
        found = iter(sums / len(self._selection))
        return [(float(a), float(b)) for a, b in (next(found) if one else self._own for one in versions)]

    @cached_property
    def _own(self) -> tuple[float, float]:
        """What the network loses as it is: nothing, and its score."""
        return self._lost(self._graph)

    def _lost(self, network: fx.GraphModule) -> tuple[float, float]:
        batches = enumerate(self._selection.batches)
        sums = sum((self._lost_on(number, forward(network, batch)) for number, batch in batches), np.zeros(2))
        divergence, score = sums / len(self._selection)
        return float(divergence), float(score)

    def _lost_on(self, number: int, outputs: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return divergence and marks, summed over one batch of the selection images."""
        dense, targets = self._dense[number], self._selection.targets
        start = sum(len(batch) for batch in self._selection.batches[:number])
        wanted = None if targets is None else targets[start : start + len(outputs[0])]
        marks = self._task.marks(as_arrays(outputs), wanted, as_arrays(dense))
        return np.array([float(self._task.divergence(outputs, dense)), float(marks.sum())])


def _plain(order: Sequence[int], losses: Sequence[tuple[float, float]]) -> dict[str, Any]:
    divergence, score = zip(*losses, strict=True)
    return {"order": list(order), "divergence": list(divergence), "score": list(score)}


def _refit(
    copy: fx.GraphModule,
    node: fx.Node,
    consumer: Consumer,
    removed: Sequence[int],
    moments: Moments,
) -> None:
    """Zero what reads the removed channels in a layer, and fit the rest to the outputs it had."""
    weight = parameter(copy, node.args[1])
    if weight is None or not removed:
        return
    groups = 1 if node.target is ATEN.linear.default else groups_of(node)
    before = matrix(weight, groups)
    inputs = before.shape[1]
    gone = np.unique(consumer.columns[list(removed)].reshape(-1) % inputs)
    kept = torch.from_numpy(np.setdiff1d(np.arange(inputs), gone))
    xx = regularized(moments.centred()[0], RIDGE)
    after = torch.zeros_like(before)
    factor = torch.linalg.cholesky(xx[:, kept][:, :, kept])
    after[:, kept] = torch.cholesky_solve(xx[:, kept] @ before, factor)
    weight.copy_(from_matrix(after, weight))
    shift = ((moments.x / moments.rows).unsqueeze(1) @ (before - after)).reshape(-1)  # of the mean output
    carrier = _mean_carrier(copy, node)
    if carrier is not None:
        where, sign = carrier
        where += sign * shift.to(where.dtype)


def _mean_carrier(graph: fx.GraphModule, node: fx.Node) -> tuple[Tensor, float] | None:
    """Return the parameter that can move a layer's mean output: its bias, or the mean of the batch norm behind it."""
    bias = parameter(graph, node.args[2] if len(node.args) > 2 else None)
    if bias is not None:
        return bias, 1.0
    readers = list(node.users)
    if len(readers) == 1 and readers[0].target is ATEN.batch_norm.default:
        mean = parameter(graph, readers[0].args[3])
        return None if mean is None else (mean, -1.0)
    return None


def _parameters(graph: fx.GraphModule, node: fx.Node) -> list[Tensor]:
    """Return what fitting a layer changes: its weight, and what carries its mean."""
    weight, carrier = parameter(graph, node.args[1]), _mean_carrier(graph, node)
    return [one for one in (weight, None if carrier is None else carrier[0]) if one is not None]
