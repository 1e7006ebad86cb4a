"""A trace of an external meter: what its columns mean, and where it lies on the run's clock."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.measure.energy import Window, energy
from edgeslim.measure.meters import Watts
from edgeslim.measure.meters.csv_trace import align, read_trace

IDLE_W = 3.0
INFERENCES = 100


def saved(tmp_path, header, lines):
    file = tmp_path / "trace.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


def moments(factor=1.0, count=30):
    return [f"{(100 + 0.5 * number) * factor:.9g}" for number in range(count)]


@pytest.mark.parametrize(
    ("column", "per_second"),
    [
        *((name, 1) for name in ("time_s", "timestamp_s", "seconds", "time", "timestamp", " Time_S ")),
        *((name, 1e3) for name in ("time_ms", "timestamp_ms")),
        ("time_us", 1e6),
    ],
)
def test_every_time_column_is_read_in_its_unit(column, per_second, tmp_path):
    trace = read_trace(saved(tmp_path, f"{column},power_w", [f"{at},1" for at in moments(per_second)]))
    assert [one.from_s for one in trace] == pytest.approx([100 + 0.5 * number for number in range(30)]), "not seconds"
    assert all(one.from_s == one.to_s for one in trace), "a sample is an instant"


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        *((name, "2.5") for name in ("power_w", "watts", "power", "POWER_W")),
        ("power_mw", "2500"),
        ("power_uw", "2500000"),
        *((f"{volts},current_a", "5,0.5") for volts in ("voltage_v", "volts", "voltage")),
        *((f"voltage_v,{amperes}", "5,0.5") for amperes in ("amperes", "current")),
        ("voltage_mv,current_a", "5000,0.5"),
        ("voltage_v,current_ma", "5,500"),
        ("current_ua,voltage_mv", "500000,5000"),
        ("voltage_v,current_a,power_w", "9,9,2.5"),
        ("sample,power_w,note", '17,2.5,"a, b"'),
    ],
)  # fmt: skip
def test_every_power_column_is_read_in_its_unit(columns, cells, tmp_path):
    trace = read_trace(saved(tmp_path, f"time_s,{columns}", [f"{at},{cells}" for at in moments()]))
    assert [one.watts for one in trace] == pytest.approx([2.5] * 30), "not 2.5 W"


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("2026-03-29T01:59:59.500000", "2026-03-29T02:00:01"),  # clocks in Europe go forward between the two
        ("2026-10-25 02:59:59.500+02:00", "2026-10-25 02:00:01+01:00"),  # and back between these
        ("2026-05-01T10:00:00.500Z", "2026-05-01T10:00:02Z"),
    ],
)
def test_timestamps_are_dates_and_times(first, later, tmp_path):
    before = [f"2020-01-01T00:00:{number:02d}+00:00,1" for number in range(20)]
    trace = read_trace(saved(tmp_path, "timestamp,power_w", [*before, f"{first},1", f"{later},2"]))
    assert trace[-1].from_s - trace[-2].from_s == pytest.approx(1.5), "one and a half seconds are another time"


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    file = saved(tmp_path, "\ufefftime_s,power_w", [f"{at},1" for at in moments()])
    assert len(read_trace(file)) == 30, "the first column was not recognised"


@pytest.mark.parametrize("dropped", ["112.2,", "112.2", "112.2,nan", "112.2,NaN", ",", "", "112.2, "])
def test_lines_without_a_power_are_dropped_and_no_zeros(dropped, tmp_path):
    lines = [f"{at},1.5" for at in moments()]
    trace = read_trace(saved(tmp_path, "time_s,power_w", [*lines[:24], dropped, *lines[24:]]))
    assert [one.watts for one in trace] == [1.5] * 30, "a dropped sample became a power"


@pytest.mark.parametrize("dropped", ["112.2,5,", "112.2,,0.3", "112.2,nan,0.3"])
def test_lines_without_volts_or_amperes_are_dropped_and_no_zeros(dropped, tmp_path):
    lines = [f"{at},5,0.3" for at in moments()]
    trace = read_trace(saved(tmp_path, "time_s,voltage_v,current_a", [*lines[:24], dropped, *lines[24:]]))
    assert [one.watts for one in trace] == pytest.approx([1.5] * 30), "a dropped sample became a power"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("112.2,about 5", "could not convert string to float: 'about 5'"),
        ("112.2,inf", "must be finite"),
        ("nan,5", "must be finite"),
        ("later,5", "could not convert string to float: 'later'"),
        ("112.2,1,5", "more cells than the header; numbers take a point, not a comma"),
        ("111.5,5", "its time, 111.5, does not lie after that of the sample before"),
        ("90,5", "its time, 90, does not lie after"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(line, complaint, tmp_path):
    lines = [f"{at},1.5" for at in moments()]
    file = saved(tmp_path, "time_s,power_w", ["", *lines[:24], line, *lines[24:]])
    with pytest.raises(BadInput, match=rf"trace\.csv, line 27: .*{complaint}"):
        read_trace(file)


@pytest.mark.parametrize(
    ("header", "has"),
    [
        ("time_s,temperature", "it has time_s, temperature"),
        ("power_w", "it has power_w"),
        ("time_s,voltage_v", "it has time_s, voltage_v"),
        ("time_s;power_w", "it has time_s;power_w"),
        ("", "it has no line"),
    ],
)
def test_missing_columns_are_refused_with_those_that_would_do(header, has, tmp_path):
    with pytest.raises(BadInput) as caught:
        read_trace(saved(tmp_path, header, []))
    message = str(caught.value)
    assert has in message, "what the file has is not said"
    for name in ("time_s", "time_ms", "timestamp", "power_w", "power_mw", "voltage_v", "current_ma"):
        assert name in message, f"{name} would do and is not named"


def test_a_trace_of_few_samples_is_refused_with_their_number(tmp_path):
    with pytest.raises(BadInput, match="expected 20 samples or more; it has 19"):
        read_trace(saved(tmp_path, "time_s,power_w", [f"{at},1" for at in moments(count=19)]))
    with pytest.raises(BadInput, match="expected 20 samples or more; it has 0"):
        read_trace(saved(tmp_path, "time_s,power_w", []))


def test_what_is_no_text_and_what_is_not_there_are_bad_input(tmp_path):
    (tmp_path / "capture.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    for name in ("capture.csv", "gone.csv", "."):
        with pytest.raises(BadInput, match="cannot be read"):
            read_trace(tmp_path / name)


@dataclass(frozen=True)
class Run:
    """A run as the harness makes it: rest, and for each process a pause, loading, warming up, its window, its end."""

    edges: list[tuple[float, float]]  # from when on how many watts are drawn, by the device's clock
    windows: dict[float, list[Window]]  # by the power of what ran
    pauses: list[tuple[float, float]]
    ended_s: float

    @property
    def at_work(self):
        return [(one.began_s, one.ended_s) for windows in self.windows.values() for one in windows]


def made_run(powers_w=(6.0,), rounds=5, seed=0, window_s=10.0):
    """Rounds of one process for each power, then those without sampling, which are at work outside of any window."""
    rng = np.random.default_rng(seed)
    now_s = 5000.0
    edges, windows, pauses = [(0.0, IDLE_W)], {watts: [] for watts in powers_w}, []

    def draw(watts, seconds):
        nonlocal now_s
        edges.append((now_s, watts))
        now_s += seconds

    def start(watts):
        draw((watts + IDLE_W) / 2, 0.5 + 0.3 * rng.random())  # loading
        draw(watts, 1.5)  # warming up

    def rest():
        pauses.append((now_s + 0.3, now_s + 4.7))
        draw(IDLE_W, 5.0)

    for number in range(rounds):
        order = powers_w[::-1] if number % 2 else powers_w
        for watts in order:
            rest()
            start(watts)
            windows[watts].append(Window(now_s, now_s + window_s, INFERENCES))
            draw(watts, window_s + 0.05)
        rest()
        for watts in order:
            start(watts)
            draw(watts, 1.0)
            draw(IDLE_W, 0.2)
        draw(IDLE_W, 0.5)
    edges.append((now_s, IDLE_W))
    return Run(edges, windows, pauses, now_s)


def trace_of(run, rate_hz=20, noise_w=0.1, offset_s=0.0, ppm=0.0, before_s=15.0, after_s=15.0, seed=1):
    """What a meter with a clock of its own saw of a run."""
    at_s = np.arange(run.edges[1][0] - before_s, run.ended_s + after_s, 1 / rate_hz)
    since, watts = np.array(run.edges).T
    drawn = watts[np.searchsorted(since, at_s, side="right") - 1]
    noise = np.random.default_rng(seed).normal(0, noise_w, len(at_s))
    own = at_s * (1 + ppm * 1e-6) + offset_s
    return [Watts(t, t, w) for t, w in zip(own.tolist(), (drawn + noise).tolist(), strict=True)]


def errors_of(aligned, run):
    """By how much each window's gross and net energy differ from the truth, as a share of it."""
    found = []
    for watts, windows in run.windows.items():
        for window, one in zip(windows, energy(aligned, windows, run.pauses, "csv", "all").windows, strict=True):
            each_ms = 1e3 * (window.ended_s - window.began_s) / window.inferences
            found += [one.gross_mj / (watts * each_ms) - 1, one.net_mj / ((watts - IDLE_W) * each_ms) - 1]
    return np.abs(found)


