"""Which layers cost accuracy as INT8, and the fewest that must stay float to meet a demand; simulated in PyTorch.

One copy of the network holds every trial: layers change between their float and their rounded parameters, edges
between float and their grid. Whole batches run, so a trial costs about what the float network does.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.cache import graph_sha256, remember
from edgeslim.compress.quantize.edges import can_be_dynamic, rounded_edges
from edgeslim.compress.quantize.rounding import can_be_half, halved, parameters, with_grids
from edgeslim.model.equivalence import worst_db
from edgeslim.model.fake_quant import Dynamic, part_of
from edgeslim.model.graph import as_arrays, batched, first_of, forward, joined, layers_of
from edgeslim.model.numerics import Numerics
from edgeslim.progress import Tell
from edgeslim.tasks.images import ImageSet
from edgeslim.tasks.task import Drop

# What a layer that must not be INT8 may be in place of fp32, the cheapest first, and what is said of it.
CHEAPER = {
    "dynamic": "with int8 weights, and what they read ranged at run time",
    "w8": "with int8 weights all the same",
    "fp16": "with fp16 weights",
}
Outputs = tuple[Tensor, ...]  # of a network, each (N, ...)

RANKING_IMAGES = 256  # of the selection images, by which layers are ranked; whether the demand is met, all of them say
FIRST_IMAGES = 512  # if these already say, beyond chance, that the demand is met, the others are not run
LEAST_IMAGES = 100  # with fewer, one answer weighs more than a point and the loss says nothing


@dataclass(frozen=True)
class Sensitivity:
    """What is lost when one layer alone is not float.

    As "int8" it, what it reads and what it writes are rounded, as "w8" its weights, as "dynamic" what it reads too, as
    "fp16" its weights to half precision.
    """

    layer: str
    precision: str
    sqnr_db: float  # at that output which departs most
    lost: Drop


@dataclass(frozen=True)
class Promotion:
    """The layers that stay float so that a demand is met, and the points that are lost.

    `lost_without`: for each of the layers, the points lost when all of them but it stay so. No layers: even with
    all of them float more than allowed is lost. `cheaper`: what those of them are that need not be fp32.
    """

    lost_before: float
    lost_after: float
    allowed: float
    images: int
    lost_without: dict[str, float] = field(default_factory=dict)  # by layer
    cheaper: dict[str, str] = field(default_factory=dict)  # layer: one of CHEAPER

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that stay float."""
        return tuple(self.lost_without)

    @property
    def precisions(self) -> dict[str, str]:
        """What these layers are in place of INT8."""
        return {name: self.cheaper.get(name, "fp32") for name in self.layers}

    def line(self, numerics: Numerics) -> str:
        """Return what was promoted and why, with the layers' names in the network."""
        if not self.layers:
            return (
                f"{self.lost_before:.2f} points are lost on {self.images} selection images, {self.allowed:g} are "
                f"allowed; with every layer float it were {self.lost_after:.2f}, so none was kept float"
            )
        modules = {name: numerics.layers[name].module for name in self.layers}
        named = ", ".join(
            f"{modules[name]} (as int8 {points:.2f} points are lost)" for name, points in self.lost_without.items()
        )
        kinds = {
            kind: ", ".join(modules[name] for name, one in self.cheaper.items() if one == kind) for kind in CHEAPER
        }
        weights = "".join(f"; {CHEAPER[kind]}: {names}" for kind, names in kinds.items() if names)
        return (
            f"kept float to lose {self.lost_after:.2f} instead of {self.lost_before:.2f} points on {self.images} "
            f"selection images, {self.allowed:g} allowed: {named}{weights}"
        )


def sensitivity(
    dense: fx.GraphModule,
    quantized: fx.GraphModule,
    numerics: Numerics,
    selection: ImageSet,
    task: ModuleType,
    store: Path | None,
    progress: Tell,
    kinds: Sequence[str] = ("int8", "w8"),
) -> list[Sensitivity]:
    """Return what each INT8 layer of the plan loses alone, in each of some precisions, in graph order.

    `dense` is the folded network before quantization, `quantized` after it. Points are the task's, without targets of
    agreement with the dense network. Each layer's result is kept in the store as soon as it is there.
    """
    trials = _Trials(dense, quantized, numerics, list(selection.tensors()), selection.targets, task)
    found = []
    names = numerics.integer_layers
    wanted = [(one, kind) for one in names for kind in kinds if one in trials.able[kind]]
    for number, (name, precision) in enumerate(wanted):
        progress("what each layer alone loses", number, len(wanted))

        def alone(name: str = name, precision: str = precision) -> dict[str, float]:
            edges = part_of(numerics, [name]).edges if precision == "int8" else ()
            outputs = trials.outputs({name: precision}, edges)
            lost = trials.lost(outputs)
            noise = worst_db(as_arrays(trials.dense), as_arrays(outputs))
            return {"sqnr_db": noise, "points": lost.points, "at_most": lost.at_most}

        one = remember(store, "precision", [trials.sha256, name, precision], alone)
        found.append(Sensitivity(name, precision, one["sqnr_db"], Drop(one["points"], one["at_most"])))
    return found


