"""Statistics are read from raw times, process by process; what is doubtful says so; a file keeps everything."""

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.artifact.records import save
from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.measure.measurement import FORMAT, Measurement, Power, bootstrap_interval, load
from tests.support.made_measurements import PLACE, doubt, made_of, measured, metered, noise, process


def sustained(*samples_s):
    """Five long processes with these raw times."""
    return made_of(*[process(*samples_s)] * 5, scenario="sustained")


def test_statistics_are_medians_over_processes_and_not_over_pooled_times():
    many_fast = process(*(0.001,) * 1000, init_s=0.1, first_s=0.5, peak_rss_bytes=10)
    slow = [
        process(0.004, init_s=0.3, first_s=0.7, peak_rss_bytes=30),
        process(0.005, init_s=0.3, first_s=0.9, peak_rss_bytes=20),
    ]
    measurement = made_of(many_fast, *slow)
    assert measurement.median_s == 0.004, "one process with many times outvoted the others"
    assert measurement.frames_per_second == pytest.approx(250), "frames per second is not the inverse of the median"
    assert (measurement.first_s, measurement.init_s, measurement.peak_rss_bytes) == (0.7, 0.3, 20), "not the medians"


def test_p90_is_the_median_of_the_processes_p90():
    runs = tuple(process(*(factor * i for i in range(1, 12))) for factor in (1.0, 2.0, 3.0))
    assert made_of(*runs).p90_s == pytest.approx(20), "the p90 of 1..11 is 10, the middle factor 2"


def test_p99_is_the_median_of_the_processes_p99():
    runs = tuple(process(*(factor * i for i in range(1, 102))) for factor in (1.0, 2.0, 3.0))
    assert made_of(*runs).p99_s == pytest.approx(200), "the p99 of 1..101 is 100, the middle factor 2"


@pytest.mark.parametrize(("times", "known"), [(99, False), (100, True)])
def test_p99_needs_a_hundred_times_in_every_process(times, known):
    runs = (process(*(1.0,) * 500), process(*(1.0,) * times))
    assert (made_of(*runs).p99_s is not None) == known, f"{times} times in one process"


def test_the_quartiles_distance_is_the_median_of_the_processes():
    runs = tuple(process(*(factor * i for i in range(1, 6))) for factor in (1.0, 2.0, 3.0))
    assert made_of(*runs).iqr_s == pytest.approx(4), "1..5 has quartiles 2 and 4, the middle factor 2"


def test_outliers_lie_beyond_the_fence_of_their_own_process():
    calm = (1.0, 2.0, 3.0, 4.0, 5.0)  # quartiles 2 and 4, so the fence is at 7
    runs = (process(*calm, 6.9), process(*calm, 50.0), process(*(40 + one for one in calm)))
    assert [run.outliers for run in runs] == [0, 1, 0], "not what lies 1.5 IQR above the third quartile"
    assert made_of(*runs).outliers == 1, "a slow process is no outlier, and a slow time in a fast one is"


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


def test_the_interval_holds_the_truth_in_nine_of_ten_measurements_of_nine_processes():
    intervals = [measured(noise(seed, 0.05)).median_interval_s for seed in range(50)]
    covered = sum(low <= 1 <= high for low, high in intervals)
    assert covered >= 45, f"{covered} of 50 intervals of 95 % hold the true median"


def test_more_times_in_a_process_do_not_narrow_the_interval():
    medians_s = noise(1, 0.05)
    few, many = measured(medians_s), measured(medians_s, times=(0.9, 1.0, 1.2) * 50)
    assert few.median_interval_s == many.median_interval_s, "times were resampled, not processes"


def test_whole_processes_are_resampled_into_the_interval_of_any_statistic():
    assert bootstrap_interval(9, lambda rows: rows.max(axis=1) - rows.min(axis=1))[1] == 8, "rows are not indices"
    assert bootstrap_interval(1, lambda rows: rows.sum(axis=1)) == (0, 0), "one process has nothing to resample"


def test_frames_per_second_have_the_interval_of_the_median_turned_over():
    measurement = measured(noise(1))
    low_s, high_s = measurement.median_interval_s
    assert measurement.frames_per_second_interval == (1 / high_s, 1 / low_s), "not the inverse of the times"