@pytest.mark.parametrize("ppm", [0, 200, -200, 5000, -5000])
@pytest.mark.parametrize(("powers_w", "rounds"), [((6.0,), 9), ((6.0, 4.5), 9)])
def test_offset_and_skew_of_the_meters_clock_are_found(powers_w, rounds, ppm):
    run = made_run(powers_w, rounds)
    aligned = align(trace_of(run, offset_s=1_764_000_000.123, ppm=ppm), run.at_work)
    assert run.ended_s - 5000 > 170, "a run of seconds shows no skew"
    assert errors_of(aligned, run).max() < 0.02, "the energies are not those that were drawn"


def test_work_outside_of_the_windows_does_not_draw_them_away():
    run = made_run((6.0, 4.5))
    trace = trace_of(run, noise_w=0.02)
    moved_s = [moved.from_s - one.from_s for moved, one in zip(align(trace, run.at_work), trace, strict=True)]
    assert np.abs(moved_s).max() < 0.15, "loading, warming up and the processes without sampling moved the windows"


@pytest.mark.parametrize("rate_hz", [4, 1000])
def test_slow_and_fast_meters_are_laid_over_the_run_alike(rate_hz):
    run = made_run()
    aligned = align(trace_of(run, rate_hz, noise_w=0.02, offset_s=-777.7, ppm=200), run.at_work)
    assert errors_of(aligned, run).max() < 0.03, "the energies are not those that were drawn"


