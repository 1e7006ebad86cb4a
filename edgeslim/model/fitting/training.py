"""Training of a traced network: one loop for every technique that learns.

Stochastic gradient descent with Nesterov momentum; the rate rises over the first steps and then falls along a cosine;
weights decay, biases and norms do not; gradients are clipped by their norm. Batch norms learn in training mode, from
their batches, for with the statistics they came with they kept a pruned network from recovering; in the end their
statistics are taken anew from images that were trained on. As many whole batches as there are come, in an order of
their own, before any image comes again.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from edgeslim.errors import BadInput
from edgeslim.model.graph import ATEN, LAYERS, arguments, copy_of, forward, parameter
from edgeslim.tasks.images import ImageSet

MOMENTUM, WEIGHT_DECAY, LARGEST_GRADIENT = 0.9, 5e-4, 5.0
WARM_UP = 0.05  # of all steps
TIMED_STEPS = 3  # behind a first one, which pays for what is made once
STATISTICS_BATCHES = 16  # from which batch norms take their statistics in the end
TRAINED = (*LAYERS, ATEN.batch_norm.default, ATEN.group_norm.default, ATEN.layer_norm.default)

# The outputs of a network for some inputs, these inputs, and their places in the set -> what is to become small.
Loss = Callable[[tuple[Tensor, ...], Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """How many steps are done, of how many images each, the highest rate, and the seed of the images' order."""

    steps: int
    batch: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Trained:
    """What a training did: its steps, and the mean loss of the first and of the last tenth of them.

    `stopped`: the step whose loss was no number, where training ended with the weights of the step before.
    """

    steps: int
    first_loss: float
    last_loss: float
    stopped: int | None = None


def steps_within(graph: fx.GraphModule, images: ImageSet, loss: Loss, *, seconds: float, batch: int) -> int:
    """Return how many steps of a training take so many seconds here, by some that are timed and change no weight.

    Each is timed twice, for a loss may keep what it found of an image. Raises BadInput where not one step is done in
    that time.
    """
    first: list[float] = []
    again: list[float] = []
    graph = copy_of(graph)
    with _training(graph):
        for places in _batches(len(images), batch, TIMED_STEPS + 1, seed=0):
            for taken in (first, again):
                begun = time.perf_counter()
                inputs = _inputs(images, places)
                loss(forward(graph, inputs), inputs, places).backward()
                taken.append(time.perf_counter() - begun)
    fresh, step = (sum(taken[1:]) / TIMED_STEPS for taken in (first, again))
    in_all = len(images) // batch  # steps until images come again
    steps = int(min(seconds / fresh, in_all) + max(seconds - in_all * fresh, 0.0) / step)
    if steps < 1:
        raise BadInput(f"one step of training takes {fresh:.2g} s here, and {seconds:g} s are given for all")
    return steps


def train(
    graph: fx.GraphModule, images: ImageSet, loss: Loss, schedule: Schedule, progress: Callable[[int, int], None]
) -> Trained:
    """Train a network that takes batches, in place, on images of which at least a batch is there.

    The weights and biases of layers and norms learn, and nothing else. The same call gives the same bytes on the same
    machine with as many threads.
    """
    weights, others = _learning(graph)
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=schedule.rate, momentum=MOMENTUM, nesterov=True)
    learning: list[Tensor] = [*weights, *others]
    before = [one.detach().clone() for one in learning]
    losses: list[float] = []
    stopped, steps = None, schedule.steps
    with _training(graph):
        for step, places in enumerate(_batches(len(images), schedule.batch, steps, schedule.seed)):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate * _share(step, steps)
            inputs = _inputs(images, places)
            found = loss(forward(graph, inputs), inputs, places)
            value = float(found.detach())
            if not math.isfinite(value):
                stopped = step + 1
                break
            losses.append(value)
            optimizer.zero_grad()
            found.backward()
            torch.nn.utils.clip_grad_norm_(learning, LARGEST_GRADIENT)
            torch._foreach_copy_(before, [one.detach() for one in learning])
            optimizer.step()
            progress(step + 1, steps)
    if stopped is None and not all(bool(torch.isfinite(one).all()) for one in learning):
        stopped = steps
    if stopped is not None:
        torch._foreach_copy_(learning, before)
    _take_statistics(graph, images, schedule.batch, schedule.seed)
    tenth = max(len(losses) // 10, 1)
    first, last = (sum(some) / max(len(some), 1) for some in (losses[:tenth], losses[-tenth:]))
    return Trained(len(losses), first, last, stopped)


def _share(step: int, steps: int) -> float:
    """Return the share of the rate that a step has: up a line, then down a cosine (Loshchilov & Hutter 2017)."""
    warm = max(round(WARM_UP * steps), 1)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))


def _batches(count: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield the places of the images of each step; what a shuffled set leaves behind its whole batches is left out."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(count, generator=generator)
        yield order[:batch]
        order = order[batch:]


def _inputs(images: ImageSet, places: Tensor) -> Tensor:
    return torch.cat(list(images.at(places.numpy()).tensors()))


@contextmanager
def _training(graph: fx.GraphModule) -> Iterator[None]:
    """Let the batch norms of a graph normalize by their batches, and what learns have gradients, for a while."""
    _set_batch_norms(graph, training=True)
    for one in graph.parameters():
        one.requires_grad_(False)
    for one in (learning for some in _learning(graph) for learning in some):
        one.requires_grad_(True)
    try:
        yield
    finally:
        _set_batch_norms(graph, training=False)
        for one in graph.parameters():
            one.requires_grad_(False)


def _learning(graph: fx.GraphModule) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of layers and norms: weights that decay, and what does not, a number for each channel."""
    found: dict[nn.Parameter, None] = {}
    for node in graph.graph.nodes:
        for one in node.args if node.target in TRAINED else ():
            value = parameter(graph, one)
            if isinstance(value, nn.Parameter) and value.is_floating_point():
                found[value] = None
    return [one for one in found if one.ndim > 1], [one for one in found if one.ndim <= 1]


def _set_batch_norms(graph: fx.GraphModule, *, training: bool, momentum: float = 0.1) -> None:
    for node in graph.graph.nodes:
        if node.target is ATEN.batch_norm.default:
            node.args = (*node.args[:5], training, momentum, *node.args[7:])
    graph.recompile()


@torch.no_grad()
def _take_statistics(graph: fx.GraphModule, images: ImageSet, batch: int, seed: int) -> None:
    """Let every batch norm hold the mean of its batches' statistics, layer by layer as the network is now."""
    norms = [node for node in graph.graph.nodes if node.target is ATEN.batch_norm.default]
    if not norms:
        return
    for node in norms:
        for one in (parameter(graph, value) for value in arguments(node)[3:5]):
            if one is not None:
                one.zero_()  # what is no number stays none, however little it weighs
    count = min(STATISTICS_BATCHES, max(len(images) // batch, 1))
    for number, places in enumerate(_batches(len(images), batch, count, seed)):
        _set_batch_norms(graph, training=True, momentum=1 / (number + 1))
        forward(graph, _inputs(images, places))
    _set_batch_norms(graph, training=False)