@pytest.mark.parametrize(
    ("changes", "fps"),
    [({}, 1.0), ({"scenario": "sustained"}, 1.0), ({"streams": 4}, 4.0), ({"scenario": "offline"}, 4.0)],
)
def test_frames_of_several_streams_are_counted_over_the_window_of_all(changes, fps):
    runs = (process(*(1.0,) * 8, window_s=2.0),) * 5
    measurement = made_of(*runs, **changes)
    assert measurement.frames_per_second == fps, "four streams side by side do not finish four times as many"
    assert measurement.median_s == 1.0, "the time of one inference depends on the streams"


def test_the_drift_is_the_end_over_the_beginning_and_only_sustained_runs_have_one():
    samples_s = [1.0] * 10 + [5.0] * 80 + [1.05] * 10
    measurement = sustained(*samples_s)
    assert measurement.drift == pytest.approx(1.05), "not the last tenth over the first"
    assert replace(measurement, scenario="single-stream").drift is None, "a short run has no drift to speak of"


def test_a_sustained_run_that_grew_slower_is_throttled():
    cautions = sustained(*[1.0] * 50, *[1.3] * 50).cautions
    assert [caution.kind for caution in cautions] == ["throttled"], "the end was a third slower than the beginning"
    assert "1.30 times as long" in cautions[0].text, "the sentence does not say by how much"
    assert sustained(*[1.0] * 50, *[1.09] * 50).cautions == (), "a few per cent are no throttling"


def test_what_the_runtime_allocates_is_known_only_if_every_process_says_it():
    runs = (process(1.0, arena_bytes=10), process(1.0, arena_bytes=30), process(1.0, arena_bytes=20))
    assert made_of(*runs).arena_bytes == 20, "not the median"
    assert made_of(*runs, process(1.0)).arena_bytes is None, "a process that said nothing was left out"


def test_the_runtimes_own_memory_is_a_median_too():
    runs = tuple(process(1.0, runtime_rss_bytes=size) for size in (10, 30, 20))
    assert made_of(*runs).runtime_rss_bytes == 20, "not the median over the processes"


def test_energies_are_medians_over_windows_with_their_interval():
    measurement = measured(noise(1), power=metered([2.0, 2.1, 2.2, 2.3, 9.0], idle_w=1.0))
    value, (low, high) = measurement.net_mj
    assert value == 2.2, "one window with a disturbance decides"
    assert 2.0 <= low <= value <= high <= 9.0, "the interval leaves the windows"
    assert measurement.gross_mj[0] == pytest.approx(12.2), "gross is not net and what idling draws"


def test_without_a_meter_no_energy_is_invented():
    assert (measured([1.0]).net_mj, measured([1.0]).gross_mj) == (None, None), "nothing was metered"


def test_a_quiet_measurement_has_no_warning_and_a_wild_one_says_what_to_do():
    assert measured(noise(1, 0.01)).noisy is None, "one per cent of noise is quiet"
    advice = measured(noise(1, 0.5)).noisy
    assert advice is not None, "noise of half the median must be said"
    assert "governor" in advice, "a warning without advice"


def test_one_outlier_among_nine_processes_is_no_noise():
    assert measured([1.0, 1.01, 0.99, 1.0, 1.0, 1.01, 0.99, 1.0, 10.0]).noisy is None, "the median shrugs it off"


def test_too_few_processes_are_said():
    assert "2 processes" in (measured([1.0, 1.0]).noisy or ""), "two processes cannot show their spread"
    assert measured([1.0] * 5).noisy is None, "five equal processes are enough"
    assert measured([1.0], scenario="sustained").noisy is None, "a sustained run is held against itself"


@pytest.mark.parametrize(
    ("seen", "status"),
    [((), "valid"), (("clocks",), "invalid"), (("golden",), "invalid"), (("golden", "partial"), "partial")],
)
def test_the_status_follows_from_the_doubts(seen, status):
    assert measured([1.0] * 9, seen=tuple(map(doubt, seen))).status == status, f"with {seen or 'no doubt'}"


def test_noise_joins_what_the_run_itself_saw():
    measurement = measured([1.0, 1.0], seen=(doubt("clocks"),))
    assert [caution.kind for caution in measurement.cautions] == ["clocks", "noisy"], "a doubt is missing"
    assert [caution.kind for caution in measurement.failing(["noisy", "golden"])] == ["noisy"], "other kinds asked for"


