"""Remove channels: which ones, how many of each group, and what the remaining weights must be, without labels.

Channels that belong together go together (pruning/channels.py). Their order comes from Optimal Brain Surgeon over all
layers that read them (pruning/importance.py), the width of each group from curves of what is lost
(pruning/sensitivity.py) and from times measured in the runtime that will run the network (operator_times.py,
pruning/allocation.py); the weights that stay are solved for in closed form (reconstruct.py). Without an amount the
fastest network within the demanded accuracy is sought.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from torch import fx

from edgeslim.context import Context
from edgeslim.data import ImageSet
from edgeslim.device_profile import DeviceProfile
from edgeslim.errors import BadInput, Refused
from edgeslim.graph import batched, macs_of, trace
from edgeslim.harness import runtime_available
from edgeslim.model import Model
from edgeslim.operator_times import operator_times_s
from edgeslim.pruning.allocation import Plan, Problem, best_within, netadapt, uniform
from edgeslim.pruning.candidates import Candidate, candidate, widened
from edgeslim.pruning.channels import Channels, channels_of, cut, legal_widths
from edgeslim.pruning.importance import CRITERIA
from edgeslim.pruning.sensitivity import Curve, Images, studied_widths, study
from edgeslim.pruning.sizes import Sizes, Times, Widths, grid, sizes_of, times_of
from edgeslim.store import graph_sha256

MEASURABLE = ("litert", "onnxruntime", "openvino")
CURVE_IMAGES = 512  # of the selection images, for the curves; candidates are judged on all
SEARCH_STEPS = 5
AMOUNTS = ("keep_channels", "keep_parameters", "keep_macs", "keep_latency")


@dataclass(frozen=True)
class Settings:
    """What a recipe may say about this step; at most one amount, a share above 0 and below 1 of what is there.

    Without one, the fastest network within the demanded accuracy is sought.
    """

    importance: str = "obs"  # or "l1", "l2", "bn_scale", "taylor"
    allocation: str = "measured"  # or "uniform": every group keeps the same share of its channels
    rounds: int = 1  # more: the amount is reached in so many steps, with reconstruction after each
    keep_channels: float | None = None
    keep_parameters: float | None = None
    keep_macs: float | None = None
    keep_latency: float | None = None

    def __post_init__(self) -> None:
        if self.importance not in ("obs", *CRITERIA):
            raise BadInput(f"prune: importance is `{self.importance}`; expected obs, {', '.join(CRITERIA)}")
        if self.allocation not in ("measured", "uniform"):
            raise BadInput(f"prune: allocation is `{self.allocation}`; expected measured or uniform")
        if self.rounds < 1:
            raise BadInput(f"prune: rounds is {self.rounds}; expected 1 or more")
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name in AMOUNTS}
        asked = {name: share for name, share in given.items() if share is not None}
        if len(asked) > 1:
            raise BadInput(f"prune: {' and '.join(asked)} contradict each other; give one of them")
        for name, share in asked.items():
            if not 0 < share < 1:
                raise BadInput(f"prune: {name} is {share:g}; expected a share above 0 and below 1 of what is there")
        if self.rounds > 1 and not asked:
            raise BadInput(f"prune: {self.rounds} rounds need an amount to reach: {', '.join(AMOUNTS)}")


@dataclass(frozen=True)
class _Bench:
    """What every candidate of one network is made from and judged with."""

    graph: fx.GraphModule  # takes batches
    channels: Channels
    settings: Settings
    multiple: int
    calibration: Images
    selection: Images
    context: Context
    network: str

    def curves(self, graph: fx.GraphModule) -> dict[str, Curve]:
        """Return the curves of the network, or of what became of it in the same shapes."""
        return study(
            graph, self.channels, self.settings.importance, self.multiple, self.calibration,
            _first(self.selection, CURVE_IMAGES), self.context.store, self.context.progress,
        )  # fmt: skip

    def candidate(self, plan: Plan, curves: Mapping[str, Curve], start: fx.GraphModule | None = None) -> Candidate:
        """Return the reconstructed network of a plan."""
        removed = {name: curve.removed(plan.widths[name]) for name, curve in curves.items()}
        network = self.network if start is None else f"{self.network} from {graph_sha256(start)}"
        return candidate(
            self.graph, start or self.graph, self.channels, removed, self.calibration, self.selection, network,
            self.context.store,
        )  # fmt: skip


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with fewer channels, its weights reconstructed on the calibration images.

    Expects a network before `quantize`. Raises Refused for one whose channels cannot be told apart, and for an amount
    that no legal widths reach; BadModel where an activation is NaN.
    """
    if model.numerics is not None:
        raise BadInput("the recipe's step `prune` comes before `quantize`")
    amount = next((name for name in AMOUNTS if getattr(settings, name) is not None), None)
    if amount is None and context.data.synthetic:
        return model.after("prune: nothing, since synthetic images cannot say what is lost; give an amount to prune")
    context.progress("pruning: which channels belong together", 0.0)
    channels = channels_of(model.graph)
    runtime, multiple = _measured_runtime(context.profile)
    graph = batched(model.graph)
    bench = _Bench(
        graph, channels, settings, multiple, images_of(context.data.calibration), images_of(context.data.selection),
        context, graph_sha256(graph),
    )  # fmt: skip
    sizes = sizes_of(model.graph, channels, sums_are_free=runtime == "openvino")
    if all(len(legal_widths(channels, name, multiple)) == 1 for name in channels.groups):
        raise Refused(
            f"{model.source} cannot be pruned for {context.profile.name}: no group of channels has a narrower width on "
            f"a multiple of {multiple}"
        )
    cost, unit = _cost(bench, sizes, runtime, amount)
    chosen = _fastest(bench, sizes, cost) if amount is None else _in_rounds(bench, sizes, cost, amount)
    return _finished(model, bench, chosen, f"{settings.importance}, {unit}")


