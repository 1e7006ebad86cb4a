"""Noise is no difference, a difference is seen through noise, and what was not taken alike is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.measure.comparison import METRICS, Condition, compare, faster, violated
from edgeslim.measure.measurement import Measurement
from tests.support.made_measurements import PLACE, doubt, made_of, measured, metered, noise, process


def median_of(a, b, *, paired):
    """The change of the median from processes with medians `a` to processes with medians `b`."""
    return compare(measured(a, "a"), measured(b, "b"), paired=paired).changes["median"]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_thing_measured_twice_is_no_difference(seed):
    verdict = faster(measured(noise(seed), "a"), measured(noise(seed + 100), "b"))
    assert verdict.faster is None, f"noise was taken for a difference: {verdict}"
    assert "no difference" in str(verdict), "the sentence says otherwise"


def test_a_clear_difference_names_the_faster_in_either_order():
    slow, quick = measured(2 * noise(1), "fp32"), measured(noise(2), "int8")
    assert faster(slow, quick).faster == "int8", "twice as fast is faster"
    assert faster(quick, slow).faster == "int8", "the order of the arguments decides"
    assert faster(slow, quick).ratio == pytest.approx(1 / faster(quick, slow).ratio), "the ratios are not inverse"
    assert "int8 is faster (ratio " in str(faster(slow, quick)), "the sentence does not name the faster"


def test_what_slows_a_whole_round_cancels_out():
    rounds = noise(3, 0.5)
    verdict = faster(measured(1.2 * rounds * noise(4, 0.01), "a"), measured(rounds * noise(5, 0.01), "b"))
    assert verdict.faster == "b", f"the rounds' common noise hid a difference of 20 %: {verdict}"
    assert verdict.ratio == pytest.approx(1.2, rel=0.02), "the rounds' common noise is in the ratio"


def test_an_advantage_smaller_than_the_margin_is_no_difference():
    a, b = measured([1.02] * 9, "a"), measured([1.0] * 9, "b")
    assert faster(a, b).faster is None, "2 % is within the margin of 3 %"
    assert faster(a, b, margin=0.01).faster == "b", "2 % is beyond a margin of 1 %"


@pytest.mark.parametrize(("paired", "count"), [(True, 40), (False, 20)])
def test_comparing_a_thing_with_itself_gives_one_alarm_in_twenty_at_most(paired, count):
    found = [median_of(noise(seed, 0.06), noise(seed + 100, 0.06), paired=paired) for seed in range(count)]
    alarms = [str(change) for change in found if change.different]
    assert len(alarms) <= count // 20, f"{len(alarms)} of {count} took noise for a difference: {'; '.join(alarms)}"


def test_a_difference_of_a_tenth_is_seen_in_pairs_even_when_rounds_differ_by_more():
    seen, unpaired = 0, 0
    for seed in range(10):
        rounds = noise(seed, 0.15)
        a, b = rounds * noise(seed + 100, 0.01), 0.9 * rounds * noise(seed + 200, 0.01)
        seen += median_of(a, b, paired=True).different
        unpaired += median_of(a, b, paired=False).different
    assert seen == 10, f"{seen} of 10 comparisons in pairs saw 10 %"
    assert unpaired < 5, f"{unpaired} of 10 without pairs: if these see it too, this test shows nothing"


def test_one_slow_process_in_nine_does_not_hide_a_difference_of_a_tenth():
    a, b = noise(1, 0.01), 0.9 * noise(2, 0.01)
    b[4] *= 2
    change = median_of(a, b, paired=True)
    assert change.different, f"one process hid it: {change}"
    assert change.ratio == pytest.approx(0.9, rel=0.02), "one process moved the ratio"


def test_a_small_difference_does_not_count_however_certain_it_is():
    change = median_of([1.0] * 9, [1.02] * 9, paired=True)
    assert change.p_value < 0.01, "all nine pairs agree"
    assert not change.different, "2 % is no reason to choose"
    assert str(change).endswith(", no difference"), f"the sentence says otherwise: {change}"


def test_a_large_difference_does_not_count_while_the_test_doubts_it():
    change = median_of([1.0] * 7, [1.2] * 6 + [0.99], paired=True)
    assert change.interval == pytest.approx((1.2, 1.2)), "the interval of seven pairs leaves out one"
    assert change.p_value == pytest.approx(0.125), "six of seven pairs agree by chance in one of eight"
    assert not change.different, "the interval alone was believed"


def test_the_sentence_of_a_change_has_ratio_interval_and_p():
    change = median_of([1.0] * 9, [1.25] * 9, paired=True)
    assert str(change) == "+25.0 % (95 % interval +25.0 % to +25.0 %; p 0.004)", "a figure is missing"


@pytest.mark.parametrize(
    ("nine_of_b", "p_value"),
    [([1.0] * 9, 1.0), ([1.0] * 3 + [1.1] * 6, 0.03125), ([1.1] * 9, 0.00390625)],
)
def test_pairs_that_are_equal_say_nothing_to_the_sign_test(nine_of_b, p_value):
    found = median_of([1.0] * 9, nine_of_b, paired=True).p_value
    assert found == pytest.approx(p_value), "ties were counted for one side"


def test_equal_values_of_two_runs_are_no_difference():
    change = median_of([1.0] * 9, [1.0] * 9, paired=False)
    assert (change.ratio, change.interval, change.different) == (1.0, (1.0, 1.0), False), "ties made a difference"
    assert change.p_value == 1.0, "ties made it certain"


def test_two_runs_without_ties_get_the_exact_p():
    change = median_of([1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4], paired=False)
    assert change.p_value == pytest.approx(2 / 252), "two of the 252 orders of five and five are this far apart"
    assert change.different, "twice the time is a difference"


@pytest.mark.parametrize("paired", [True, False])
def test_swapped_arguments_give_the_inverse(paired):
    a, b = noise(1, 0.05), 1.2 * noise(2, 0.05)
    forth, back = median_of(a, b, paired=paired), median_of(b, a, paired=paired)
    assert forth.ratio == pytest.approx(1 / back.ratio), "the ratio depends on the order"
    assert forth.interval == pytest.approx((1 / back.interval[1], 1 / back.interval[0])), "the interval does"
    assert (forth.p_value, forth.different) == (back.p_value, back.different), "the verdict does"
    assert (forth.a, forth.b) == (back.b, back.a), "the figures are not those of the arguments"


def test_two_runs_may_differ_in_their_number_of_processes():
    change = median_of(noise(1, processes=9), 1.5 * noise(2, processes=7), paired=False)
    assert change.different, "half as much again is a difference"


def test_every_figure_of_both_is_compared():
    times = {"times": (1.0,) * 100, "power": metered([2.0] * 9)}
    a, b = measured([1.0] * 9, "a", **times), measured([0.5] * 9, "b", **times)
    found = compare(a, b, paired=True)
    assert list(found.changes) == list(METRICS), "a figure is missing"
    assert found.missing == {}, "what is there was called missing"
    assert found.changes["fps"].ratio == pytest.approx(2.0), "half the time is twice the frames"
    assert found.changes["p99"].ratio == pytest.approx(0.5), "not the p99"
    assert found.changes["energy"].ratio == 1.0, "not the energy"
    assert (found.a, found.b, found.paired) == ("a", "b", True), "the names are lost"


def test_missing_figures_are_named_with_the_reason():
    found = compare(measured([1.0] * 9, power=metered([1.0] * 9)), measured([1.0] * 9), paired=True)
    assert found.missing == {
        "p99": "before, a process has fewer than 100 times",
        "energy": "after, it was not measured",
    }, "the reasons"
    assert not set(found.missing) & set(found.changes), "a figure is both missing and compared"


@pytest.mark.parametrize(
    ("power", "why"),
    [
        (metered([1.0] * 4), "after, 4 of 9 processes were metered"),
        (metered([1.0] * 8 + [-0.1]), "after, it is not above zero in every process"),
        (metered([1.0] * 9, meter="hwmon"), r"it was metered by rapl \(CPU package\) before, by hwmon \(CPU package"),
        (metered([1.0] * 9, scope="board"), r"it was metered by rapl \(CPU package\) before, by rapl \(board\) after"),
    ],
)
def test_energies_are_compared_only_where_both_were_metered_alike(power, why):
    found = compare(measured([1.0] * 9, power=metered([1.0] * 9)), measured([1.0] * 9, power=power), paired=True)
    with pytest.raises(BadInput, match=f"there is no energy to judge: {why}"):
        violated([Condition.parse("energy>+5%")], found)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"place": replace(PLACE, name="Raspberry Pi 5")}, r"machine \(Raspberry Pi 4 .* and Raspberry Pi 5\)"),
        ({"place": replace(PLACE, architecture="armv7l")}, "architecture"),
        ({"place": replace(PLACE, cpu_model="CPU part 0xd0b")}, "processor"),
        ({"place": replace(PLACE, kernel="6.12.1")}, r"kernel \(6.6.31 and 6.12.1\)"),
        ({"place": replace(PLACE, governor=None)}, r"governor \(performance and not known\)"),
        ({"scenario": "offline"}, r"scenario \(single-stream and offline\)"),
        ({"threads": 4}, r"threads \(1 and 4\)"),
        ({"streams": 2}, r"streams \(1 and 2\)"),
        ({"affinity": "0"}, r"affinity \(any CPU and 0\)"),
        ({"memory_limit_bytes": 1 << 26}, r"memory limit \(none and 67108864\)"),
        ({"runtime_version": "1.31.0"}, r"version of onnxruntime \(1.32.0 and 1.31.0\)"),
    ],
)
@pytest.mark.parametrize("comparing", [faster, lambda a, b: compare(a, b, paired=False)])
def test_measurements_taken_differently_are_not_comparable(comparing, changes, named):
    with pytest.raises(BadInput, match=f"not comparable: they differ in {named}"):
        comparing(measured([1.0] * 9), measured([1.0] * 9, **changes))


def test_agents_differ_too_much_to_compare_but_not_to_choose():
    c = measured([1.0] * 9)
    python = measured([1.0] * 9, agent="python (no C agent: no compiler)")
    with pytest.raises(BadInput, match=r"agent \(c and python\)"):
        compare(c, python, paired=False)
    assert faster(c, python).faster is None, "a choice among files of two runtimes was refused"


def test_every_way_in_which_two_differ_is_named_at_once():
    with pytest.raises(BadInput, match=r"differ in kernel \(.*\), governor \(.*\), threads \(1 and 4\)$"):
        faster(
            measured([1.0] * 9),
            measured([1.0] * 9, threads=4, place=replace(PLACE, kernel="6.1", governor="powersave")),
        )


def test_a_figure_of_another_kind_does_not_pass_for_a_measurement():
    data = json.loads(measured([1.0] * 9).to_json()) | {"kind": "simulated"}
    with pytest.raises(BadInput, match=r"simulated\.json: kind: Input should be 'measured'"):
        Measurement.from_json(json.dumps(data), "simulated.json")


def test_another_runtime_and_another_reason_for_the_same_agent_do_not_matter():
    a = measured([2.0] * 9, "onnx", agent="python (no C library of onnxruntime)")
    b = measured([1.0] * 9, "tflite", agent="python (no C library of litert)", runtime="litert", runtime_version="2.3")
    assert faster(a, b).faster == "tflite", "two runtimes are compared by their times"


def test_different_numbers_of_processes_are_not_comparable_and_two_pairs_are_too_few():
    with pytest.raises(BadInput, match=r"number of processes \(9 and 8\)"):
        faster(measured([1.0] * 9), measured([1.0] * 8))
    with pytest.raises(BadInput, match=r"number of processes \(9 and 8\)"):
        compare(measured([1.0] * 9), measured([1.0] * 8), paired=True)
    with pytest.raises(InvalidMeasurement, match="2 processes"):
        faster(measured([1.0] * 2), measured([2.0] * 2))


@pytest.mark.parametrize(("paired", "few", "needed"), [(True, 5, 6), (False, 4, 5)])
def test_too_few_processes_to_tell_anything_are_refused_with_how_many_to_measure(paired, few, needed):
    with pytest.raises(InvalidMeasurement, match=f"{few} processes cannot tell .*; measure {needed} or more"):
        median_of([1.0] * few, [2.0] * few, paired=paired)
    assert median_of([1.0] * needed, [2.0] * needed, paired=paired).different, f"{needed} can tell"


@pytest.mark.parametrize("kind", ["golden", "fallback", "partial"])
def test_figures_that_must_not_be_believed_are_not_compared(kind):
    good, bad = measured([1.0] * 9), measured([1.0] * 9, seen=(doubt(kind),))
    with pytest.raises(BadInput, match=rf"not comparable: after \(int8\): {kind}: it looked {kind}$"):
        compare(good, bad, paired=True)
    with pytest.raises(BadInput, match=rf"not comparable: before \(int8\): {kind}"):
        compare(bad, good, paired=False)


def test_other_doubts_are_told_and_do_not_forbid():
    found = compare(measured([1.0] * 9), measured([1.0] * 9, seen=(doubt("clocks"),)), paired=True)
    assert found.notes == ("clocks: after: it looked clocks; look again",), "a doubt was lost"
    hot = measured([1.0] * 9, seen=(doubt("clocks"),))
    assert compare(hot, hot, paired=True).notes == ("clocks: before and after: it looked clocks; look again",)


def test_what_may_lie_behind_a_difference_of_two_runs_is_noted():
    later = measured([1.0] * 9, place=replace(PLACE, boot_id="second"), library="the device's own")
    notes = "\n".join(compare(measured([1.0] * 9), later, paired=False).notes)
    for said in ("taken at different times", "booted between", "two builds of onnxruntime"):
        assert said in notes, f"not noted: {said}"


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("p90>+5%", Condition("p90", above=True, amount=5.0)),
        ("fps<-3%", Condition("fps", above=False, amount=-3.0)),
        (" peak_rss > +2.5 % ", Condition("peak_rss", above=True, amount=2.5)),
        ("energy<-99.9%", Condition("energy", above=False, amount=-99.9)),
        ("init>+0%", Condition("init", above=True, amount=0.0)),
        ("first>+150%", Condition("first", above=True, amount=150.0)),
        ("size>+5%", Condition("size", above=True, amount=5.0)),
        ("score<-0.5", Condition("score", above=False, amount=-0.5)),
        ("score > +100", Condition("score", above=True, amount=100.0)),
    ],
)
def test_a_condition_is_read(text, condition):
    assert Condition.parse(text) == condition, "it was read as something else"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p90",
        "p90>5%",
        "p90>+5",
        "p95>+5%",
        "p90=+5%",
        "p90>-5%",
        "fps<+3%",
        "p90>+5%!",
        "p90>+1e3%",
        "size>+5",
        "score<-1%",
    ],
)
def test_what_is_no_condition_is_refused_with_an_example(text):
    wanted = r"expected METRIC>\+PERCENT% or METRIC<-PERCENT%.*median.*energy, size, or score<-POINTS"
    with pytest.raises(BadInput, match=wanted + r"; for example p90>\+5% or score<-0\.5$"):
        Condition.parse(text)


def test_nothing_can_fall_by_all_of_it():
    with pytest.raises(BadInput, match="nothing falls by 100 % or more"):
        Condition.parse("fps<-100%")


@pytest.mark.parametrize(
    ("text", "times", "broken"),
    [
        ("median>+5%", 1.1, True),
        ("median>+10%", 1.1, False),  # exactly the limit
        ("median>+5%", 0.8, False),
        ("fps<-5%", 1.1, True),
        ("fps<-10%", 1.1, False),
        ("fps<-5%", 0.8, False),
        ("median>+1%", 1.02, False),  # beyond the limit, but no difference that counts
    ],
)
def test_a_condition_is_broken_by_a_change_beyond_it_that_counts(text, times, broken):
    found = compare(measured([1.0] * 9), measured([times] * 9), paired=True)
    sentences = violated([Condition.parse(text)], found)
    assert bool(sentences) == broken, f"{found.changes['median']}: {sentences}"


def test_a_broken_condition_says_the_change_and_the_limit():
    found = compare(measured([1.0] * 9), measured([1.25] * 9), paired=True)
    (sentence,) = violated([Condition.parse("p90>+5%"), Condition.parse("p90>+30%")], found)
    assert sentence.startswith("p90: +25.0 % (95 % interval "), f"no change in `{sentence}`"
    assert sentence.endswith("; the limit is +5 %"), f"no limit in `{sentence}`"


def test_a_condition_on_a_figure_that_is_not_there_is_bad_input():
    found = compare(measured([1.0] * 9), measured([1.0] * 9), paired=True)
    wanted = [Condition.parse("p99>+5%"), Condition.parse("energy>+5%")]
    with pytest.raises(BadInput, match=r"there is no p99 to judge: before, .*; there is no energy to judge: before, "):
        violated(wanted, found)


@pytest.mark.parametrize("text", ["size>+5%", "score<-0.5"])
def test_measurements_have_neither_size_nor_score(text):
    found = compare(measured([1.0] * 9), measured([1.0] * 9), paired=True)
    with pytest.raises(BadInput, match="to judge: saved measurements hold none, artifacts do"):
        violated([Condition.parse(text)], found)


def test_the_ratio_of_pairs_need_not_be_that_of_the_medians():
    a, b = np.array([1.0, 1, 1, 2, 2, 2, 2]), np.array([1.1, 1.1, 1.1, 1.9, 2.2, 2.2, 2.2])
    change = median_of(a, b, paired=True)
    assert change.ratio == pytest.approx(1.1), "not the median of the pairs' ratios"
    assert change.b / change.a == pytest.approx(0.95), "not the medians over processes"


def test_frames_of_several_streams_are_compared_by_their_throughput():
    a, b = (made_of(*[process(*(1.0,) * 8, window_s=window_s)] * 9, streams=4) for window_s in (2.0, 4.0))
    change = compare(a, b, paired=True).changes["fps"]
    assert (change.a, change.b) == (4.0, 2.0), "not inferences over the window"
    assert change.different, "half the throughput is a difference"
