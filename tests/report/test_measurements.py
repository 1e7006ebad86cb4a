"""What a person and a script read of measurements: where they were taken, every doubt, and nothing that was not."""

import io
import json
from dataclasses import asdict, replace

import pytest
from rich.console import Console

from edgeslim.artifact.manifest import MANIFEST, manifest_text, read_manifest
from edgeslim.measure.artifact_changes import ArtifactChanges, ScoreChange, SizeChange
from edgeslim.measure.comparison import METRICS, Comparison, compare
from edgeslim.measure.probe import Finding
from edgeslim.report import tables
from edgeslim.report.measurements import (
    comparison_data,
    comparison_table,
    latency,
    measurement_data,
    measurement_table,
    place,
    place_of,
    probe_table,
)
from tests.support.made_measurements import PLACE, doubt, made_of, measured, metered, noise, process

QUIET = [0.001] * 9


def rendered(table):
    """What the terminal shows of it, on a wide page."""
    page = io.StringIO()
    Console(file=page, width=250, highlight=False, markup=False).print(tables.rendered(table))
    return page.getvalue()


def cells(table):
    """The rows of a rendered table, each a list of its cells."""
    lines = [line for line in rendered(table).splitlines() if "│" in line or "┃" in line]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in lines]


@pytest.fixture(scope="module")
def artifact_for(tmp_path_factory):
    """`artifact_for("raspberry-pi-4")` is the folder of an artifact that was built for that device."""
    pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
    pytest.importorskip("openvino", reason="openvino is not installed; pip install 'edgeslim[all]'")
    from tests.support.small_artifact import stage

    folder = tmp_path_factory.mktemp("artifact") / "staged"
    manifest = stage(folder)

    def built_for(device):
        compatible = manifest.compatible.model_copy(update={"device": device})
        (folder / MANIFEST).write_text(manifest_text(manifest.model_copy(update={"compatible": compatible})))
        return folder

    return built_for


def test_a_latency_is_a_median_with_half_its_interval():
    assert latency(measured(QUIET)) == "1 ms ±0 %", "nine equal medians have no spread"
    wide = measured([0.9e-3] * 3 + [1e-3] * 3 + [1.1e-3] * 3)
    assert latency(wide) == "1 ms ±10 %", "the interval from 0.9 to 1.1 ms is not 10 % to each side"


def test_the_place_says_that_it_was_not_the_device_where_it_was_not():
    there = place([measured(QUIET)], "raspberry-pi-4", here=True)
    assert there == (
        "ssh://pi@board, a raspberry-pi-4 (Raspberry Pi 4 Model B Rev 1.5; single-stream, 1 thread, 9 fresh processes "
        "each)"
    ), "not where and how"
    elsewhere = place([measured(QUIET)], "raspberry-pi-4", here=False)
    assert elsewhere.startswith("ssh://pi@board (Raspberry Pi 4"), "not where it was instead"
    assert elsewhere.endswith(", NOT on a raspberry-pi-4"), "a figure from elsewhere passes for the device's"


def test_the_place_says_how_it_was_measured():
    one = measured(QUIET, threads=2, streams=4, scenario="offline", place=replace(PLACE, target="local"))
    said = place([one], "raspberry-pi-4", here=True)
    assert said.startswith("this machine, a raspberry-pi-4 ("), "`local` is no word for a reader"
    assert "offline, 2 threads, 4 streams, 9 fresh processes each" in said, "not how"


def test_files_that_got_different_numbers_of_processes_say_so():
    said = place([measured(QUIET), measured(QUIET[:8])], "raspberry-pi-4", here=True)
    assert "8 to 9 fresh processes each" in said, "the device was lost before the last round was complete"


@pytest.mark.parametrize(
    ("device", "changes", "on_it"),
    [
        ("raspberry-pi-4", {}, True),
        ("raspberry-pi-5", {}, False),
        ("raspberry-pi-4", {"architecture": "armv7l"}, False),
        ("x86-64-host", {}, False),
        ("x86-64-host", {"name": "any processor", "cpu_model": "any processor", "architecture": "x86_64"}, True),
        ("intel-n100", {"name": "a board", "cpu_model": "Intel(R) N100", "architecture": "x86_64"}, True),
        ("intel-n100", {"name": "a board", "cpu_model": "Intel(R) N305", "architecture": "x86_64"}, False),
        ("a-board-of-my-own", {}, False),
    ],
)
def test_an_artifacts_figures_are_the_devices_only_where_the_machine_is_one(artifact_for, device, changes, on_it):
    one = measured(QUIET, place=replace(PLACE, **changes))
    said = place_of([one], read_manifest(artifact_for(device)))
    assert (f", a {device} (" in said) == on_it, f"said: {said}"
    assert said.endswith(f"NOT on a {device}") != on_it, f"said: {said}"


