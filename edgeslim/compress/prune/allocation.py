"""How wide each group of channels should be: least loss for a budget of time, from measured curves and times."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeslim.compress.prune.curves import Curve
from edgeslim.compress.prune.sizes import Sizes, Widths

LINEARIZATIONS = 4
TOLERANCE = 2e-6  # by which the solver may break a constraint


@dataclass(frozen=True)
class Plan:
    """Widths, what they cost in the problem's unit, and the divergence in nats that the curves, added up, give."""

    widths: Mapping[str, int]
    cost: float
    divergence: float
    parameters: int


@dataclass(frozen=True)
class Problem:
    """Curves of what is lost, and what widths cost: seconds from measured times, or MACs, parameters or channels."""

    curves: Mapping[str, Curve]
    sizes: Sizes
    cost: Callable[[Widths], float]

    def plan(self, widths: Widths) -> Plan:
        """Return what the tables say of some widths; groups that are not named keep their own."""
        complete = {**self.sizes.dense, **widths}
        divergence = sum(
            float(np.interp(complete[name], curve.widths[::-1], curve.divergence[::-1]))
            for name, curve in self.curves.items()
        )
        return Plan(complete, self.cost(complete), divergence, self.sizes.parameters(complete))


def netadapt(problem: Problem) -> list[Plan]:
    """Return plans from the dense network to the narrowest, each one step of one group narrower than the one before.

    Every step is the one of least divergence for what it saves, with all costs looked up anew at the widths reached
    (Yang et al. 2018, NetAdapt, algorithm 1, with the curves in place of short training). A width that is not
    faster is never taken.
    """
    plans = [problem.plan({})]
    while True:
        here = plans[-1]
        best: tuple[float, Plan] | None = None
        for name, curve in problem.curves.items():
            for width in curve.widths[curve.widths.index(here.widths[name]) + 1 :]:
                there = problem.plan({**here.widths, name: width})
                saved = here.cost - there.cost
                if saved > 0:
                    price = (there.divergence - here.divergence) / saved
                    if best is None or price < best[0]:
                        best = price, there
        if best is None:
            return plans
        plans.append(best[1])


def knapsack(problem: Problem, budget: float, start: Plan, most_parameters: int | None = None) -> Plan | None:
    """Return the plan of least divergence within a budget, None where there is none.

    A multiple-choice knapsack over (group, width) solved exactly (Shen et al. 2022, HALP, section 3). What a layer
    costs depends on two groups, so costs are taken with the other groups at their widths of the last solution, from
    `start` on; what comes out is judged by its own looked-up cost.
    """
    if not problem.curves:
        return start if _fits(start, budget, most_parameters) else None
    best, around = None, start
    for _ in range(LINEARIZATIONS):
        found = _solve(problem, budget, around, most_parameters)
        if found is None:
            break
        if _fits(found, budget, most_parameters) and (best is None or found.divergence < best.divergence):
            best = found
        if found.widths == around.widths:
            break
        around = found
    return best


def _fits(plan: Plan, budget: float, most_parameters: int | None) -> bool:
    return plan.cost <= budget and (most_parameters is None or plan.parameters <= most_parameters)


def _solve(problem: Problem, budget: float, around: Plan, most_parameters: int | None) -> Plan | None:
    from scipy.optimize import Bounds, LinearConstraint, milp  # a quarter of a second, which not every command needs

    choices = [(name, width) for name, curve in problem.curves.items() for width in curve.widths]
    plans = [problem.plan({**around.widths, name: width}) for name, width in choices]
    loss = np.array([plan.divergence - around.divergence for plan in plans])
    added = np.array([plan.cost / around.cost - 1 for plan in plans])
    one_each = np.array([[float(name == group) for name, _ in choices] for group in problem.curves])
    constraints = [
        LinearConstraint(one_each, 1, 1),
        LinearConstraint(added, -np.inf, budget / around.cost - 1 - TOLERANCE),
    ]
    if most_parameters is not None:
        more = np.array([plan.parameters / around.parameters - 1 for plan in plans])
        constraints.append(LinearConstraint(more, -np.inf, most_parameters / around.parameters - 1 - TOLERANCE))
    answer = milp(
        loss + 1e-9 * added,  # equal losses are common (nothing lost at all): then the cheaper
        constraints=constraints,
        integrality=np.ones(len(choices)),
        bounds=Bounds(0, 1),
    )
    if answer.x is None:
        return None
    return problem.plan(dict(choice for choice, taken in zip(choices, answer.x, strict=True) if taken > 0.5))


def best_within(
    problem: Problem, path: Sequence[Plan], budget: float, most_parameters: int | None = None
) -> Plan | None:
    """Return the better of knapsack and greedy `path` within a budget, None where no legal widths meet it."""
    reached = [plan for plan in path if _fits(plan, budget, most_parameters)]
    greedy = min(reached, key=lambda plan: plan.divergence, default=None)
    exact = knapsack(problem, budget, greedy or path[-1], most_parameters)
    found = [plan for plan in (exact, greedy) if plan is not None]
    return min(found, key=lambda plan: plan.divergence, default=None)


def uniform(problem: Problem, legal: Mapping[str, Sequence[int]], budget: float) -> Plan | None:
    """Return the plan in which every group keeps the same share of its channels, the largest share that fits.

    `legal`: the widths each group may have; the one nearest to the share is taken.
    """
    for percent in range(99, 0, -1):
        widths = {
            name: min(choices, key=lambda width, own=choices[0]: abs(width - own * percent / 100))  # type: ignore[misc]
            for name, choices in legal.items()
        }
        plan = problem.plan(widths)
        if plan.cost <= budget:
            return plan
    return None