def promote(
    dense: fx.GraphModule,
    quantized: fx.GraphModule,
    numerics: Numerics,
    selection: ImageSet,
    task: ModuleType,
    allowed_points: float,
    store: Path | None,
    progress: Tell,
    *,
    precisions: Callable[[Sequence[str]], Sequence[str]] = lambda _: tuple(CHEAPER),
) -> Promotion | None:
    """Return the fewest layers found that must stay float to lose at most `allowed_points`; None where none must.

    As `sensitivity` for the rest. Layers are taken one by one, each the one that then brings the answers nearest to the
    dense network's (the gains of earlier rounds bound those of later ones: Minoux 1978, Accelerated Greedy); of those
    taken, each without which the demand is met too is given back. Those that are left become the first of what
    `precisions` returns for them, of CHEAPER, with which the demand is met. Fewer than `LEAST_IMAGES` say nothing.
    """
    progress("does int8 meet the demand")
    first = _Trials(dense, quantized, numerics, first_of(selection.tensors(), FIRST_IMAGES), selection.targets, task)
    at_most = remember(store, "promotion", [first.sha256], lambda: first.lost(first.without([])).at_most)
    if at_most <= allowed_points:
        return None
    trials = _Trials(dense, quantized, numerics, list(selection.tensors()), selection.targets, task)
    depends_on = [trials.sha256, allowed_points]
    found = remember(store, "promotion", depends_on, lambda: _kept_float(trials, allowed_points, progress))
    if found is None:
        return None
    promotion = Promotion(found["before"], found["every"], allowed_points, trials.images)
    chosen = found["chosen"]
    if not chosen:
        return promotion
    kinds = tuple(precisions(chosen))
    made = remember(
        store, "promotion", [*depends_on, kinds], lambda: _made_cheaper(trials, chosen, allowed_points, kinds)
    )
    return replace(promotion, **made)


def _kept_float(trials: "_Trials", allowed: float, progress: Tell) -> dict[str, Any] | None:
    """Return the layers that must stay float and what is lost before and with every one; None where none must."""
    before = trials.points([])
    if before <= allowed:
        return None
    every = trials.points(trials.layers)
    chosen = _greedy(trials, allowed, progress) if every <= allowed else []
    for name in reversed(chosen):
        others = [one for one in chosen if one != name]
        if trials.points(others) <= allowed:
            chosen = others
    return {"before": before, "every": every, "chosen": chosen}


def _made_cheaper(trials: "_Trials", chosen: Sequence[str], allowed: float, kinds: Sequence[str]) -> dict[str, Any]:
    """Return what `Promotion` holds of the layers that stay float, each as cheap as the demand lets it be."""
    small = _cheapest(trials, chosen, allowed, kinds)
    kept = {}
    for name in [one for one in trials.layers if one in chosen]:
        others = [one for one in chosen if one != name]
        kept[name] = trials.points(others, {one: kind for one, kind in small.items() if one != name})
    ordered = {name: small[name] for name in kept if name in small}
    return {"lost_after": trials.points(chosen, small), "lost_without": kept, "cheaper": ordered}


def _cheapest(trials: "_Trials", chosen: Sequence[str], allowed: float, cheaper: Sequence[str]) -> dict[str, str]:
    """Return what layers kept float may be with the demand still met: all alike, or one by one, the largest first.

    Beyond chance (95 %), unless no more is lost than with them in fp32: what they were kept for is not given away.
    """
    found: dict[str, str] = {}
    whole = trials.points(chosen)

    def suffices(small: Mapping[str, str]) -> bool:
        lost = trials.lost_with(chosen, small)
        return lost.at_most <= allowed or lost.points <= whole

    for kind in cheaper:
        rest = [name for name in chosen if name not in found and name in trials.able[kind]]
        together = found | dict.fromkeys(rest, kind)
        if suffices(together):
            found = together
            continue
        for name in sorted(rest, key=trials.weights_of, reverse=True):
            if suffices(found | {name: kind}):
                found = found | {name: kind}
    return found


def _greedy(trials: "_Trials", allowed: float, progress: Tell) -> list[str]:
    """Return layers to keep float, in the order in which they were taken, until the demand is met."""
    chosen: list[str] = []
    now = trials.divergence(chosen)
    gains = {}
    for number, name in enumerate(trials.layers):
        progress("which layers cost the accuracy", number, len(trials.layers))
        gains[name] = now - trials.divergence([name])
    while not chosen or trials.points(chosen) > allowed:
        fresh: set[str] = set()
        while True:
            best = max((name for name in trials.layers if name not in chosen), key=gains.__getitem__)
            if best in fresh or not chosen:
                break
            gains[best] = now - trials.divergence([*chosen, best])
            fresh.add(best)
        chosen.append(best)
        now -= gains[best]
    return chosen