def test_json_keeps_every_raw_time_and_every_doubt():
    measurement = measured(
        noise(1), place=replace(PLACE, governor=None), seen=(doubt("clocks"),), power=metered([1.0, 2.0])
    )
    assert Measurement.from_json(measurement.to_json()) == measurement, "something was lost on the way"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: data.update(speed=1), "m.json: speed: "),
        (lambda data: data.pop("threads"), "m.json: threads: "),
        (lambda data: data.update(threads="1"), "m.json: threads: "),
        (lambda data: data.update(kind="guessed"), "m.json: kind: "),
        (lambda data: data["processes"][0].update(init_s=None), r"m.json: processes\.0\.init_s: "),
        (lambda data: data["place"].pop("kernel"), r"m.json: place\.kernel: "),
        (lambda data: data.update(seen=[{"kind": "odd", "text": "", "advice": ""}]), r"m.json: seen\.0\.kind: "),
        (lambda data: data["processes"].clear(), "m.json: int8: no process was measured"),
        (lambda data: data["processes"][0]["samples_s"].append(-1), "m.json: .*not positive"),
    ],
)
def test_json_that_breaks_the_format_names_the_file_and_the_key(change, complaint):
    data = json.loads(measured([1.0]).to_json())
    change(data)
    with pytest.raises(BadInput, match=complaint):
        Measurement.from_json(json.dumps(data), "m.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(format="edgeslim-measurement/1"), "edgeslim-measurement/1"),
        (lambda data: data.pop("format"), "without a version"),
    ],
)
def test_a_file_of_another_version_says_so_and_what_to_do(change, said):
    data = json.loads(measured([1.0]).to_json())
    change(data)
    with pytest.raises(BadInput, match=rf"m\.json: .*\({said}; this one reads {FORMAT}\); measure again"):
        Measurement.from_json(json.dumps(data), "m.json")


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, "9" * 5000, "[]", "NaN"])
def test_text_that_is_no_measurement_is_bad_input(text):
    with pytest.raises(BadInput, match=r"m\.json: text: "):
        Measurement.from_json(text, "m.json")


def test_a_measurement_without_processes_or_times_is_invalid():
    with pytest.raises(InvalidMeasurement, match="no process"):
        made_of()
    with pytest.raises(InvalidMeasurement, match="without times"):
        process()
    with pytest.raises(InvalidMeasurement, match="not positive"):
        process(0.1, 0.0)


@pytest.mark.parametrize("name", ["init_s", "first_s", "window_s"])
def test_no_time_of_a_process_may_be_zero(name):
    with pytest.raises(InvalidMeasurement, match="not positive"):
        process(0.1, **{name: 0.0})


def test_a_meter_without_windows_has_measured_nothing():
    with pytest.raises(InvalidMeasurement, match="rapl: no window was metered"):
        Power("rapl", "CPU package", ())


def test_saved_measurements_are_read_back_equal(tmp_path):
    some = [measured(noise(1), "onnx int8"), measured(noise(2), "onnx fp32")]
    save(some, tmp_path / "new" / "folder")
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == ["onnx_fp32.json", "onnx_int8.json"], "a label is not its file's name"
    assert [load(file) for file in files] == some[::-1], "something was lost on the way"


def test_a_label_cannot_leave_the_folder(tmp_path):
    save([measured([1.0], "../up/models: int8")], tmp_path / "here")
    assert [file.name for file in tmp_path.rglob("*.json")] == [".._up_models_int8.json"], "a path came of a label"
    assert not (tmp_path / "up").exists(), "a file lies outside the folder"


def test_two_measurements_of_one_name_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(BadInput, match=r"onnx_int8\.json; give them labels that differ"):
        save([measured([1.0], "onnx int8"), measured([2.0], "onnx/int8")], tmp_path / "here")
    assert not (tmp_path / "here").exists(), "half of them was written"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("gone.json", "binary.json"):
        with pytest.raises(BadInput, match=f"{name} cannot be read"):
            load(tmp_path / name)


def test_one_slow_process_in_nine_moves_neither_the_median_nor_the_throughput():
    quiet = noise(1, 0.01)
    slowed = np.array([*quiet[:-1], 2 * quiet[-1]])
    assert measured(slowed).median_s == pytest.approx(statistics.median(quiet), rel=0.02), "one process decides"
    assert measured(slowed).frames_per_second == pytest.approx(1.0, rel=0.02), "one process decides the throughput"