def test_the_table_holds_a_row_for_each_file():
    fp32 = measured([0.004] * 9, "onnx fp32", precision_actual="fp32", times=(1.0,) * 100)
    table = measurement_table([fp32, measured(QUIET, "onnx int8")], "a board")
    heads, first, second = cells(table)
    assert heads[:3] == ["file", "ran as", "median"], "the columns"
    assert first == [
        "onnx fp32", "fp32", "4 ms ±0 %", "4 ms", "4 ms", "250/s", "12 ms", "200 ms", "47.7 MiB", "valid",
    ], "a figure of the fp32 file"  # fmt: skip
    assert second == [
        "onnx int8", "uint8", "1 ms ±0 %", "1.16 ms", "too few", "1,000/s", "3.6 ms", "200 ms", "47.7 MiB", "valid",
    ], "a figure of the INT8 file"  # fmt: skip
    assert "energy: not measured" in rendered(table), "a missing meter is not said"


def test_the_table_says_where_it_was_taken_and_who_ran():
    text = rendered(measurement_table([measured(QUIET, "fp32"), measured(QUIET, "int8")], "this machine, NOT on a pi"))
    assert "measured on this machine, NOT on a pi" in text, "not where"
    assert text.count("onnxruntime: agent c; onnxruntime 1.32.0, brought along") == 1, "not who ran, or for each file"


def test_every_doubt_stands_below_the_table_with_its_advice():
    bad = measured([0.001, 0.001], "onnx int8", seen=(doubt("golden"), doubt("clocks")))
    too = measured(QUIET, "onnx fp32", seen=(doubt("clocks"),))
    table = measurement_table([measured(QUIET, "tflite fp32"), bad, too], "a board")
    lines = [line.strip() for line in rendered(table).splitlines()]
    said = lines[lines.index("doubt: golden: onnx int8: it looked golden") :]
    assert said == [
        "doubt: golden: onnx int8: it looked golden",
        "-> look again",
        "doubt: clocks: onnx int8, onnx fp32: it looked clocks",
        "-> look again",
        "doubt: noisy: onnx int8: 2 processes show too little of the spread",
        "-> measure 5 or more",
    ], "not every doubt once, with what it is about and what to do"
    assert [row[-1] for row in cells(table)[1:]] == ["valid", "invalid", "invalid"], "the status does not follow"


def test_energy_is_shown_with_its_interval_where_a_meter_ran():
    one = measured(QUIET, power=metered([2.0] * 4 + [2.1] * 5))
    assert "2.1 mJ (2 to 2.1)" in rendered(measurement_table([one], "a board")), "not the energy with its interval"


def test_a_measurement_as_json_is_complete():
    one = measured(noise(1), times=(1.0, 1.1) * 50, seen=(doubt("clocks"),), power=metered([2.0] * 9))
    data = json.loads(json.dumps(measurement_data(one)))
    assert data["machine"] == asdict(PLACE), "not where"
    assert data["cautions"] == [asdict(doubt("clocks"))], "not the doubts"
    assert data["processes"] == 9, "not how many processes"
    assert data["power"] == json.loads(json.dumps(asdict(one.power))), "not the windows"
    properties = {name for name, value in vars(type(one)).items() if isinstance(value, property)}
    told = {*data, "frame_times_s", "noisy"}  # they are in the saved file, and among the cautions
    assert properties <= told, f"a statistic is missing: {properties - told}"
    fields = {*type(one).__dataclass_fields__}
    assert fields - {"runtime_version", "seen", "format"} <= {*data}, "a fact is missing"
    for name in ("median_s", "p90_s", "p99_s", "iqr_s", "outliers", "first_s", "init_s", "frames_per_second"):
        assert data[name] == getattr(one, name), f"{name} is another figure"
    for name in ("median_interval_s", "frames_per_second_interval"):
        assert data[name] == list(getattr(one, name)), f"{name} is another interval"
    assert (data["net_mj"], data["net_mj_interval"]) == (2.0, [2.0, 2.0]), "not the energy and its interval"
    assert (data["gross_mj"], data["gross_mj_interval"]) == (12.0, [12.0, 12.0]), "not the energy with idling"


def test_what_was_not_measured_is_null_in_json():
    data = measurement_data(measured(QUIET))
    absent = {name for name, value in data.items() if value is None}
    assert absent == {
        "affinity", "memory_limit_bytes", "p99_s", "drift", "arena_bytes", "power", "net_mj", "net_mj_interval",
        "gross_mj", "gross_mj_interval",
    }, "a figure came from nowhere, or was lost"  # fmt: skip


def test_the_drift_of_a_sustained_run_is_in_json():
    one = made_of(*[process(*[1.0] * 50, *[1.2] * 50)] * 5, scenario="sustained")
    assert measurement_data(one)["drift"] == pytest.approx(1.2), "the end is not held against the start"


def test_a_comparison_shows_every_figure_with_its_change_and_whether_it_counts():
    both = {"times": (1.0,) * 100, "power": metered([2.0] * 9)}
    found = compare(measured(QUIET, "old", **both), measured([0.0015] * 9, "new", **both), paired=True)
    heads, *rows = cells(comparison_table(found))
    assert heads == ["figure", "before", "after", "change", "95 % interval", "p", "outcome"], "the columns"
    assert [row[0] for row in rows] == list(METRICS), "a figure is missing"
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["median"] == ["1 ms", "1.5 ms", "+50.0 %", "+50.0 % to +50.0 %", "0.004", "differs"], "a time"
    assert by_name["fps"][:3] == ["1,000/s", "667/s", "-33.3 %"], "frames a second"
    assert by_name["peak_rss"] == ["47.7 MiB", "47.7 MiB", "+0.0 %", "+0.0 % to +0.0 %", "1.000", "no difference"], (
        "memory"
    )
    assert by_name["energy"][:2] == ["2 mJ", "2 mJ"], "energy"