class _Trials:
    """A network some of whose layers are INT8, changed from trial to trial, and the images it is tried on."""

    def __init__(
        self,
        dense: fx.GraphModule,
        quantized: fx.GraphModule,
        numerics: Numerics,
        batches: Sequence[Tensor],
        targets: NDArray[Any] | None,
        task: ModuleType,
    ) -> None:
        self._task = task
        self.layers = numerics.integer_layers
        self._numerics = numerics
        self._original = quantized
        self._graph = with_grids(batched(quantized), numerics.edges)
        float_layers, int8_layers = layers_of(dense), layers_of(quantized)
        self._dense = {name: parameters(dense, float_layers[name]) for name in self.layers}
        self._rounded = {name: parameters(quantized, int8_layers[name]) for name in self.layers}
        self.able = {  # by precision, the layers that may have it
            "int8": set(self.layers),
            "w8": set(self.layers),
            "dynamic": {name for name in self.layers if can_be_dynamic(float_layers[name])},
            "fp16": {name for name in self.layers if can_be_half(self._dense[name][0])},
        }
        self._batches = batches
        self._tried: dict[tuple[frozenset[str], frozenset[tuple[str, str]]], Drop] = {}
        self.sha256 = self._sha256(dense, targets)
        self._dense_graph = batched(dense)
        self._targets = targets

    def _sha256(self, dense: fx.GraphModule, targets: NDArray[Any] | None) -> str:
        digest = hashlib.sha256((self._task.__name__ + graph_sha256(dense) + graph_sha256(self._original)).encode())
        digest.update(json.dumps(asdict(self._numerics), sort_keys=True).encode())
        for batch in self._batches:
            digest.update(batch.numpy().tobytes())
        digest.update(b"" if targets is None else targets.tobytes())
        return digest.hexdigest()

    @cached_property
    def dense(self) -> Outputs:
        """The dense network's outputs (N, ...); computed when first asked for, since a kept result needs none."""
        return _run(self._dense_graph, self._batches)

    @property
    def images(self) -> int:
        """On how many images it is tried."""
        return sum(len(batch) for batch in self._batches)

    @torch.no_grad()
    def outputs(self, precisions: Mapping[str, str], edges: Collection[str], most: int | None = None) -> Outputs:
        """Return the outputs, of the first `most` images or all, with these layers narrower than fp32.

        And with these edges rounded.
        """
        layers = layers_of(self._graph)
        for name in self.layers:
            new = self._held(name, precisions.get(name, "fp32"))
            for old, one in zip(parameters(self._graph, layers[name]), new, strict=True):
                old.copy_(one)
        for name, grid in self._graph.get_submodule("grids").named_buffers():
            grid[0] = self._numerics.edges[name].scale if name in edges else 0.0
        dynamic = [name for name, precision in precisions.items() if precision == "dynamic"]
        return _run(self._graph, self._batches if most is None else first_of(self._batches, most), dynamic)

    def _held(self, layer: str, precision: str) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a layer in a precision."""
        weight, bias = self._dense[layer]
        if precision == "fp16":
            return halved(weight), bias
        return (weight, bias) if precision == "fp32" else self._rounded[layer]

    def weights_of(self, layer: str) -> int:
        """Return how many weights a layer has."""
        return self._dense[layer][0].numel()

    def without(
        self, kept: Collection[str], small: Mapping[str, str] = MappingProxyType({}), most: int | None = None
    ) -> Outputs:
        """Return the outputs with these layers float, of them `small` in a cheaper kind, and the others INT8."""
        int8 = dict.fromkeys((name for name in self.layers if name not in kept), "int8")
        return self.outputs(int8 | dict(small), rounded_edges(self._original, int8), most)

    def lost(self, outputs: Outputs) -> Drop:
        """Return the points lost against the dense network."""
        dense = as_arrays(self.dense)
        targets = None if self._targets is None else self._targets[: self.images]
        before, after = (self._task.marks(one, targets, dense) for one in (dense, as_arrays(outputs)))
        found: Drop = self._task.drop(before, after)
        return found

    def points(self, kept: Collection[str], small: Mapping[str, str] = MappingProxyType({})) -> float:
        """Return the points lost with these layers float, of them `small` in a cheaper kind, and the others INT8."""
        return self.lost_with(kept, small).points

    def lost_with(self, kept: Collection[str], small: Mapping[str, str]) -> Drop:
        """Return what is lost so, with its interval; each is tried once."""
        key = (frozenset(kept), frozenset(small.items()))
        if key not in self._tried:
            self._tried[key] = self.lost(self.without(kept, small))
        return self._tried[key]

    def divergence(self, kept: Collection[str]) -> float:
        """Return how far the answers are from the dense network's, an image, on the images for ranking."""
        outputs = self.without(kept, most=RANKING_IMAGES)
        images = len(outputs[0])
        return float(self._task.divergence(outputs, tuple(one[:images] for one in self.dense))) / images


@torch.no_grad()
def _run(graph: fx.GraphModule, batches: Sequence[Tensor], dynamic: Collection[str] = ()) -> Outputs:
    run = Dynamic(graph, dynamic).run if dynamic else graph
    return joined(forward(run, batch) for batch in batches)