def _measured_runtime(profile: DeviceProfile) -> tuple[str, int]:
    """Return the runtime to measure in and its channel multiple: the device's first that runs INT8 and is here."""
    for support in profile.runtimes:
        failure = profile.failure(support.name, "int8")
        fails = failure is not None and failure.effect == "fails"
        if (
            support.name in MEASURABLE
            and "int8" in support.precisions
            and not fails
            and runtime_available(support.name)
        ):
            return support.name, support.channel_multiple["int8"].value or 1
    raise Refused(
        f"pruning for {profile.name} needs one of its runtimes here, to measure in: "
        f"{', '.join(r.name for r in profile.runtimes)}; edgeslim measures in {', '.join(MEASURABLE)}"
    )


def _cost(bench: _Bench, sizes: Sizes, runtime: str, amount: str | None) -> tuple[Callable[[Widths], float], str]:
    """Return what widths cost in the unit of the amount, and that unit's name."""
    if amount == "keep_macs":
        return sizes.macs, "MACs"
    if amount == "keep_parameters":
        return sizes.parameters, "parameters"
    if amount == "keep_channels":
        return lambda widths: sum(widths.values()), "channels"
    return _measure(bench, sizes, runtime).latency_s, f"INT8 times of single operators in {runtime}"


def _measure(bench: _Bench, sizes: Sizes, runtime: str) -> Times:
    names = bench.channels.groups
    rows = grid(sizes, {name: studied_widths(bench.channels, name, bench.multiple) for name in names})
    context = bench.context
    seconds = operator_times_s(
        runtime, "int8", {one for place in rows for row in place for one in row}, threads=context.threads,
        cache=(context.store or context.work) / "operator_times", progress=context.progress,
    )  # fmt: skip
    return times_of(sizes, rows, seconds)


