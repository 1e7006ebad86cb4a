"""Widths for a budget: the exact answer where there is one, a greedy path that only ever gets cheaper, or none."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from edgeslim.compress.prune.allocation import Problem, best_within, knapsack, netadapt, uniform
from edgeslim.compress.prune.channels import channels_of
from edgeslim.compress.prune.curves import Curve
from edgeslim.compress.prune.sizes import Place, Side, Sizes, sizes_of
from edgeslim.model.graph import trace
from edgeslim.model.operator import Operator

WIDTHS = (32, 24, 16, 8)


def problem_of(chance: random.Random, groups: int = 3, cost=None) -> Problem:
    """Return a chain of layers whose groups lose more the narrower they are; the cost is MACs where none is given."""
    names = [f"g{number}" for number in range(groups)]
    sides = [Side(3, {}), *(Side(0, {name: 1}) for name in names), Side(10, {})]
    places = []
    for before, after in itertools.pairwise(sides):
        size, counts = chance.randint(4, 16), [one.fixed or 32 for one in (before, after)]
        places.append(Place(Operator("conv", size, size, *counts, (3, 3), padding=(1, 1)), before, after))
    sizes = Sizes(dict.fromkeys(names, 32), tuple(places))
    curves = {}
    for name in names:
        losses = sorted(chance.random() for _ in WIDTHS[1:])
        curves[name] = Curve(name, tuple(range(32)), WIDTHS, (0.0, *losses), (100.0,) * 4)
    return Problem(curves, sizes, cost or sizes.macs)


def prices(chance: random.Random, groups: int = 3):
    """Return a cost in which every group has prices of its own, whatever the others' widths are."""
    table = {
        f"g{number}": dict(zip(WIDTHS, sorted((chance.random() for _ in WIDTHS), reverse=True), strict=True))
        for number in range(groups)
    }
    return lambda widths: sum(table[name][width] for name, width in widths.items())


def every_plan(problem: Problem) -> list:
    choices = itertools.product(*(curve.widths for curve in problem.curves.values()))
    return [problem.plan(dict(zip(problem.curves, widths, strict=True))) for widths in choices]


SEEDS = st.integers(0, 10_000)
SHARES = st.integers(10, 99).map(lambda percent: percent / 100)