@settings(max_examples=8, deadline=None)
@given(offset_s=st.floats(-1e9, 1e9))
def test_energy_does_not_depend_on_the_offset_of_the_meters_clock(offset_s):
    run = made_run()
    here, there = trace_of(run), trace_of(run, offset_s=offset_s)
    powers = [energy(align(one, run.at_work), run.windows[6.0], run.pauses, "csv", "all") for one in (here, there)]
    gross, net = ([[one.gross_mj, one.net_mj] for one in power.windows] for power in powers)
    np.testing.assert_allclose(gross, net, rtol=2e-3, err_msg="the meter's clock changes the energy")


def test_a_trace_that_warms_up_meanwhile_is_laid_over_the_run_too():
    run = made_run()
    trace = trace_of(run)
    drifting = [Watts(one.from_s, one.to_s, one.watts + 0.3 * number / len(trace)) for number, one in enumerate(trace)]
    errors = errors_of(align(drifting, run.at_work), run)
    assert errors[1::2].max() < 0.02, "the net energy holds the drift of the rest"


def test_samples_that_were_dropped_do_not_move_the_run():
    run = made_run()
    kept = np.random.default_rng(5).random(100_000) > 0.1
    trace = [one for one, keep in zip(trace_of(run, ppm=200), kept, strict=False) if keep]
    assert errors_of(align(trace, run.at_work), run).max() < 0.02, "dropped samples moved the run"