def _fastest(bench: _Bench, sizes: Sizes, cost: Callable[[Widths], float]) -> Candidate | None:
    """Return the fastest candidate that loses no more than demanded, None where only the dense network does.

    The time is halved between what was too much and what was not; every candidate is reconstructed and judged.
    """
    curves = bench.curves(bench.graph)
    problem = Problem(curves, sizes, cost)
    path = netadapt(problem)
    allowed = bench.context.demand.max_drop_points
    low, high = path[-1].cost / path[0].cost, 1.0
    best = None
    for step in range(SEARCH_STEPS):
        middle = (low + high) / 2
        bench.context.progress("pruning: reconstructing candidates", step / SEARCH_STEPS)
        plan = best_within(problem, path, middle * path[0].cost)
        if plan is None:
            low = middle
            continue
        found = bench.candidate(plan, curves)
        if found.drop.at_most <= allowed:
            best, high = found, min(middle, plan.cost / path[0].cost)
        else:
            low = middle
    return best


def _in_rounds(bench: _Bench, sizes: Sizes, cost: Callable[[Widths], float], amount: str) -> Candidate:
    """Return the candidate of a given amount, reached in equal factors."""
    settings = bench.settings
    share = float(getattr(settings, amount))
    start, found = bench.graph, None
    for number in range(1, settings.rounds + 1):
        curves = bench.curves(start)
        problem = Problem(curves, sizes, cost)
        dense = problem.plan({})
        plan = _plan(bench, problem, dense.cost * share ** (number / settings.rounds))
        if plan is None:
            raise Refused(f"no legal widths keep {share:.0%} ({amount}): the narrowest network keeps more")
        bench.context.progress("pruning: reconstructing", (number - 1) / settings.rounds)
        found = bench.candidate(plan, curves, None if number == 1 else start)
        if number < settings.rounds:
            start = widened(found, bench.graph, bench.channels)
    if found is None:
        raise TypeError("there is one round at least")
    return found


def _plan(bench: _Bench, problem: Problem, budget: float) -> Plan | None:
    if bench.settings.allocation == "uniform":
        legal = {name: legal_widths(bench.channels, name, bench.multiple) for name in problem.curves}
        return uniform(problem, legal, budget)
    return best_within(problem, netadapt(problem), budget)


def _finished(model: Model, bench: _Bench, chosen: Candidate | None, how: str) -> Model:
    """Return the model that a candidate is, traced for one image, with what was done to it."""
    if chosen is None:
        return model.after(
            f"prune: nothing: no narrower network loses at most {bench.context.demand.max_drop_points:g} points"
        )
    pruned = cut(model.graph, bench.channels, chosen.removed)
    pruned.load_state_dict(chosen.graph.state_dict())
    network = trace(pruned, model.input_shape)
    after = model.after("prune", network=network)
    line = (
        f"prune ({how}): {model.parameters:,} to {after.parameters:,} parameters, {macs_of(model.graph):,} to "
        f"{macs_of(network):,} MACs, {chosen.drop.points:.2f} points lost on {len(bench.context.data.selection)} "
        "selection images before quantization"
    )
    return model.after("; ".join([line, *chosen.remarks]), network=network)


def images_of(images: ImageSet) -> Images:
    """Return a set of images as batches in memory, two at least, with the hash of what they hold."""
    batches = tuple(images.tensors())
    if len(batches) == 1:
        batches = tuple(batches[0].split((len(batches[0]) + 1) // 2))
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.numpy().tobytes())
    if images.labels is not None:
        digest.update(images.labels.tobytes())
    return Images(batches, digest.hexdigest(), images.labels)


def _first(images: Images, count: int) -> Images:
    """Return the batches that hold the first `count` images."""
    batches, held = [], 0
    for batch in images.batches:
        if held >= count:
            break
        batches.append(batch)
        held += len(batch)
    labels = None if images.labels is None else images.labels[:held]
    return Images(tuple(batches), f"{images.sha256}, the first {held}", labels)
