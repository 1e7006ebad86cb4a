"""`bench` and `compare` as typed: exit codes, what is printed where, and the next step of every failure."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

from edgeslim.artifact.archive import MEASUREMENTS, archive_path, pack
from edgeslim.artifact.records import save
from edgeslim.deploy.memory_limit import NO_GROUP, OUT_OF_MEMORY
from edgeslim.errors import DEVICE_STATUSES
from edgeslim.measure.measurement import load
from tests.support.command_line import call
from tests.support.made_measurements import PLACE, measured
from tests.support.packed_artifact import pack_small
from tests.support.recorded_device import THROTTLED, RecordedDevice, process, put_compilers, recorded

LABELS = ["onnx int8", "onnx fp32", "openvino fp32", "tflite fp32"]
MEDIANS = [0.010 + n / 1e5 for n in range(9)]
ERROR = '{"type":"error","reason":"%s","message":"why"}'


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return pack_small(tmp_path_factory.mktemp("packed"))


@pytest.fixture
def artifact(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "tiny")


@pytest.fixture
def pi(tmp_path, monkeypatch):
    put_compilers(tmp_path, monkeypatch)
    return RecordedDevice(tmp_path / "pi")


@pytest.fixture
def edgeslim(monkeypatch, capsys):
    return partial(call, monkeypatch, capsys)


@pytest.fixture
def saved(tmp_path):
    """`saved("before", factor)` is the file of a made-up measurement."""

    def made(label, factor=1.0, **changes):
        save([measured([factor * median for median in MEDIANS], label, **changes)], tmp_path)
        return tmp_path / f"{label}.json"

    return made


def kept(artifact):
    return [load(file) for file in sorted((artifact / MEASUREMENTS).glob("*/*.json"))]


def test_a_bench_prints_one_table_with_where_and_how_and_ends_well(artifact, pi, edgeslim):
    code, out, err = edgeslim("bench", artifact, "--on", pi.address)
    assert code == 0, err
    assert [label for label in LABELS if label in out] == LABELS, "a file is missing"
    words = " ".join(out.split())
    assert f"measured on {pi.address}, a raspberry-pi-4 (Raspberry Pi 4 Model B Rev 1.5; single-stream" in words
    assert "agent c; the device's own /usr/local/lib/libonnxruntime.so.1.32.0" in words
    assert "doubt:" not in out
    assert err == "0.0 s measuring"
    assert len(kept(artifact)) == 4


def test_quiet_shows_no_progress(artifact, pi, edgeslim):
    assert edgeslim("bench", artifact, "--on", pi.address, "--quiet")[2] == ""


def test_json_holds_every_file_and_nothing_else_is_printed(artifact, pi, edgeslim):
    code, out, err = edgeslim("bench", artifact, "--on", pi.address, "--json")
    found = json.loads(out)
    assert (code, err, [one["label"] for one in found]) == (0, "", LABELS)
    assert {one["status"] for one in found} == {"valid"}
    assert found[0]["target"] == pi.address
    assert found[0]["median_s"] == next(one for one in kept(artifact) if one.label == "onnx int8").median_s


def test_a_plot_is_drawn_where_it_was_asked_for(artifact, pi, edgeslim, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install 'edgeslim[plot]'")
    code, _, err = edgeslim("bench", artifact, "--on", pi.address, "--plot", tmp_path / "times.svg")
    assert code == 0, err
    assert "<svg" in (tmp_path / "times.svg").read_text()


def test_a_plot_of_another_kind_is_refused_before_anything_runs(artifact, edgeslim):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install 'edgeslim[plot]'")
    code, out, err = edgeslim("bench", artifact, "--on", "fake:nowhere", "--plot", "times.gif")
    assert (code, out, "--plot times.gif: expected a file that ends in .svg, .png or .pdf" in err) == (2, "", True), err


def run_as_float(pi):
    as_float = [line.replace('"actual":"uint8"', '"actual":"fp32"') for line in pi.session("onnx_int8_graph")]
    pi.answer({**process("graph"), "lines": as_float})


def throttle(pi):
    pi.write(THROTTLED, "50005\n")


def answer_wrong(pi):
    pi.answer({**process("outputs"), **recorded("onnx_int8_golden"), "outputs": "outputs_wrong.npy"})
    wrong = bytearray((pi.folder / "outputs_onnx_int8.npy").read_bytes())
    wrong[-48:] = bytes(48)
    (pi.folder / "outputs_wrong.npy").write_bytes(wrong)


@pytest.mark.parametrize(
    ("change", "options", "code", "words"),
    [
        (answer_wrong, (), 5, "the figures must not be believed: - golden: onnx int8: outputs differ by up to"),
        (answer_wrong, ("--fail-on", "none"), 0, ""),
        (answer_wrong, ("--fail-on", "throttled, noisy"), 0, ""),
        (run_as_float, (), 5, "onnx int8: int8 was asked for, fp32 ran"),
        (throttle, (), 0, ""),
        (throttle, ("--fail-on", "throttled"), 5, "every file: the firmware reports under-voltage, throttled"),
        (None, ("--require-accelerator", "XNNPACK"), 5, "XNNPACK was required; by the runtime's record 3 nodes on CPU"),
        (None, ("--fail-on", "noisy", "--processes", "2"), 5, "2 processes show too little of the spread"),
    ],
)  # fmt: skip
def test_a_doubt_fails_where_it_was_asked_to_and_the_table_is_shown_all_the_same(
    artifact, pi, edgeslim, change, options, code, words
):
    if change is not None:
        change(pi)
    ended, out, err = edgeslim("bench", artifact, "--on", pi.address, *options, "--quiet")
    assert (ended, words in err) == (code, True), err
    assert all(label in out for label in LABELS), "what was measured is not shown"
    assert len(kept(artifact)) == 4, "what was measured is not kept"
    if change is not None:
        assert out.count("doubt: ") == 1, "the doubt is not shown, or more than once"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"exit": 1, "stderr": "segment lost"}, "failed"),
        ({"exit": 137}, "killed"),
        ({"exit": 137, "killed_for_memory": True}, "oom"),
        ({"exit": OUT_OF_MEMORY}, "oom"),
        ({"exit": 17, "lines": [ERROR % "old-runtime"]}, "old-runtime"),
        ({"exit": 10, "lines": [ERROR % "missing-runtime"]}, "no-runtime"),
        ({"exit": 16, "lines": [ERROR % "write-failed"]}, "disk-full"),
        ({"lines": ['{"type":"hello","proto']}, "protocol"),
    ],
)
def test_a_device_that_fails_ends_with_4_its_status_and_the_next_step(artifact, pi, edgeslim, reply, status):
    pi.answer({**process("iterations"), **reply})
    code, out, err = edgeslim("bench", artifact, "--on", pi.address, "--quiet")
    assert (code, out) == (4, ""), err
    assert err.endswith(f"status: {status} help: {DEVICE_STATUSES[status]}"), err
    assert "segment lost" in err or "stderr" not in reply, "its last words were lost"
    assert not kept(artifact), "a measurement was made up"


def reboot_in_round_3(pi):
    lines = ({**process("iterations"), **recorded(f"onnx_int8_timed_{n}")} for n in (1, 2))
    pi.answer(*lines, {**process("iterations"), "lines": pi.session("onnx_int8_timed_3")[:4], "reboots": True})


def test_what_was_measured_before_a_reboot_is_shown_as_partial_and_named(artifact, pi, edgeslim):
    reboot_in_round_3(pi)
    code, out, err = edgeslim("bench", artifact, "--on", pi.address, "--quiet")
    assert (code, out.count("│ partial │")) == (4, 4), out
    assert "partial: every file: rebooted after 2 of 9 rounds" in out, "why it is partial is not said"
    assert "look at its power supply" in out, "the next step is not said"
    assert "status: rebooted help: look at its power supply and its kernel log" in err
    assert f"is kept in {artifact / MEASUREMENTS}" in err, "where it is kept is not said"
    assert [one.status for one in kept(artifact)] == ["partial"] * 4


def test_json_of_a_run_that_was_cut_off_holds_what_was_complete(artifact, pi, edgeslim):
    reboot_in_round_3(pi)
    code, out, err = edgeslim("bench", artifact, "--on", pi.address, "--json")
    assert (code, "status: rebooted" in err) == (4, True)
    assert [(one["status"], one["processes"]) for one in json.loads(out)] == [("partial", 2)] * 4


def test_json_of_a_run_without_a_complete_process_is_an_empty_list(artifact, pi, edgeslim):
    pi.answer({**process("iterations"), "exit": 137})
    code, out, _ = edgeslim("bench", artifact, "--on", pi.address, "--json")
    assert (code, json.loads(out)) == (4, [])


def test_a_tampered_artifact_ends_with_6_before_anything_runs(artifact, edgeslim):
    (artifact / "labels.txt").write_text("another")
    code, out, err = edgeslim("bench", artifact, "--on", "fake:nowhere")
    assert (code, out) == (6, "")
    assert "`labels.txt` is not listed in manifest.json" in err


def test_an_archive_is_measured_and_keeps_nothing(packed, pi, edgeslim):
    code, out, err = edgeslim("bench", archive_path(packed), "--on", pi.address, "--quiet")
    assert (code, "tflite fp32" in out) == (0, True), err
    assert not (packed / MEASUREMENTS).exists()


def test_another_architecture_ends_with_4_and_is_measured_when_any_device_will_do(artifact, pi, edgeslim):
    pi.answer({"argv": "^uname -m$", "lines": ["x86_64"]})
    code, _, err = edgeslim("bench", artifact, "--on", pi.address)
    assert (code, "status: wrong-architecture help: build the artifact for this device" in err) == (4, True), err
    code, out, _ = edgeslim("bench", artifact, "--on", pi.address, "--any-device", "--quiet")
    assert (code, "NOT on a raspberry-pi-4" in out) == (0, True), out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--on", "shh://board"), "unknown target `shh://board`; did you mean `ssh`?; targets are fake, local, ssh"),
        (("--on", "fake:nowhere"), "nowhere/replies.jsonl cannot be read"),
        (("--meter", "rpl"), "unknown meter `rpl`; did you mean `rapl`?; meters are auto"),
        (("--meter", "auto"), "has no power meter that can be read"),
        (("--fail-on", "loud"), "--fail-on `loud`: expected some of noisy, throttled"),
        (("--min-duration", "3"), "--min-duration: `3` is not a quantity of seconds"),
        (("--memory-limit", "64"), "--memory-limit: `64` is not a quantity of bytes"),
        (("--scenario", "fast"), "Invalid value for '--scenario'"),
    ],
)
def test_bad_options_end_with_2_and_say_what_was_expected(artifact, pi, edgeslim, options, complaint):
    code, out, err = edgeslim("bench", artifact, "--on", pi.address, *options)
    assert (code, out) == (2, ""), err
    assert complaint in err, err
    assert not kept(artifact)


def test_every_option_reaches_the_agent(artifact, pi, edgeslim):
    words = (
        "--threads 2 --affinity 0,2-3 --streams 3 --iterations 5 --min-duration-s 1.5 --max-duration-s 2.0 --warmup 7"
    )
    pi.answer({"argv": f"(?s)echo 67108864 .*/opt/ort.so --runtime .*{words}", "exit": NO_GROUP})
    code, _, err = edgeslim(
        "bench", artifact, "--on", pi.address, "--threads", "2", "--affinity", "0,2-3", "--streams", "3",
        "--min-duration", "1.5s", "--max-duration", "2s", "--warmup", "7", "--memory-limit", "64MiB",
        "--library", "/opt/ort.so",
    )  # fmt: skip
    assert (code, "no control group can be made for the memory limit" in err) == (4, True), err


def test_it_runs_as_a_module_too(artifact, pi):
    done = subprocess.run(
        [sys.executable, "-m", "edgeslim", "bench", artifact, "--on", "fak:nowhere"],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean `fake`" in done.stderr


def test_saved_measurements_that_do_not_differ_end_well(saved, edgeslim):
    code, out, err = edgeslim("compare", saved("before"), saved("after"), "--fail-if", "p90>+5%")
    assert (code, err) == (0, "")
    assert "after against before" in out
    assert "compared from two runs" in out
    assert "no energy: before, it was not measured" in out


def test_saved_measurements_that_differ_end_with_3_only_where_that_was_asked(saved, edgeslim):
    before, after = saved("before"), saved("after", 1.2)
    assert edgeslim("compare", before, after)[0] == 0
    code, out, err = edgeslim("compare", before, after, "--fail-if", "p90>+5%", "--fail-if", "fps<-50%")
    assert (code, "differs" in out) == (3, True)
    assert "after.json against" in err
    assert "p90: +20.0 %" in err, err
    assert "fps" not in err, "a condition that holds is reported"


def test_a_comparison_as_json_says_which_conditions_it_breaks(saved, edgeslim):
    code, out, _ = edgeslim("compare", saved("before"), saved("after", 1.2), "--fail-if", "median>+5%", "--json")
    found = json.loads(out)
    assert (code, found["changes"]["median"]["different"]) == (3, True)
    assert found["violated"][0].startswith("median: +20.0 %")


def test_measurements_that_were_not_taken_alike_are_refused_with_what_differs(saved, edgeslim):
    other = replace(PLACE, kernel="6.12.25", governor="ondemand")
    code, out, err = edgeslim("compare", saved("before"), saved("after", place=other))
    assert (code, out) == (2, "")
    assert "they differ in kernel (6.6.31 and 6.12.25), governor (performance and ondemand)" in err


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ("p91>+5%", "expected METRIC>+PERCENT%"),
        ("energy>+5%", "there is no energy to judge: before, it was not measured"),
    ],
)
def test_a_condition_that_cannot_be_judged_is_refused(saved, edgeslim, condition, complaint):
    code, out, err = edgeslim("compare", saved("before"), saved("after"), "--fail-if", condition)
    assert (code, out, complaint in err) == (2, "", True), err


def test_a_measurement_and_an_artifact_are_not_compared(saved, artifact, edgeslim):
    code, _, err = edgeslim("compare", saved("before"), artifact)
    assert (code, "expected two measurements (.json) or two artifacts" in err) == (2, True), err


def test_a_file_that_is_no_measurement_is_named(saved, tmp_path, edgeslim):
    (tmp_path / "other.json").write_text("{}")
    code, _, err = edgeslim("compare", saved("before"), tmp_path / "other.json")
    assert (code, "other.json" in err) == (2, True), err


def test_two_artifacts_are_compared_interleaved_on_a_device(packed, artifact, pi, edgeslim):
    code, out, err = edgeslim("compare", packed, artifact, "--on", pi.address, "--quiet", "--fail-if", "median>+3%")
    assert (code, err) == (0, "")
    assert "compared interleaved, process by process" in out
    assert "no score: synthetic images judged" in out
    verdict, size = (next(line for line in out.splitlines() if f"│ {name} " in line) for name in ("verdict", "size"))
    assert (verdict.count("accepted"), "no difference" in verdict) == (2, True)
    assert (size.count(" B "), "no difference" in size) == (2, True)


def test_a_larger_artifact_that_was_rejected_ends_with_3_where_its_size_is_limited(packed, pi, tmp_path, edgeslim):
    from tests.support.small_artifact import stage

    manifest = stage(tmp_path / "staged")
    with (tmp_path / "staged" / "models" / "tiny_int8.onnx").open("ab") as file:
        file.write(b"\x72\x04more")  # a metadata field of ONNX's, of four bytes
    larger, *others = manifest.models
    models = (larger.model_copy(update={"bytes": larger.bytes + 6}), *others)
    changes = {"models": models, "status": "rejected", "reasons": ("it is too large",)}
    new = pack(tmp_path / "staged", manifest.model_copy(update=changes), tmp_path / "new").folder
    command = ("compare", packed, new, "--on", pi.address, "--quiet", "--json")
    code, out, err = edgeslim(*command, "--fail-if", "size>+0.1%", "--fail-if", "median>+50%")
    found = json.loads(out)
    assert (code, len(found["violated"])) == (3, 1), err
    assert found["violated"][0].startswith("size: +")
    told = found["artifacts"]
    assert told["size"]["b"] - told["size"]["a"] == 6
    assert (told["verdicts"], told["reasons"]) == (["accepted", "rejected"], ["after: rejected: it is too large"])
    assert (told["score"], told["no_score"]) == (None, "synthetic images judged, which say nothing about it")


def test_the_slower_of_two_artifacts_ends_with_3(packed, artifact, pi, edgeslim):
    """Rounds go forwards and backwards in turn, so the slow one's processes are 2, 3, 6, 7 and so on."""
    fast = pi.session("onnx_int8_timed_1")
    slow = [line if '"time"' not in line else slowed(line) for line in fast]
    for name, lines in (("fast", fast), ("slow", slow)):
        (pi.folder / f"{name}.jsonl").write_text("\n".join([*lines, ""]))
    order = ["fast", "slow", "slow", "fast"] * 5
    pi.answer(*({**process("iterations"), "stdout": f"{name}.jsonl"} for name in order[:18]))
    code, out, err = edgeslim("compare", packed, artifact, "--on", pi.address, "--quiet", "--fail-if", "median>+5%")
    assert (code, "median: +30" in err) == (3, True), err
    assert "differs" in out


def slowed(line):
    message = json.loads(line)
    return json.dumps({**message, "seconds": [1.3 * seconds for seconds in message["seconds"]]})


def test_a_device_that_is_lost_while_comparing_ends_with_4(packed, artifact, pi, edgeslim):
    reboot_in_round_3(pi)
    code, out, err = edgeslim("compare", packed, artifact, "--on", pi.address, "--quiet")
    assert (code, out, "status: rebooted" in err) == (4, "", True), err
