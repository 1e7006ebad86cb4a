"""An artifact on the emulated core of its device: what is found, what is skipped and why, what is refused."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import edgeslim
from edgeslim.artifact.manifest import read_manifest
from edgeslim.deploy.device import Candidate
from edgeslim.devices.profile import load_profile
from edgeslim.emulation import bench as emulation_module
from edgeslim.emulation.bench import emulate, simulated, skipped_for
from edgeslim.emulation.core import open_emulator
from edgeslim.errors import BadInput, DeviceFailed, Refused, ToolFailed
from edgeslim.measure.entries import Entry, entries_of
from edgeslim.measure.measurement import load
from tests.support.command_line import call
from tests.support.emulated_core import skip_without_emulator
from tests.support.packed_artifact import pack_small

FILES = {"onnx int8", "onnx fp32", "openvino fp32", "tflite fp32"}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    skip_without_emulator()
    return pack_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def report(artifact):
    return emulate(artifact)


def test_every_file_is_counted_and_answers_as_its_golden_vectors_say(report):
    assert {one.label for one in report.simulations} == FILES
    assert report.skipped == ()
    for one in report.simulations:
        assert (one.device, one.core, one.kind) == ("raspberry-pi-4", "Cortex-A72", "simulated")
        assert one.counts["insns"] > 0, one.label
        assert not one.failing(("golden",)), one.label


def test_what_was_counted_is_kept_beside_the_artifact(report, artifact):
    kept = {json.loads(file.read_text())["label"] for file in report.folder.glob("*.json")}
    assert kept == FILES
    assert report.folder.parent == artifact / "measurements"
    (onnx,) = (one for one in report.simulations if one.label == "onnx fp32")
    assert json.loads((report.folder / "onnx_fp32.json").read_text()) == json.loads(json.dumps(asdict(onnx)))


def test_what_was_counted_is_no_measurement_to_compare_with(report):
    with pytest.raises(BadInput, match=r"onnx_fp32\.json: holds what was counted on an emulated core; only what was"):
        load(report.folder / "onnx_fp32.json")


def test_no_time_of_the_emulator_is_kept_or_shown(report):
    """What has a time is estimated, and says so."""
    for file in report.folder.glob("*.json"):
        record = json.loads(file.read_text())
        record.pop("estimate")
        assert not [
            key for key in re.findall(r'"(\w+)":', json.dumps(record)) if key.endswith("_s") or "seconds" in key
        ]


def test_a_float_file_has_a_time_with_a_band_and_an_int8_one_decides_nothing(report):
    by_label = {one.label: one for one in report.simulations}
    assert by_label["tflite fp32"].estimate.decisive
    assert by_label["tflite fp32"].energy.gross_high_mj > 0
    int8 = by_label["onnx int8"].estimate
    assert (int8.decisive, int8.low_s, int8.high_s) == (False, None, None)
    assert "not calibrated for onnxruntime int8" in int8.basis


def test_a_runtime_without_a_library_for_the_core_is_named_and_the_others_go_on(artifact, monkeypatch):
    fetch = emulation_module.libraries

    def of_onnxruntime_alone(runtime, architecture):
        if runtime != "onnxruntime":
            raise ToolFailed(f"{runtime}==9.9 has no wheel for aarch64: ask for another version")
        return fetch(runtime, architecture)

    monkeypatch.setattr(emulation_module, "libraries", of_onnxruntime_alone)
    found = emulate(artifact)
    assert {one.label for one in found.simulations} == {"onnx int8", "onnx fp32"}
    assert [(one.label, one.reason) for one in found.skipped] == [
        ("openvino fp32", "openvino==9.9 has no wheel for aarch64: ask for another version"),
        ("tflite fp32", "litert==9.9 has no wheel for aarch64: ask for another version"),
    ]


def test_where_no_file_runs_every_reason_is_told_and_nothing_is_kept(artifact):
    before = sorted(artifact.glob("measurements/*"))
    with pytest.raises(DeviceFailed) as failure:
        emulate(artifact, time_limit_s=0.05)
    told = str(failure.value)
    assert "no file runs on an emulated raspberry-pi-4" in told
    assert told.count("not finished after 0.05 s") == len(FILES)
    assert "--time-limit gives it longer" in told
    assert sorted(artifact.glob("measurements/*")) == before


def test_a_failure_that_the_profile_knows_of_is_told_with_what_it_knows():
    entry = Entry(Candidate("openvino int8", "openvino", Path("m.xml"), "int8"), None, Path())
    error = DeviceFailed("agent: unreadable-model: object is not initialized")
    skipped = skipped_for(error, entry, load_profile("raspberry-pi-4"))
    told = skipped.reason
    assert skipped.known
    assert told.startswith(
        "agent: unreadable-model: object is not initialized\nthe profile of raspberry-pi-4 knows of it:"
    )
    assert "use LiteRT or ONNX Runtime" in told
    assert not skipped_for(error, entry, load_profile("raspberry-pi-5")).known


def test_a_number_of_threads_that_nobody_timed_is_refused_before_any_work(artifact):
    with pytest.raises(Refused, match="no estimate for 3 threads: times are known for 1 and 4 threads"):
        emulate(artifact, threads=3)


def test_an_answer_that_differs_from_the_golden_one_is_a_doubt(tmp_path):
    skip_without_emulator()
    packed = pack_small(tmp_path)
    (entry,) = entries_of(packed, read_manifest(packed), "models/tiny_fp32.tflite")
    golden = packed / entry.model.outputs[0].golden
    np.save(golden, np.load(golden) + 1)
    with open_emulator(load_profile("raspberry-pi-4")) as emulator:
        (doubt,) = simulated(entry, emulator).seen
    assert (doubt.kind, "outputs differ by up to 1" in doubt.text) == ("golden", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--on", "emulator", "--meter", "auto"),
            "--meter means nothing on an emulator: instructions are counted there",
        ),
        (("--on", "emulator:intel-n100"), "intel-n100 cannot be emulated: its profile has no section `emulation`"),
        (("--on", "emulator:nowhere"), "unknown device `nowhere`"),
        (("--time-limit", "1min"), "--time-limit is of --on emulator; elsewhere --max-duration ends the timing"),
        (("--on", "emulator", "--time-limit", "soon"), "--time-limit: `soon` is not a quantity of seconds"),
    ],
)
def test_what_cannot_be_asked_of_an_emulator_is_refused(artifact, options, message, monkeypatch, capsys):
    exit_code, _, stderr = call(monkeypatch, capsys, "bench", artifact, *options)
    assert (exit_code, message in stderr) == (2, True), stderr


def test_the_command_line_prints_counts_and_how_they_were_obtained(report, monkeypatch, capsys):
    monkeypatch.setattr(edgeslim, "emulate", lambda *_, **__: report)
    exit_code, stdout, stderr = call(monkeypatch, capsys, "bench", "ARTIFACT", "--on", "emulator")
    assert (exit_code, "onnx int8: int8 was asked for, fp32 ran" in stderr) == (5, True), stderr
    assert "simulated: counts of one inference on 1 thread, by qemu-aarch64" in stdout
    assert "as a Cortex-A72" in stdout
    assert "estimated: times on 1 thread of a Raspberry Pi 4 Model B" in stdout
    assert "3 of 3" in stdout
    assert "energy, tflite fp32: board" in stdout


def test_the_command_line_says_what_every_operator_takes(artifact, monkeypatch, capsys):
    exit_code, stdout, stderr = call(monkeypatch, capsys, "profile", artifact, "--json", "-q")
    assert exit_code == 0, stderr
    found = json.loads(stdout)
    assert (found["file"], found["device"], found["shares_of"]) == (
        "models/tiny_int8.onnx", "raspberry-pi-4", "estimated time, not calibrated for onnxruntime int8",
    )  # fmt: skip
    exit_code, _, stderr = call(monkeypatch, capsys, "profile", artifact, "--on", "local")
    assert (exit_code, "operators are counted on emulator" in stderr) == (2, True)
