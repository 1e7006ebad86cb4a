"""In which order the channels of a group can go, the least important first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.compress.prune.channels import Channels, Group
from edgeslim.compress.prune.labels import groups_of
from edgeslim.errors import Refused
from edgeslim.model.fitting.least_squares import MOST_ROWS, Moments, matrix, moments_at, regularized
from edgeslim.model.graph import ATEN, LAYERS, arguments, copy_of, forward, layers_of, parameter, weight_name

RIDGE = 1e-4
SHARE_AT_ONCE = 32  # of the channels still there, one in so many goes before the costs are looked at again


@dataclass(frozen=True)
class Consumer:
    """A layer that reads a group's channels: `columns` (channels, b) are their places among its unfolded inputs."""

    layer: str
    columns: NDArray[np.int64]


def consumers_of(graph: fx.GraphModule, channels: Channels, group: Group) -> list[Consumer]:
    """Return the layers in which a group's channels are mixed with others; depthwise ones only pass them on."""
    found = []
    seen = set()
    for name, node in layers_of(graph).items():
        target = weight_name(node)
        line = channels.labels.parameters[target][1]
        if line is None or target in seen:
            continue
        seen.add(target)
        order = np.argsort(line, kind="stable")
        begins = np.searchsorted(line[order], group.labels)
        ends = np.searchsorted(line[order], group.labels, side="right")
        if begins[0] == ends[0]:
            continue
        inputs = np.stack([order[a:b] for a, b in zip(begins, ends, strict=True)])
        weight = parameter(graph, node.args[1])
        taps = 1 if weight is None else int(np.prod(weight.shape[2:]))
        columns = (inputs[:, :, None] * taps + np.arange(taps)).reshape(group.width, -1)
        found.append(Consumer(name, columns))
    return found


class _Watching(fx.Interpreter):
    """Runs a graph and shows what enters and leaves some of its layers."""

    def __init__(self, graph: fx.GraphModule, see: Mapping[str, Callable[[fx.Node, Tensor, Tensor], None]]) -> None:
        super().__init__(graph)
        self._see = see

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._see:
            self._see[n.name](n, self.env[arguments(n)[0]], value)
        return value


@torch.no_grad()
def moments_by_layer(graph: fx.GraphModule, layers: Iterable[str], images: Sequence[Tensor]) -> dict[str, Moments]:
    """Return the moments of some layers' inputs and outputs over batches of images; the graph takes any batch."""
    found: dict[str, Moments] = {}
    total = sum(len(batch) for batch in images)

    def see(node: fx.Node, x: Tensor, y: Tensor) -> None:
        weight = parameter(graph, node.args[1])
        if weight is None:
            raise TypeError(f"{node.name} has no weight of its own")
        places = y[0].numel() // len(weight)
        some = moments_at(node, weight, x, y, min(1.0, MOST_ROWS / (places * total)))
        found[node.name] = found[node.name] + some if node.name in found else some

    watching = _Watching(graph, dict.fromkeys(layers, see))
    for batch in images:
        watching.run(batch)
    return found


def obs_order(
    graph: fx.GraphModule, consumers: Sequence[Consumer], moments: Mapping[str, Moments], width: int
) -> list[int]:
    """Return a group's channels in the order in which they can go, by Optimal Brain Surgeon over all its consumers.

    Removing the unfolded inputs g from a layer with H = X'X and weights W costs tr(W_g' ((H^-1)_gg)^-1 W_g) of its
    squared error when the remaining weights make up for it as well as they can (Hassibi & Stork 1993, for blocks);
    afterwards W and H^-1 are those of the layer without g. Costs are taken relative to a layer's output and summed.
    """
    states = [_State(graph, consumer, moments[consumer.layer]) for consumer in consumers]
    left = np.arange(width)
    order: list[int] = []
    while len(left) > 1:
        cost = torch.stack([state.costs(left) for state in states]).sum(0) if states else torch.zeros(len(left))
        count = max(1, len(left) // SHARE_AT_ONCE)
        ranks = torch.argsort(cost, stable=True)
        stays = cost[ranks[count]]
        for rank in ranks[:count].numpy():
            channel = left[rank : rank + 1]
            if rank != ranks[0] and sum(state.costs(channel) for state in states) > stays:
                continue  # one that went before it made it dear: the two said the same
            for state in states:
                state.remove(channel)
            order += channel.tolist()
        left = np.setdiff1d(left, order)
    return [*order, int(left[0])]


class _State:
    """A consumer while its inputs go: weights (G, n, o) and inverse second moments (G, n, n)."""

    def __init__(self, graph: fx.GraphModule, consumer: Consumer, moments: Moments) -> None:
        node = layers_of(graph)[consumer.layer]
        weight = parameter(graph, node.args[1])
        if weight is None:
            raise TypeError(f"{consumer.layer} has no weight of its own")
        groups = groups_of(node) if node.target is not ATEN.linear.default else 1
        self._columns = torch.from_numpy(_within_group(consumer.columns, matrix(weight, groups).shape[1], groups))
        self._weight = matrix(weight, groups)
        xx, _, yy = moments.centred()
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(regularized(xx, RIDGE)))
        self._scale = float(yy.sum()) + 1e-12

    def costs(self, channels: NDArray[np.int64]) -> Tensor:
        """Return what removing each of these channels now would cost, relative to the layer's output."""
        at = self._columns[torch.from_numpy(channels)]  # (C, b)
        blocks = self._inverse[:, at.unsqueeze(2), at.unsqueeze(1)]  # (G, C, b, b)
        weights = self._weight[:, at]  # (G, C, b, o)
        costs: Tensor = (torch.linalg.inv(blocks) * (weights @ weights.transpose(2, 3))).sum((0, 2, 3)) / self._scale
        return costs

    def remove(self, channels: NDArray[np.int64]) -> None:
        """Take channels out: W -= H^-1_:g A W_g and H^-1 -= H^-1_:g A H^-1_g: with A = ((H^-1)_gg)^-1."""
        at = self._columns[torch.from_numpy(channels)].reshape(-1)
        columns = self._inverse[:, :, at].clone()
        solved = torch.linalg.solve(columns[:, at], torch.cat([self._weight[:, at], columns.transpose(1, 2)], 2))
        outputs = self._weight.shape[2]
        self._weight = self._weight - columns @ solved[:, :, :outputs]
        self._inverse = self._inverse - columns @ solved[:, :, outputs:]
        self._weight[:, at] = 0
        self._inverse[:, at, :] = 0
        self._inverse[:, :, at] = 0
        self._inverse[:, at, at] = 1


