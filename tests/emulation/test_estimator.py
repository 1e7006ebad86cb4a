"""Estimates with known answers: costs recovered from made-up counts, the intervals, and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.devices.emulation import CLASSES, Cost, Estimator, Speedup
from edgeslim.devices.profile import load_profile
from edgeslim.devices.sourced import Hertz
from edgeslim.emulation.estimator import (
    Observation,
    candidates,
    choose,
    cycles,
    estimate,
    estimator_of,
    fit,
    learn_estimator,
    leave_one_out,
    relative_errors,
)
from edgeslim.errors import InvalidMeasurement, Refused

GROUPS = {"instructions": ("insns",), "L2 misses": ("l2_miss",)}
CLOCK = Hertz.model_validate({"value": "1 GHz", "source": "a test"})
FOUR = Speedup(lowest=1.2, median=2.0, highest=3.0)


def counted(instructions, misses, stores=0):
    """Counts of one inference: SIMD and stores, with the cache model on."""
    classes = {"fma_vec": instructions - stores, "vst": stores}
    return {"insns": instructions, **classes, "l2_miss": misses, "mem_access": instructions}


def made(count=12, noise=0.0):
    """Networks on a machine that takes half a cycle an instruction and 20 a miss, every other one off by `noise`."""
    seen = []
    for number in range(count):
        instructions, misses = 1e8 * (1 + number % 5), 1e6 * (1 + number % 3)
        taken = (0.5 * instructions + 20 * misses) * (1 + noise * (-1) ** number)
        seen.append(Observation(f"net{number}", "fp32", counted(instructions, misses, 1e6 * (number % 4)), taken))
    return seen


def made_estimator(**changes):
    learned = learn_estimator(made(noise=0.05), "ncnn", CLOCK, "a test", FOUR)
    return learned.model_copy(update=changes)


def test_a_fit_recovers_the_costs_that_made_the_times():
    found = {cost.name: cost.cycles for cost in fit(made(), GROUPS)}
    assert found == pytest.approx({"instructions": 0.5, "L2 misses": 20}), "exact times give other costs"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e6, 1e10), min_size=8, max_size=8))
def test_no_cost_is_negative_whatever_the_times(times):
    seen = [Observation(one.network, "fp32", one.counts, took) for one, took in zip(made(8), times, strict=True)]
    for groups in candidates(seen):
        assert all(cost.cycles >= 0 for cost in fit(seen, groups)), f"a negative cost among {list(groups)}"


def test_errors_are_relative_so_small_networks_weigh_as_much_as_large_ones():
    small, large = made(2)
    seen = [Observation("s", "fp32", small.counts, 1e6), Observation("l", "fp32", large.counts, 2e9)]
    (cost,) = fit(seen, {"instructions": ("insns",)})
    shares = [one.counts["insns"] / one.cycles for one in seen]
    best = sum(shares) / sum(share**2 for share in shares)
    assert cost.cycles == pytest.approx(best), "the large network drew the fit to itself"


def test_too_few_times_for_the_costs_are_refused():
    with pytest.raises(InvalidMeasurement, match="2 times cannot fit 2 costs; measure more networks"):
        fit(made(2), GROUPS)


def test_a_network_is_left_out_with_every_precision_of_it():
    seen = [*made(5), Observation("net0", "int8", counted(9e8, 1e6), 1e8)]
    kept = []
    leave_one_out(seen, lambda some: kept.append({one.network for one in some}) or fit(some, GROUPS))
    assert len(kept) == 5, "a network was left out more than once"
    assert all(len(names) == 4 for names in kept), f"a precision of the left-out network stayed in: {kept}"


def test_exact_times_are_predicted_without_error_when_left_out():
    predicted = leave_one_out(made(), lambda some: fit(some, GROUPS))
    assert abs(relative_errors(made(), predicted)).max() < 1e-9, "a linear machine is not predicted exactly"


def test_the_fewest_groups_are_chosen_that_are_as_good_as_the_best():
    assert choose(made(noise=0.05)) == GROUPS, "groups were added that explain nothing"


def test_l3_misses_are_tried_only_where_they_were_counted():
    assert not any("L3 misses" in groups for groups in candidates(made())), "nobody counted L3 misses"
    with_l3 = [Observation(one.network, "fp32", {**one.counts, "l3_miss": 5}, one.cycles) for one in made()]
    assert any("L3 misses" in groups for groups in candidates(with_l3)), "counted L3 misses are not tried"


def test_every_candidate_holds_each_class_of_instructions_once():
    for groups in candidates(made()):
        named = [name for names in groups.values() for name in names]
        classes = [name for name in named if name in CLASSES]
        assert named[0] == "insns" or sorted(classes) == sorted(CLASSES), f"{list(groups)} leaves out a class"


def test_a_learned_estimator_says_what_it_rests_on():
    learned = made_estimator()
    assert (learned.times, learned.networks, learned.precisions) == (12, 12, ("fp32",)), "it counts wrongly"
    assert 0 < learned.networks_left_out.mean < 0.08, "5 % of noise is no error of 8 %"
    assert learned.networks_left_out.worst <= learned.band * 1.2, "twelve times: the band is the largest distance"


def test_in_the_runtime_of_the_fit_the_interval_is_its_band():
    estimator = made_estimator(band=0.1)
    told = estimate(counted(1e8, 1e6), estimator, "ncnn", "fp32")
    seconds = cycles(counted(1e8, 1e6), estimator.costs) / 1e9
    assert (told.s, told.low_s, told.high_s) == pytest.approx((seconds, 0.9 * seconds, 1.1 * seconds)), "not the band"
    assert (told.basis, told.decisive, told.note) == ("ncnn-fitted", True, None), "it is calibrated and says otherwise"
    assert told.kind == "estimated", "an estimate must be called one"


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_float_code_of_another_runtime_gets_thirty_percent_either_way(runtime):
    told = estimate(counted(1e8, 1e6), made_estimator(band=0.1), runtime, "fp32")
    assert (told.low_s, told.high_s) == pytest.approx((0.7 * told.s, 1.3 * told.s)), "the band of a transfer is 30 %"
    assert told.basis == f"ncnn-fitted, carried over to {runtime} fp32", "it does not say that it is a transfer"
    assert told.note is not None, "the reader is not told why the band is so wide"
    assert "a convention that no board has confirmed" in told.note, told.note


def test_a_transfer_is_never_surer_than_the_fit_itself():
    told = estimate(counted(1e8, 1e6), made_estimator(band=0.4), "litert", "fp32")
    assert told.high_s == pytest.approx(1.4 * told.s), "a transfer got a narrower band than the fit"


def test_a_precision_outside_the_fit_is_a_transfer_too():
    told = estimate(counted(1e8, 1e6), made_estimator(band=0.1), "ncnn", "fp16")
    assert told.basis == "ncnn-fitted, carried over to ncnn fp16", "fp16 was not among the fitted times"


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_int8_of_another_runtime_is_not_calibrated_and_decides_nothing(runtime):
    told = estimate(counted(1e8, 1e6), made_estimator(), runtime, "int8")
    assert not told.decisive, "an uncalibrated figure may decide"
    assert (told.low_s, told.high_s) == (None, None), "an interval was invented"
    assert told.basis == f"ncnn-fitted, not calibrated for {runtime} int8", "it does not say so"
    assert told.note is not None, "the reader is not told what to do"
    assert "edgeslim bench ARTIFACT --on ssh://" in told.note, "the way out is not named"


def test_four_threads_widen_the_interval_by_the_published_speed_ups():
    one = estimate(counted(1e8, 1e6), made_estimator(band=0.1), "ncnn", "fp32")
    four = estimate(counted(1e8, 1e6), made_estimator(band=0.1), "ncnn", "fp32", threads=4)
    assert four.s == pytest.approx(one.s / 2.0), "not the median speed-up"
    assert four.low_s == pytest.approx(one.low_s / 3.0), "the low end is not that of the highest speed-up"
    assert four.high_s == pytest.approx(one.high_s / 1.2), "the high end is not that of the lowest speed-up"


@pytest.mark.parametrize("threads", [0, 2, 3, 8])
def test_no_other_number_of_threads_is_guessed(threads):
    with pytest.raises(Refused, match=f"no estimate for {threads} threads: times are known for 1 and 4 threads"):
        estimate(counted(1e8, 1e6), made_estimator(), "ncnn", "fp32", threads)


def test_four_threads_are_refused_where_nobody_timed_them():
    with pytest.raises(Refused, match="no estimate for 4 threads: times are known for 1 thread,"):
        estimate(counted(1e8, 1e6), made_estimator(four_threads=None), "ncnn", "fp32", 4)


def test_a_device_without_an_estimator_is_refused_with_those_that_have_one():
    with pytest.raises(Refused) as refused:
        estimator_of(load_profile("intel-n100"))
    assert "intel-n100: its profile has no `estimator`" in str(refused.value), "the reason is not named"
    assert "edgeslim bench ARTIFACT --on ssh://" in str(refused.value), "the way out is not named"
    for name in ("raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w"):
        assert name in str(refused.value), f"{name} has one and is not named"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"insn": 1}, "unknown count `insn`; did you mean `insns`"),
        ({"l2_miss": -1}, "count `l2_miss` is -1; expected a number from 0 on"),
        ({"l2_miss": float("nan")}, "count `l2_miss` is nan"),
        ({"insns": 0}, "no instruction was counted"),
        ({"mem_access": 0}, "cache misses have a cost and were not counted"),
    ],
)
def test_counts_that_cannot_be_are_refused(changed, message):
    with pytest.raises(InvalidMeasurement, match=message):
        cycles({**counted(1e8, 1e6), **changed}, fit(made(), GROUPS))


def test_instructions_of_no_class_are_refused_where_classes_have_costs():
    costs = [Cost(name="all", counts=CLASSES, cycles=1.0)]
    assert cycles(counted(1e8, 0), costs) == pytest.approx(1e8)
    with pytest.raises(InvalidMeasurement, match="the classes hold 100000000 of 200000000 instructions"):
        cycles({**counted(1e8, 0), "insns": 2e8}, costs)


def test_a_network_that_fits_the_cache_may_have_no_miss():
    counts = {name: value for name, value in counted(1e8, 0).items() if name != "l2_miss"}
    assert cycles(counts, fit(made(), GROUPS)) == pytest.approx(5e7), "a count of zero may be left unsaid"


def test_an_estimate_is_shown_as_its_interval_with_what_it_rests_on():
    told = estimate(counted(1e8, 1e6), made_estimator(costs=fit(made(), GROUPS), band=0.1), "ncnn", "fp32")
    assert told.shown == "63-77 ms (estimated, ncnn-fitted)"
    uncalibrated = estimate(counted(1e8, 1e6), made_estimator(costs=fit(made(), GROUPS)), "litert", "int8")
    assert uncalibrated.shown == "70 ms (estimated, ncnn-fitted, not calibrated for litert int8)"
    tiny = estimate(counted(1.9e6, 0), made_estimator(costs=fit(made(), GROUPS), band=0.1), "ncnn", "fp32")
    assert tiny.shown == "855 µs-1.05 ms (estimated, ncnn-fitted)", "two units, each with its own number"


def test_a_profile_holds_an_estimator_as_it_was_learned():
    learned = made_estimator()
    assert (
        Estimator.model_validate({**learned.model_dump(), "clock": {"value": "1 GHz", "source": "a test"}}) == learned
    )
