"""Remove channels: which ones, how many of each group, and what the remaining weights must be, without labels.

Channels that belong together go together (channels.py). Their order comes from Optimal Brain Surgeon over all layers
that read them (importance.py), the width of each group from curves of what is lost (curves.py) and from times measured
in the runtime that will run the network (allocation.py); the weights that stay are solved for in closed form
(model/reconstruct.py). Without an amount the fastest network within the demanded accuracy is sought.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from edgeslim.compress.prune.allocation import Plan, Problem, netadapt, uniform
from edgeslim.compress.prune.blocks import drop
from edgeslim.compress.prune.candidates import PrunedNetwork, masked, widened
from edgeslim.compress.prune.channels import cut, legal_widths
from edgeslim.compress.prune.importance import CRITERIA
from edgeslim.compress.prune.search import fastest_fitting, proposed_networks
from edgeslim.compress.prune.sizes import Widths
from edgeslim.compress.prune.workbench import Workbench, workbench_of
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import BadInput, Refused
from edgeslim.model.context import Context, Demand
from edgeslim.model.equivalence import require_equal
from edgeslim.model.graph import macs_of, trace
from edgeslim.model.model import Model
from edgeslim.recipe import one_of
from edgeslim.tasks.sets import MOST

PRUNED = "prune ("  # so begins the line of a network's history that pruned it
AMOUNTS = ("keep_channels", "keep_parameters", "keep_macs", "keep_latency")


@dataclass(frozen=True)
class Settings:
    """What a recipe may say about this step; at most one amount, a share above 0 and below 1 of what is there.

    Without one, the fastest network within the demanded accuracy is sought. Residual blocks may be dropped in one
    round of the measured allocation, for any amount but channels.
    """

    importance: Annotated[str, one_of("obs", *CRITERIA)] = "obs"
    allocation: Annotated[str, one_of("measured", "uniform")] = "measured"  # uniform: the same share of every group
    rounds: int = 1  # more: the amount is reached in so many steps, with reconstruction after each
    keep_channels: float | None = None
    keep_parameters: float | None = None
    keep_macs: float | None = None
    keep_latency: float | None = None

    @property
    def amount(self) -> str | None:
        """The name of the amount that was asked for; None: what is pruned is ours to choose."""
        return next((name for name in AMOUNTS if getattr(self, name) is not None), None)

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise BadInput("\n".join(faults))

    def _faults(self) -> Iterator[str]:
        if self.importance not in ("obs", *CRITERIA):
            yield f"prune: importance is `{self.importance}`; expected obs, {', '.join(CRITERIA)}"
        if self.allocation not in ("measured", "uniform"):
            yield f"prune: allocation is `{self.allocation}`; expected measured or uniform"
        if self.rounds < 1:
            yield f"prune: rounds is {self.rounds}; expected 1 or more"
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name in AMOUNTS}
        asked = {name: share for name, share in given.items() if share is not None}
        if len(asked) > 1:
            yield f"prune: {' and '.join(asked)} contradict each other; give one of them"
        for name, share in asked.items():
            if not 0 < share < 1:
                yield f"prune: {name} is {share:g}; expected a share above 0 and below 1 of what is there"
        if self.rounds > 1 and not asked:
            yield f"prune: {self.rounds} rounds need an amount to reach: {', '.join(AMOUNTS)}"


def foresee(settings: Settings, profile: DeviceProfile, runtimes: Collection[str]) -> tuple[Settings, dict[str, str]]:
    """Return the settings as they are, and that the build chooses how much is kept, where nobody named an amount."""
    return settings, {} if settings.amount else dict.fromkeys(AMOUNTS, "chosen by the build")


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with fewer channels, its weights reconstructed on the calibration images.

    Expects a network before `quantize`. Raises Refused for one whose channels cannot be told apart, and for an amount
    that no legal widths reach; BadModel where an activation is NaN.
    """
    if model.numerics is not None:
        raise BadInput("the recipe's step `prune` comes before `quantize`")
    amount = settings.amount
    if amount is None and context.data.synthetic:
        return model.after("prune: nothing, since synthetic images cannot say what is lost; give an amount to prune")
    context.progress("which channels belong together")
    try:
        return _pruned(model, settings, context, amount)
    except Refused as refusal:
        if amount is not None:
            raise
        return model.after(f"prune: nothing: {refusal.sentence}")


def _pruned(model: Model, settings: Settings, context: Context, amount: str | None) -> Model:
    with_blocks = settings.rounds == 1 and settings.allocation == "measured" and amount != "keep_channels"
    timed = amount in (None, "keep_latency")
    bench = workbench_of(model, settings.importance, context, blocks=with_blocks, timed=timed)
    if amount is None:
        require_enough_images(bench.judge.marks(bench.graph), model.task, context.demand)
    cost, unit = _cost(bench, amount)
    if amount is None:
        chosen, trials = fastest_fitting(bench, cost)
    else:
        chosen, trials = _in_rounds(bench, settings, cost, amount), []
    return replace(_finished(model, bench, chosen, f"{settings.importance}, {unit}"), trials=tuple(trials))