def test_bench_calls_its_figures_as_compare_and_its_conditions_do():
    one = measured(QUIET, times=(1.0,) * 100, power=metered([2.0] * 9))
    assert {name.replace("_", " ") for name in METRICS} <= {
        name.lower() for name in measurement_table([one], "a board").columns
    }


def test_a_comparison_says_what_and_how_was_compared_and_what_could_not_be():
    changed = measured(QUIET, "new", seen=(doubt("clocks"),))
    text = rendered(comparison_table(compare(measured(QUIET, "old"), changed, paired=False)))
    assert "new against old" in text, "not what was compared"
    assert "compared from two runs" in text, "not how"
    assert "note: taken at different times" in text, "not what to bear in mind"
    assert "note: clocks: after: it looked clocks; look again" in text, "not the doubt about one of them"
    assert "no p99: before, a process has fewer than 100 times" in text, "a figure is silently missing"
    assert "no energy: before, it was not measured" in text, "a figure is silently missing"
    again = rendered(comparison_table(compare(measured(QUIET), measured(QUIET), paired=True)))
    assert "compared interleaved, process by process" in again, "not how"


def test_a_comparison_of_artifacts_shows_verdict_size_and_score_before_the_times():
    score = ScoreChange("top-1 accuracy", "%", 94.55, 93.7, (94.09, 94.98), (93.21, 94.16), -0.85, (-1.5, -0.2), True)
    said = ArtifactChanges(
        SizeChange(1000, 1500, 1.5, True), score, None, ("accepted", "rejected"), ("after: rejected: it errs",)
    )
    found = replace(compare(measured(QUIET, "old"), measured(QUIET, "new"), paired=True), artifacts=said)
    table = comparison_table(found)
    assert cells(table)[1:5] == [
        ["verdict", "accepted", "rejected", "", "", "", "differs"],
        ["size", "1 KB", "1.5 KB", "+50.0 %", "", "", "differs"],
        [
            "score (top-1 accuracy)", "94.55 % (94.09 to 94.98)", "93.70 % (93.21 to 94.16)", "-0.85 points",
            "-1.50 to -0.20 points", "", "differs",
        ],
        ["median", "1 ms", "1 ms", "+0.0 %", "+0.0 % to +0.0 %", "1.000", "no difference"],
    ]  # fmt: skip
    assert "after: rejected: it errs" in table.notes
    assert "score: as if other images had judged each; where they are the same, the interval is too wide" in table.notes


def test_a_comparison_without_times_says_once_why_there_are_none():
    why = "its primary file runs on the device's accelerator"
    said = ArtifactChanges(SizeChange(9, 9, 1.0, False), None, "synthetic images judged", ("accepted", "accepted"))
    found = Comparison("old", "new", False, {}, dict.fromkeys(METRICS, why), (), said)
    table = comparison_table(found)
    assert table.notes == (f"no {', '.join(METRICS)}: {why}", "no score: synthetic images judged")


def test_a_path_with_brackets_stays_in_the_title():
    found = compare(measured(QUIET, "old[b]/a: int8"), measured(QUIET, "[/new]: int8"), paired=True)
    assert "[/new]: int8 against old[b]/a: int8" in rendered(comparison_table(found)), "rich read it as markup"


def test_a_comparison_as_json_is_complete():
    found = compare(measured(QUIET, "old"), measured([0.0015] * 9, "new"), paired=True)
    data = json.loads(json.dumps(comparison_data(found)))
    assert (data["a"], data["b"], data["paired"]) == ("old", "new", True), "not what was compared"
    assert data["changes"]["median"] == json.loads(json.dumps(asdict(found.changes["median"]))), "not the change"
    assert {*data["changes"], *data["missing"]} == {*METRICS}, "a figure is neither there nor missing"
    assert data["notes"] == [], "the notes are gone"


def test_a_probe_shows_every_fact_beside_the_machines_own_word():
    findings = [
        Finding("architecture", "aarch64", "aarch64", "same"),
        Finding("cores", "4", "2", "differs"),
        Finding("glibc", "what its runtimes need", "not told", "unknown"),
    ]
    table = probe_table(findings, "ssh://pi@board", "raspberry-pi-4")
    assert "ssh://pi@board beside the profile of raspberry-pi-4" in rendered(table), "not what was probed"
    assert cells(table) == [
        ["state", "what", "profile", "device"],
        ["same", "architecture", "aarch64", "aarch64"],
        ["DIFFERS", "cores", "4", "2"],
        ["unknown", "glibc", "what its runtimes need", "not told"],
    ], "a fact is missing or has another state"
