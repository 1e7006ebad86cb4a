import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.measurement import Measurement, Place, ProcessRun, faster

PLACE = Place("Raspberry Pi 4", "aarch64", "Cortex-A72", "6.6.31", "performance")


def measured(medians_s, label="int8", **changes):
    """A measurement whose processes have these medians; each has three times around its own."""
    runs = tuple(ProcessRun(0.2, 3 * m, (0.9 * m, m, 1.2 * m), 50_000_000 + i) for i, m in enumerate(medians_s))
    measurement = Measurement(
        label=label,
        runtime="onnxruntime",
        runtime_version="1.32.0",
        model="int8.onnx",
        model_sha256="ab" * 32,
        precision_requested="int8",
        precision_actual="uint8",
        threads=1,
        kind="measured",
        place=PLACE,
        processes=runs,
    )
    return replace(measurement, **changes)


def noise(seed, spread=0.02, processes=9):
    return np.exp(np.random.default_rng(seed).normal(0, spread, processes))


def test_statistics_are_medians_over_processes_and_not_over_pooled_times():
    many_fast = ProcessRun(0.1, 0.5, (0.001,) * 1000, 10)
    slow = [ProcessRun(0.3, 0.7, (0.004,), 30), ProcessRun(0.3, 0.9, (0.005,), 20)]
    measurement = measured([1.0], processes=(many_fast, *slow))
    assert measurement.median_s == 0.004, "one process with many times outvoted the others"
    assert measurement.frames_per_second == pytest.approx(250), "frames per second is not the inverse of the median"
    assert (measurement.first_s, measurement.init_s, measurement.peak_rss_bytes) == (0.7, 0.3, 20), "not the medians"


def test_p90_is_the_median_of_the_processes_p90():
    runs = tuple(ProcessRun(0.1, 0.1, tuple(factor * i for i in range(1, 12)), 1) for factor in (1.0, 2.0, 3.0))
    assert measured([1.0], processes=runs).p90_s == pytest.approx(20), "the p90 of 1..11 is 10, the middle factor 2"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=12))
def test_the_interval_holds_the_median_and_stays_within_the_processes(medians_s):
    measurement = measured(medians_s)
    low, high = measurement.median_interval_s
    assert min(medians_s) <= low * (1 + 1e-9), "the interval leaves what was measured"
    assert low <= measurement.median_s * (1 + 1e-9), "the median lies below its interval"
    assert measurement.median_s <= high * (1 + 1e-9), "the median lies above its interval"
    assert high <= max(medians_s) * (1 + 1e-9), "the interval leaves what was measured"


def test_the_interval_is_the_same_whenever_it_is_read():
    measurement = measured(noise(1))
    assert measurement.median_interval_s == measured(noise(1)).median_interval_s, "the bootstrap is not seeded"


def test_a_quiet_measurement_has_no_warning_and_a_wild_one_says_what_to_do():
    assert measured(noise(1, 0.01)).noisy is None, "one per cent of noise is quiet"
    advice = measured(noise(1, 0.5)).noisy
    assert advice is not None, "noise of half the median must be said"
    assert "governor" in advice, "a warning without advice"


def test_one_outlier_among_nine_processes_is_no_noise():
    assert measured([1.0, 1.01, 0.99, 1.0, 1.0, 1.01, 0.99, 1.0, 10.0]).noisy is None, "the median shrugs it off"


def test_too_few_processes_are_said():
    assert "2 processes" in (measured([1.0, 1.0]).noisy or ""), "two processes cannot show their spread"


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


def test_what_slows_a_whole_round_cancels_out():
    rounds = noise(3, 0.5)
    verdict = faster(measured(1.2 * rounds * noise(4, 0.01), "a"), measured(rounds * noise(5, 0.01), "b"))
    assert verdict.faster == "b", f"the rounds' common noise hid a difference of 20 %: {verdict}"


def test_an_advantage_smaller_than_the_margin_is_no_difference():
    a, b = measured([1.02] * 9, "a"), measured([1.0] * 9, "b")
    assert faster(a, b).faster is None, "2 % is within the margin of 3 %"
    assert faster(a, b, margin=0.01).faster == "b", "2 % is beyond a margin of 1 %"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"place": replace(PLACE, governor="powersave")}, "place"),
        ({"threads": 4}, "threads"),
        ({"runtime_version": "1.31.0"}, "version of onnxruntime"),
    ],
)
def test_measurements_taken_differently_are_not_comparable(changes, named):
    with pytest.raises(BadInput, match=f"not comparable: they differ in {named}"):
        faster(measured([1.0] * 9), measured([1.0] * 9, **changes))


def test_different_numbers_of_processes_are_not_comparable_and_two_pairs_are_too_few():
    with pytest.raises(BadInput, match="number of processes"):
        faster(measured([1.0] * 9), measured([1.0] * 8))
    with pytest.raises(InvalidMeasurement, match="2 processes"):
        faster(measured([1.0] * 2), measured([2.0] * 2))


def test_json_keeps_every_raw_time():
    measurement = measured(noise(1), place=replace(PLACE, governor=None))
    assert Measurement.from_json(measurement.to_json()) == measurement, "something was lost on the way"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: data.update(speed=1), "m.json: speed: "),
        (lambda data: data.pop("threads"), "m.json: threads: "),
        (lambda data: data.update(threads="1"), "m.json: threads: "),
        (lambda data: data.update(kind="guessed"), "m.json: kind: "),
        (lambda data: data["processes"][0].update(init_s=None), r"m.json: processes\.0\.init_s: "),
    ],
)
def test_json_that_breaks_the_format_names_the_file_and_the_key(change, complaint):
    data = json.loads(measured([1.0]).to_json())
    change(data)
    with pytest.raises(BadInput, match=complaint):
        Measurement.from_json(json.dumps(data), "m.json")


def test_text_that_is_no_json_is_bad_input():
    with pytest.raises(BadInput, match=r"m\.json: text: "):
        Measurement.from_json("{", "m.json")


def test_a_measurement_without_processes_or_times_is_invalid():
    with pytest.raises(InvalidMeasurement, match="no process"):
        measured([])
    with pytest.raises(InvalidMeasurement, match="without times"):
        ProcessRun(0.1, 0.1, (), 1)
    with pytest.raises(InvalidMeasurement, match="not positive"):
        ProcessRun(0.1, 0.1, (0.1, 0.0), 1)