def _cost(bench: Workbench, amount: str | None) -> tuple[Callable[[Widths], float], str]:
    """Return what widths cost in the unit of the amount, and that unit's name."""
    if amount == "keep_macs":
        return bench.sizes.macs, "MACs"
    if amount == "keep_parameters":
        return bench.sizes.parameters, "parameters"
    if amount == "keep_channels":
        return lambda widths: sum(widths.values()), "channels"
    how = "estimated for the device" if bench.latency.estimated else "measured here"
    return bench.times().latency_s, f"INT8 times of single operators in {bench.latency.runtime}, {how}"


def require_enough_images(marks: NDArray[np.float64], task: ModuleType, demand: Demand) -> None:
    """Raise Refused where not even a network that answers all images as before could be accepted."""
    unbound = demand.max_latency_s is None and demand.max_size_bytes is None
    if unbound and task.drop(marks, marks).at_most > demand.max_drop_points:
        raise Refused(
            f"{len(marks)} selection images cannot show with 95 % confidence that at most "
            f"{demand.max_drop_points:g} points are lost; {_images_to_show(marks, task, demand.max_drop_points)}"
        )


def _images_to_show(marks: NDArray[np.float64], task: ModuleType, points: float) -> str:
    """Return in words how many images with such marks could show that no more than some points are lost."""

    def shows(count: int) -> bool:
        many = np.resize(marks, count)
        return bool(task.drop(many, many).at_most <= points)

    most = MOST["selection"]
    needed = bisect_left(range(most + 1), True, lo=min(len(marks), most), key=shows)
    if needed > most:
        return f"nor could the {most} that are used at most; name an amount to prune"
    return f"{needed} could (--selection, or more of --data), or name an amount to prune"


def _in_rounds(bench: Workbench, settings: Settings, cost: Callable[[Widths], float], amount: str) -> PrunedNetwork:
    """Return the candidate of a given amount, reached in equal factors."""
    share = float(getattr(settings, amount))
    start, found = bench.graph, None
    for number in range(1, settings.rounds + 1):
        curves = bench.curves(start)
        problem = Problem(curves, bench.sizes, cost)
        dense = problem.plan({})
        plans = _plans(bench, settings, problem, dense.cost * share ** (number / settings.rounds))
        if not plans:
            raise Refused(f"no legal widths keep {share:.0%} ({amount}): the narrowest network keeps more")
        bench.context.progress("reconstructing", number - 1, settings.rounds)
        candidates = [bench.candidate(plan, curves, None if number == 1 else start) for plan in plans]
        found = min(candidates, key=lambda one: one.drop.points)
        if number < settings.rounds:
            start = widened(found, bench.graph, bench.channels)
    if found is None:
        raise TypeError("there is one round at least")
    return found


def _plans(bench: Workbench, settings: Settings, problem: Problem, budget: float) -> list[Plan]:
    if settings.allocation == "uniform":
        legal = {name: legal_widths(bench.channels, name, bench.latency.multiple) for name in problem.curves}
        plan = uniform(problem, legal, budget)
        return [] if plan is None else [plan]
    return proposed_networks(problem, netadapt(problem), bench.blocks, None)(budget)


def _finished(model: Model, bench: Workbench, chosen: PrunedNetwork | None, how: str) -> Model:
    """Return the model that a candidate is, traced for one image, with what was done to it."""
    if chosen is None:
        return model.after(
            f"prune: nothing: of no narrower network do {len(bench.judge.images)} selection images show, with 95 % "
            f"confidence, that it loses at most {bench.context.demand.max_drop_points:g} points"
        )
    pruned = cut(model.graph, bench.channels, chosen.removed)
    drop(pruned, chosen.dropped)
    pruned.load_state_dict(chosen.graph.state_dict())
    network = trace(pruned, model.input_shape)
    require_equal("prune", masked(chosen, model.graph, bench.channels), network, bench.context.images)
    after = model.after("prune", network=network)
    line = (
        f"{PRUNED}{how}): {model.parameters:,} to {after.parameters:,} parameters, {macs_of(model.graph):,} to "
        f"{macs_of(network):,} MACs, {chosen.drop.points:.2f} points lost on {len(bench.context.data.selection)} "
        "selection images before quantization"
    )
    if chosen.dropped:
        line += f"; without {', '.join(block.name for block in chosen.dropped)}"
    lost = model.lost_points + chosen.drop.points
    return model.after("; ".join([line, *chosen.remarks]), network=network, lost_points=lost)
