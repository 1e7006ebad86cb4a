"""Energies with known numbers: windows cut out of a power over time, above the pauses beside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.devices.profile import load_profile
from edgeslim.emulation.estimator import Estimate, estimate_energy
from edgeslim.errors import InvalidMeasurement
from edgeslim.measure.energy import Window, disturbed, energy
from edgeslim.measure.meters import Watts

PAUSES = [(0.0, 5.0), (16.0, 21.0)]
WINDOW = Window(6.0, 16.0, 100)


def instants(*levels, period_s=0.1, began_s=0.0):
    """Samples of an instant: so many seconds at so many watts, one level after the other."""
    powers = [watts for seconds, watts in levels for _ in range(round(seconds / period_s))]
    times = [began_s + number * period_s for number in range(len(powers))]
    return [Watts(at_s, at_s, watts) for at_s, watts in zip(times, powers, strict=True)]


def means(*levels, period_s=0.1, began_s=0.0):
    """The same as means between one reading and the next, as from a counter."""
    return [
        Watts(one.from_s, one.from_s + period_s, one.watts)
        for one in instants(*levels, period_s=period_s, began_s=began_s)
    ]


def of_one_window(watts, window=WINDOW, idle=PAUSES):
    (one,) = energy(watts, [window], idle, "rapl", "CPU packages").windows
    return one


@pytest.mark.parametrize("samples", [instants, means])
def test_gross_is_all_power_and_net_is_what_lies_above_the_pauses(samples):
    one = of_one_window(samples((5, 4.0), (1, 7.0), (10, 10.0), (5, 4.0)))
    assert (one.active_w, one.idle_w) == pytest.approx((10.0, 4.0)), "10 W at work, 4 W at rest"
    assert one.gross_mj == pytest.approx(1000.0), "10 W for 10 s and 100 inferences are 1000 mJ each"
    assert one.net_mj == pytest.approx(600.0), "6 W above rest are 600 mJ each"
    assert one.samples == pytest.approx(100, abs=2), "ten samples a second"


def test_the_meter_and_its_scope_are_kept():
    power = energy(means((5, 4.0), (1, 7.0), (10, 10.0), (5, 4.0)), [WINDOW], PAUSES, "rapl", "CPU packages")
    assert (power.meter, power.scope) == ("rapl", "CPU packages"), "nobody could say what the figure covers"


def test_the_idle_baseline_is_the_mean_of_the_pause_before_and_the_one_after():
    one = of_one_window(means((5, 4.0), (1, 7.0), (10, 10.0), (5, 5.0)))
    assert one.idle_w == pytest.approx(4.5), "one pause counts more than the other"
    assert one.net_mj == pytest.approx(550.0), "5.5 W above rest are 550 mJ"


def test_each_window_is_held_against_the_pauses_next_to_it():
    levels = [(5, 2.0), (1, 7.0), (10, 10.0), (5, 2.0), (1, 7.0), (10, 10.0), (5, 4.0)]
    windows = [Window(6.0, 16.0, 100), Window(22.0, 32.0, 100)]
    pauses = [(0.0, 5.0), (16.0, 21.0), (32.0, 37.0)]
    first, second = energy(means(*levels), windows, pauses[::-1], "rapl", "CPU").windows
    assert (first.idle_w, second.idle_w) == pytest.approx((2.0, 3.0)), "a pause farther away was taken"


def test_power_is_averaged_over_time_and_not_over_samples():
    slow = means((3, 20.0), period_s=0.5, began_s=6.0)
    one = of_one_window([*means((6, 4.0)), *slow, *means((7, 10.0), began_s=9.0), *means((5, 4.0), began_s=16.0)])
    assert one.active_w == pytest.approx(13.0), "3 s at 20 W and 7 s at 10 W are 13 W on average"


def test_only_what_lies_within_a_window_counts():
    inside = of_one_window(means((5, 4.0), (1, 4.0), (10, 10.0), (5, 4.0)))
    around = of_one_window(means((5, 4.0), (1, 90.0), (10, 10.0), (5, 4.0)))
    assert inside == around, "loading and warming up were counted as inferences"


def test_dropped_samples_are_no_zeros():
    watts = instants((5, 4.0), (1, 7.0), (10, 10.0), (5, 4.0))
    one = of_one_window([sample for number, sample in enumerate(watts) if number % 12 != 7])
    assert (one.active_w, one.idle_w) == pytest.approx((10.0, 4.0)), "a dropped sample lowered the power"


@pytest.mark.parametrize("samples", [instants, means])
def test_a_window_with_a_gap_is_invalid_and_says_how_much_is_covered(samples):
    watts = [one for one in samples((5, 4.0), (1, 7.0), (10, 10.0), (5, 4.0)) if not 10 <= one.from_s < 12.9]
    with pytest.raises(InvalidMeasurement, match=r"for a timed window of 10\.0 s and covers 7\d%; 10 samples and 90%"):
        of_one_window(watts)


def test_a_window_with_too_few_samples_is_invalid_and_says_how_many():
    watts = [*means((5, 4.0)), *means((10, 10.0), period_s=2.0, began_s=6.0), *means((5, 4.0), began_s=16.0)]
    with pytest.raises(InvalidMeasurement, match=r"the meter gave 5 samples for a timed window of 10\.0 s"):
        of_one_window(watts)


def test_a_pause_with_too_few_samples_is_invalid_and_says_that_it_is_a_pause():
    watts = [*means((5, 4.0)), *means((10, 10.0), began_s=6.0), *means((5, 4.0), period_s=1.0, began_s=16.0)]
    with pytest.raises(InvalidMeasurement, match=r"the meter gave 5 samples for a pause of 5\.0 s"):
        of_one_window(watts)


def test_a_meter_that_gave_nothing_is_invalid():
    with pytest.raises(InvalidMeasurement, match="the meter gave 0 samples for a timed window"):
        of_one_window([])


@pytest.mark.parametrize(
    ("idle", "where"),
    [(PAUSES[1:], "before"), (PAUSES[:1], "after"), ([], "before"), ([(5.0, 7.0), (15, 20)], "before")],
)
def test_a_window_without_a_pause_on_both_sides_is_invalid(idle, where):
    watts = means((5, 4.0), (1, 7.0), (10, 10.0), (5, 4.0))
    with pytest.raises(InvalidMeasurement, match=f"no pause lies {where} a timed window"):
        of_one_window(watts, idle=idle)


def test_no_window_is_invalid():
    with pytest.raises(InvalidMeasurement, match="no window was metered"):
        energy(means((5, 4.0)), [], PAUSES, "rapl", "CPU packages")


def test_a_long_mean_that_the_edge_of_a_window_cuts_is_a_gap():
    stalled = Watts(5.0, 8.0, 6.0)  # rest, loading and two seconds of work
    watts = [*means((5, 4.0)), stalled, *means((8, 10.0), began_s=8.0), *means((5, 4.0), began_s=16.0)]
    with pytest.raises(InvalidMeasurement, match="covers 80%"):
        of_one_window(watts)


def test_a_long_mean_inside_a_window_counts_for_its_time():
    stalled = Watts(10.0, 13.0, 20.0)
    around = [*means((6, 4.0)), *means((4, 10.0), began_s=6.0), *means((3, 10.0), began_s=13.0)]
    one = of_one_window([*around, stalled, *means((5, 4.0), began_s=16.0)])
    assert one.active_w == pytest.approx(13.0), "what a counter counted while nobody looked was lost"


@given(offset_s=st.floats(-1e6, 1e6), levels=st.lists(st.floats(0.5, 50), min_size=10, max_size=10))
@settings(max_examples=30, deadline=None)
def test_energy_does_not_depend_on_where_the_clock_begins(offset_s, levels):
    here = means((6, 4.0), *((1, watts) for watts in levels), (5, 3.0))
    there = [Watts(one.from_s + offset_s, one.to_s + offset_s, one.watts) for one in here]
    pauses = [(began_s + offset_s, ended_s + offset_s) for began_s, ended_s in PAUSES]
    window = Window(WINDOW.began_s + offset_s, WINDOW.ended_s + offset_s, 100)
    moved, one = of_one_window(there, window, pauses), of_one_window(here)
    assert (moved.gross_mj, moved.net_mj) == pytest.approx((one.gross_mj, one.net_mj), rel=1e-4, abs=1e-3), "it moved"


@given(levels=st.lists(st.floats(0, 50), min_size=10, max_size=10), inferences=st.integers(1, 100_000))
@settings(max_examples=30, deadline=None)
def test_all_inferences_together_drew_the_windows_energy(levels, inferences):
    one = of_one_window(means((6, 4.0), *((1, watts) for watts in levels), (5, 3.0)), Window(6.0, 16.0, inferences))
    assert one.gross_mj * inferences == pytest.approx(1e3 * sum(levels), rel=1e-6, abs=1e-6), "energy was lost or made"
    assert one.net_mj * inferences == pytest.approx(1e3 * (sum(levels) - 10 * one.idle_w), rel=1e-6, abs=1e-6), "net"


def noisy(seed, spread=0.02, processes=9):
    return np.exp(np.random.default_rng(seed).normal(0, spread, processes))


def test_a_meter_that_slows_the_run_is_said_with_its_factor_and_a_cure():
    found = disturbed(1.2 * noisy(1), noisy(2))
    assert found is not None, "a run a fifth slower goes unsaid"
    assert found.kind == "disturbed", "it is another kind of doubt"
    assert "1.2" in found.text, "the factor is missing"
    assert "external meter" in found.advice, "the cure is missing"


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not_blamed_on_the_meter(seed):
    assert disturbed(noisy(seed, 0.05), noisy(seed + 100, 0.05)) is None, "noise was taken for a disturbance"


def test_a_slowing_below_three_per_cent_is_not_said():
    assert disturbed(1.02 * noisy(1, 0.001), noisy(2, 0.001)) is None, "2 % is within what may be"
    assert disturbed(1.05 * noisy(1, 0.001), noisy(2, 0.001)) is not None, "5 % is not"


def test_what_slows_a_whole_round_cancels_out():
    rounds = np.geomspace(1, 4, 9)
    assert disturbed(rounds * noisy(1), rounds * noisy(2)) is None, "the rounds' common drift was blamed on the meter"
    assert disturbed(1.2 * rounds * noisy(1), rounds * noisy(2)) is not None, "the rounds' drift hides the meter"


def test_fewer_than_five_pairs_can_neither_blame_nor_clear_the_meter():
    with pytest.raises(InvalidMeasurement, match=r"4 processes with and without sampling .*; measure 5 or more"):
        disturbed(noisy(1), noisy(2, processes=4))
    assert disturbed(noisy(1), noisy(2, processes=5)) is None, "five are enough"


TOOK = Estimate(0.1, 0.08, 0.12, "ncnn-fitted", decisive=True, note=None)


def test_an_estimated_energy_lies_between_rest_for_the_shortest_and_full_load_for_the_longest_time():
    told = estimate_energy(TOOK, load_profile("raspberry-pi-4").power)
    assert told.gross_low_mj == pytest.approx(2.2 * 80), "at rest the board draws 2.2 W, for 80 ms at least"
    assert told.gross_high_mj == pytest.approx(7.2 * 120), "with every core busy it draws 7.2 W, for 120 ms at most"
    assert told.net_high_mj == pytest.approx(5.0 * 120), "above rest it draws 5 W at most"
    assert (told.kind, told.unknown) == ("estimated", ()), "everything is known, and none of it measured"


def test_an_estimated_energy_names_the_powers_it_rests_on():
    told = estimate_energy(TOOK, load_profile("raspberry-pi-4").power)
    for part in ("ncnn-fitted", "2.2 W idle (chipwired", "7.2 W active (geerlingguy"):
        assert part in told.basis, f"`{part}` is not in {told.basis}"


@pytest.mark.parametrize("device", ["raspberry-pi-5", "raspberry-pi-zero-2w"])
def test_a_power_that_nobody_measured_leaves_unknown_what_hangs_on_it(device):
    power = load_profile(device).power
    told = estimate_energy(TOOK, power)
    assert (told.gross_low_mj, told.net_high_mj) == (None, None), "an idle power was invented"
    assert told.gross_high_mj == pytest.approx(power.active.value * 120), "the upper end needs no idle power"
    assert told.unknown == ("power.idle is not measured",), "the reason is not named"


def test_without_any_power_no_energy_is_known():
    told = estimate_energy(TOOK, load_profile("x86-64-host").power)
    assert (told.gross_low_mj, told.gross_high_mj, told.net_high_mj) == (None, None, None), "a power was invented"
    assert told.unknown == ("power.idle is not measured", "power.active is not measured"), told.unknown


def test_a_time_without_an_interval_gives_no_energy():
    uncalibrated = Estimate(0.1, None, None, "ncnn-fitted, not calibrated for litert int8", decisive=False, note="why")
    told = estimate_energy(uncalibrated, load_profile("raspberry-pi-4").power)
    assert (told.gross_low_mj, told.gross_high_mj, told.net_high_mj) == (None, None, None), "a band was invented"
    assert told.unknown == ("the time has no interval",), told.unknown