def test_a_hole_in_the_trace_is_a_gap_of_its_window():
    run = made_run()
    hole_s = run.windows[6.0][2].began_s + 4
    trace = [one for one in trace_of(run) if not hole_s < one.from_s < hole_s + 3]
    with pytest.raises(InvalidMeasurement, match=r"timed window of 10\.0 s and covers 7\d%"):
        errors_of(align(trace, run.at_work), run)


def still(run, watts_of):
    times_s = [one.from_s for one in trace_of(run)]
    return [Watts(t, t, w) for t, w in zip(times_s, watts_of(len(times_s)).tolist(), strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_a_trace_without_steps_is_refused(seed):
    run, rng = made_run(), np.random.default_rng(seed)
    for name, watts_of in (
        ("noise", lambda count: 3 + rng.normal(0, 0.1, count)),
        ("a walk", lambda count: 3 + np.cumsum(rng.normal(0, 0.05, count))),
        ("a constant", lambda count: np.full(count, 3.0)),
    ):
        with pytest.raises(InvalidMeasurement, match="shows no step where the run was at work: is it of this run"):
            pytest.fail(f"{name} was taken for the run: {align(still(run, watts_of), run.at_work)[:1]}")


@pytest.mark.parametrize("seed", range(5))
def test_the_trace_of_a_run_with_other_windows_is_refused(seed):
    other = made_run((6.0, 4.5), seed=seed, window_s=12.0)
    with pytest.raises(InvalidMeasurement, match=r"shows no step where the run was at work|falls at other times"):
        align(trace_of(other), made_run((6.0, 4.5), seed=seed + 50).at_work)


def test_a_trace_whose_steps_lie_beside_the_ends_of_the_windows_is_refused():
    run = made_run(rounds=9)
    beside_s = 1.1 * np.resize([0, 1, -1], 9)
    beside = [(began_s + by_s, ended_s + by_s) for (began_s, ended_s), by_s in zip(run.at_work, beside_s, strict=True)]
    with pytest.raises(InvalidMeasurement, match="the power falls at other times than those at which"):
        align(trace_of(run), beside)


def test_a_trace_shorter_than_the_run_is_refused_with_both_lengths():
    run = made_run()
    with pytest.raises(
        InvalidMeasurement, match=r"the trace lasts 30 s, the run 11\d s: record all of it, with some rest"
    ):
        align(trace_of(run)[:601], run.at_work)


@pytest.mark.parametrize("missing_s", [75.0, 95.0, -75.0, -100.0])
def test_a_trace_that_misses_a_window_is_refused_however_much_rest_it_holds(missing_s):
    run = made_run()
    trace, samples = trace_of(run, before_s=60.0, after_s=60.0), round(missing_s * 20)
    with pytest.raises(InvalidMeasurement, match="is it of this run, and of all of it"):
        align(trace[samples:] if samples > 0 else trace[:samples], run.at_work)


def test_a_trace_that_holds_the_run_twice_is_refused():
    run = made_run()
    once = trace_of(run)
    again_s = once[-1].from_s - once[0].from_s + 0.05
    twice = [*once, *(Watts(one.from_s + again_s, one.to_s + again_s, one.watts) for one in once)]
    with pytest.raises(InvalidMeasurement, match="fits the run at two places: record this run only"):
        align(twice, run.at_work)


def test_a_run_of_one_window_is_found():
    run = made_run(rounds=1)
    assert errors_of(align(trace_of(run, offset_s=42.0), run.at_work), run).max() < 0.02, "one window is enough"
