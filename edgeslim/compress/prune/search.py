"""Which of the networks that pruning proposes is taken."""

from collections.abc import Callable, Collection
from dataclasses import replace

from edgeslim.compress.prune.allocation import Plan, Problem, best_within, netadapt
from edgeslim.compress.prune.candidates import PrunedNetwork
from edgeslim.compress.prune.sizes import Widths
from edgeslim.compress.prune.workbench import Workbench
from edgeslim.model.trials import Trial
from edgeslim.tasks.task import Drop

SEARCH_STEPS = 5
WEIGHTS_SHARE = 0.9  # of an INT8 file that its weights may take; the rest is scales, biases and structure


def fastest_fitting(bench: Workbench, cost: Callable[[Widths], float]) -> tuple[PrunedNetwork | None, list[Trial]]:
    """Return the fastest candidate that meets every demand, and all that were tried.

    The time is halved between what was too much and what was not; every candidate is reconstructed and judged. Where
    none meets every demand it is the most accurate that meets time and size, or the narrowest network there is; None
    where only the dense network is accurate enough and nothing else was demanded.
    """
    demand = bench.context.demand
    curves = bench.curves()
    most = None if demand.max_size_bytes is None else round(WEIGHTS_SHARE * demand.max_size_bytes)
    problem = Problem(curves, bench.sizes, cost)
    path = netadapt(problem)
    proposals = proposed_networks(problem, path, bench.blocks, most)
    dense = path[0]
    limit = min(dense.cost, demand.max_latency_s or dense.cost)
    low, high = path[-1].cost, limit
    best: PrunedNetwork | None = None
    trials = [_trial(bench, Drop(0.0, 0.0), dense)]

    def look(plans: list[Plan]) -> tuple[PrunedNetwork, Trial]:
        found = [(bench.candidate(plan, curves), plan) for plan in plans]
        tried = [(one, _trial(bench, one.drop, plan)) for one, plan in found]
        trials.extend(trial for _, trial in tried)
        return min(tried, key=lambda one: one[0].drop.points)

    for step in range(SEARCH_STEPS):
        bench.context.progress("reconstructing candidates", step, SEARCH_STEPS)
        middle = (low + high) / 2
        plans = proposals(middle)
        found = look(plans) if plans else None
        if found is not None and found[1].accepted:
            best, high = found[0], min(middle, found[1].latency_s)
        else:
            low = middle
    if best is None and (limit < dense.cost or (most is not None and dense.parameters > most)):
        best, _ = look(proposals(limit) or [path[-1]])
    return best, trials


def proposed_networks(
    problem: Problem, path: list[Plan], blocks: Collection[str], most: int | None
) -> Callable[[float], list[Plan]]:
    """Return what gives, for a budget, the best plan and, where that drops blocks, also the best that drops none.

    Curves of blocks and of groups are not of one scale (behind a block all layers were refitted), so that which of the
    two is better is left to the images.
    """
    spared = replace(problem, curves={name: curve for name, curve in problem.curves.items() if name not in blocks})
    searched = [(problem, path), *([(spared, netadapt(spared))] if blocks and spared.curves else [])]

    def within(budget: float) -> list[Plan]:
        plans = [best_within(one, path, budget, most) for one, path in searched]
        found = [plan for plan in plans if plan is not None]
        return found[:1] if len(found) == 2 and found[0].widths == found[1].widths else found

    return within


def _trial(bench: Workbench, lost: Drop, plan: Plan) -> Trial:
    return Trial(
        widths=dict(plan.widths),
        latency_s=plan.cost,
        macs=bench.sizes.macs(plan.widths),
        parameters=plan.parameters,
        drop_points=lost.points,
        drop_at_most_points=lost.at_most,
        accepted=lost.at_most <= bench.context.demand.max_drop_points,
        estimated=bench.latency.estimated,
    )