def _within_group(columns: NDArray[np.int64], inputs: int, groups: int) -> NDArray[np.int64]:
    """Return the columns inside the first group of a grouped layer: every group has the same ones (labels.py)."""
    if groups == 1:
        return columns
    return np.stack([np.unique(line % inputs) for line in columns])


def l1(weight: Tensor, gradient: Tensor | None) -> Tensor:
    """Return the sum of absolute weights of each output (Li et al. 2017, Pruning Filters for Efficient ConvNets)."""
    return weight.abs().flatten(1).sum(1)


def l2(weight: Tensor, gradient: Tensor | None) -> Tensor:
    """Return the Euclidean norm of each output's weights."""
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms


def taylor(weight: Tensor, gradient: Tensor | None) -> Tensor:
    """Return |sum of weight times gradient| of each output (Molchanov et al. 2019, Importance Estimation, eq. 8)."""
    if gradient is None:
        raise TypeError("Taylor importance needs gradients")
    return (weight * gradient).flatten(1).sum(1).abs()


def bn_scale(weight: Tensor, gradient: Tensor | None) -> Tensor:
    """Return the size of each channel's batch norm factor (Liu et al. 2017, Learning Efficient Convolutional Nets)."""
    return weight.abs()


CRITERIA = {"l1": l1, "l2": l2, "taylor": taylor, "bn_scale": bn_scale}


def criterion_order(
    graph: fx.GraphModule, channels: Channels, group: Group, name: str, gradients: Mapping[str, Tensor]
) -> list[int]:
    """Return a group's channels by one of `CRITERIA`, summed over all that produces them, the least first.

    Raises Refused for a group of which the criterion says nothing.
    """
    scores, judged = torch.zeros(group.width), False
    index = {label: i for i, label in enumerate(group.labels)}
    for target, weight in _judged(graph, name).items():
        line = channels.labels.parameters[target][0]
        if line is None:
            continue
        importance = CRITERIA[name](weight.detach(), gradients.get(target))
        for row, label in enumerate(line.tolist()):
            if label in index:
                scores[index[label]] += importance[row]
                judged = True
    if not judged:
        raise Refused(f"importance `{name}` says nothing of the channels of `{group.name}`: no batch norm scales them")
    return [int(i) for i in torch.argsort(scores, stable=True)]


def _judged(graph: fx.GraphModule, name: str) -> dict[str, Tensor]:
    """Return the parameters a criterion looks at, by qualified name."""
    wanted = (ATEN.batch_norm.default,) if name == "bn_scale" else LAYERS
    nodes = [node.args[1] for node in graph.graph.nodes if node.target in wanted]
    found = {str(node.target): parameter(graph, node) for node in nodes if isinstance(node, fx.Node)}
    return {target: weight for target, weight in found.items() if weight is not None}


def gradients_of(graph: fx.GraphModule, images: Sequence[Tensor], task: ModuleType) -> dict[str, Tensor]:
    """Return the gradient of every layer's weight on images without targets: of the loss against its own answers."""
    trained = copy_of(graph)
    weights = _judged(trained, "taylor")
    for weight in weights.values():
        weight.requires_grad_(True)
    for batch in images:
        task.loss(forward(trained, batch), None).backward()
    return {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