@settings(max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(seed=SEEDS, share=SHARES, bounded=st.booleans())
def test_where_costs_add_up_the_knapsack_finds_the_least_loss_there_is(seed, share, bounded):
    chance = random.Random(seed)
    problem = problem_of(chance, cost=prices(chance))
    plans = every_plan(problem)
    dense = problem.plan({})
    budget = share * dense.cost
    most = round(0.6 * dense.parameters) if bounded else None
    path = netadapt(problem)
    found = knapsack(problem, budget, dense)
    wanted = min((p.divergence for p in plans if p.cost <= budget), default=None)
    assert (found is None) == (wanted is None)
    if found is not None:
        assert found.cost <= budget
        assert found.divergence == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    within = best_within(problem, path, budget, most)
    if within is not None:
        assert within.cost <= budget
        assert most is None or within.parameters <= most


def test_a_plan_that_is_dearer_than_the_budget_by_a_hair_does_not_hide_those_within():
    chance = random.Random(7)
    problem = problem_of(chance, cost=prices(chance))
    dense = problem.plan({})
    budget = dense.cost * (1 - 1e-9)  # closer than the solver looks
    found = knapsack(problem, budget, dense)
    assert found is not None
    assert found.divergence == min(plan.divergence for plan in every_plan(problem) if plan.cost <= budget)


@settings(max_examples=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(seed=SEEDS, share=SHARES)
def test_where_layers_share_their_costs_a_plan_within_the_budget_is_found_near_the_best(seed, share):
    problem = problem_of(random.Random(seed))
    budget = share * problem.plan({}).cost
    found = best_within(problem, netadapt(problem), budget)
    fitting = [plan for plan in every_plan(problem) if plan.cost <= budget]
    assert (found is None) == (not fitting)
    if found is not None:
        assert found.cost <= budget
        assert found == problem.plan(found.widths), "the plan does not say what its own widths cost"
        ranked = sorted(plan.divergence for plan in fitting)
        assert found.divergence <= ranked[len(ranked) // 10] + 1e-9, "a tenth of all plans that fit lose less"


@settings(max_examples=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(seed=SEEDS)
def test_every_step_of_the_greedy_path_costs_less_and_narrows_one_group(seed):
    problem = problem_of(random.Random(seed), groups=4)
    path = netadapt(problem)
    assert path[0] == problem.plan({})
    assert set(path[-1].widths.values()) == {8}, "it stops before the narrowest network"
    for before, after in itertools.pairwise(path):
        assert after.cost < before.cost
        changed = [name for name in before.widths if after.widths[name] != before.widths[name]]
        assert len(changed) == 1
        assert after.widths[changed[0]] < before.widths[changed[0]]


def test_the_first_greedy_step_is_the_one_of_least_loss_for_what_it_saves():
    problem = problem_of(random.Random(5))
    dense, first, *_ = netadapt(problem)
    steps = [p for p in every_plan(problem) if sum(p.widths[name] != 32 for name in p.widths) == 1]
    cheapest = min(steps, key=lambda plan: plan.divergence / (dense.cost - plan.cost))
    assert first.widths == cheapest.widths


def test_a_width_that_is_not_faster_is_never_taken():
    slow = {32: 1.0, 24: 1.5, 16: 1.0, 8: 0.7}  # 24 channels take longer than 32, 16 as long
    problem = problem_of(random.Random(1), cost=lambda widths: sum(slow[width] for width in widths.values()))
    path = netadapt(problem)
    assert {width for plan in path for width in plan.widths.values()} == {32, 8}
    found = best_within(problem, path, 0.95 * path[0].cost)
    assert sorted(found.widths.values()) == [8, 32, 32]


def test_losses_that_are_all_nothing_give_the_cheapest_network():
    problem = problem_of(random.Random(1))
    free = {name: replace(curve, divergence=(0.0,) * 4) for name, curve in problem.curves.items()}
    problem = replace(problem, curves=free)
    found = knapsack(problem, problem.plan({}).cost, problem.plan({}))
    assert set(found.widths.values()) == {8}


def test_a_budget_that_no_widths_meet_has_no_plan():
    problem = problem_of(random.Random(2))
    path = netadapt(problem)
    least = path[-1].cost
    legal = {name: list(WIDTHS) for name in problem.curves}
    assert best_within(problem, path, least).cost == least
    assert best_within(problem, path, least - 1) is None
    assert best_within(problem, path, path[0].cost, most_parameters=path[-1].parameters - 1) is None
    assert uniform(problem, legal, least - 1) is None


def test_a_bound_on_parameters_is_met_where_the_budget_alone_would_not_ask_for_it():
    problem = problem_of(random.Random(3))
    path = netadapt(problem)
    dense = path[0]
    most = dense.parameters // 2
    assert best_within(problem, path, dense.cost).parameters > most, "the budget alone meets the bound"
    found = best_within(problem, path, dense.cost, most_parameters=most)
    fitting = [plan for plan in every_plan(problem) if plan.parameters <= most]
    assert found.parameters <= most
    assert found.divergence <= sorted(plan.divergence for plan in fitting)[len(fitting) // 10] + 1e-9


def test_groups_without_a_curve_keep_their_width_and_widths_between_two_studied_ones_are_interpolated():
    problem = problem_of(random.Random(4))
    some = replace(problem, curves={name: curve for name, curve in problem.curves.items() if name != "g1"})
    assert {plan.widths["g1"] for plan in netadapt(some)} == {32}
    curve = problem.curves["g0"]
    halfway = problem.plan({"g0": 20})
    assert halfway.divergence == pytest.approx((curve.divergence[1] + curve.divergence[2]) / 2)
    assert halfway.cost == problem.sizes.macs({"g0": 20, "g1": 32, "g2": 32})


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_uniform_keeps_the_largest_equal_share_that_fits(share):
    problem = problem_of(random.Random(6))
    legal = {"g0": [32, 24, 16, 8], "g1": [32, 16], "g2": list(range(32, 0, -1))}
    budget = share * problem.plan({}).cost
    found = uniform(problem, legal, budget)
    assert found.cost <= budget

    def at(percent: int) -> dict[str, int]:
        return {name: min(widths, key=lambda w: (abs(w - 0.32 * percent), -w)) for name, widths in legal.items()}

    largest = next(percent for percent in range(99, 0, -1) if problem.plan(at(percent)).cost <= budget)
    assert found.widths == at(largest)


def test_without_any_curve_the_network_stays_as_it_is_where_it_fits():
    graph = trace(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)), (1, 3, 8, 8))
    sizes = sizes_of(graph, channels_of(graph))
    problem = Problem({}, sizes, sizes.macs)
    dense = problem.plan({})
    assert best_within(problem, netadapt(problem), dense.cost) == dense
    assert best_within(problem, netadapt(problem), dense.cost - 1) is None
