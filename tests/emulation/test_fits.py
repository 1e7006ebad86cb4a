"""What fits into a memory: a real Linux on an emulated board, whose kernel ends what takes too much."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeslim.artifact.archive import MEASUREMENTS, pack
from edgeslim.devices.profile import load_profile
from edgeslim.emulation.bench import Skipped
from edgeslim.emulation.fits import FitReport, MemoryFit
from edgeslim.formats import RUNTIMES
from tests.support.command_line import HEEDING_CTRL_C, call
from tests.support.emulated_machine import MIB, require_emulator
from tests.support.installed import skip_without
from tests.support.packed_artifact import pack_small

RAM_MIB, STEP_MIB, STEPS = 160, 16, 12
ENDS_S = 60


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """A tiny TFLite file, and an ONNX file of a few bytes whose network fills 192 MiB."""
    require_emulator()
    onnx = pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
    for runtime in RUNTIMES:
        skip_without(runtime)
    from tests.support.small_artifact import stage

    folder = tmp_path_factory.mktemp("hungry")
    manifest = stage(folder / "staged")
    file = folder / "staged" / "models" / "tiny_fp32.onnx"
    onnx.save(with_hunger(onnx.load(file)), file)
    models = [one for one in manifest.models if (one.format, one.precision) in (("onnx", "fp32"), ("tflite", "fp32"))]
    models = tuple(one.model_copy(update={"bytes": (folder / "staged" / one.path).stat().st_size}) for one in models)
    changed = manifest.model_copy(update={"models": models, "primary": models[0].path})
    return pack(folder / "staged", changed, folder / "packed").folder


def with_hunger(model):
    """Return a model that fills memory step by step and adds 0 times the largest of it to what it answers."""
    from onnx import helper, numpy_helper

    constants = {
        "size": np.array([STEP_MIB * MIB // 4]),
        "one": np.ones(1, np.float32),
        "none": np.zeros(1, np.float32),
    }
    graph = model.graph
    nodes = [helper.make_node("Expand", ["one_made", "size"], ["part_0"])]
    nodes += [helper.make_node("Add", [f"part_{n}", "one_made"], [f"part_{n + 1}"]) for n in range(STEPS - 1)]
    nodes += [
        helper.make_node("Concat", [f"part_{n}" for n in range(STEPS)], ["all"], axis=0),
        helper.make_node("ReduceMax", ["all"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "none"], ["nothing"]),
        helper.make_node("Add", ["dense", "nothing"], ["scores"]),
    ]
    graph.node[-1].output[0] = "dense"
    # Made of the input, or the runtime would compute all of it before it runs.
    made = [helper.make_node("ReduceMax", ["flat"], ["brightest"], keepdims=0)]
    made.append(helper.make_node("Add", ["brightest", "one"], ["one_made"]))
    graph.node.extend([*made, *nodes])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return model


@pytest.fixture(scope="module")
def found(artifact):
    """Everything that a run with little memory printed and kept: exit code, JSON, stderr, saved texts."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeslim", *bench(artifact), "--json"], capture_output=True, text=True, check=False
    )
    saved = sorted((artifact / MEASUREMENTS).glob("*/*.json"))
    return done.returncode, json.loads(done.stdout), done.stderr, [file.read_text() for file in saved]


def bench(artifact, ram=f"{RAM_MIB}MiB"):
    return ["bench", str(artifact), "--on", "emulator", "--ram", ram]


def test_a_file_that_takes_too_much_is_a_result_and_the_others_go_on(found):
    code, told, err, _ = found
    hungry, tiny = told["files"]
    assert code == 3, err
    assert re.search(r"with 160MiB of memory, not every file fits:\s+- onnx fp32: .*ran out of memory", err), err
    assert (hungry["label"], hungry["fits"], hungry["peak_rss_bytes"]) == ("onnx fp32", False, None)
    assert (tiny["label"], tiny["fits"], tiny["reason"], tiny["seen"]) == ("tflite fp32", True, None, [])
    assert not told["skipped"], "a file was lost"


def test_the_sizes_are_those_that_the_device_s_kernel_counted(found):
    _, told, _, _ = found
    tiny = told["files"][1]
    assert 2 * MIB < tiny["runtime_rss_bytes"] < tiny["peak_rss_bytes"] < 30 * MIB, tiny
    assert tiny["available_bytes"] < tiny["ram_bytes"] == RAM_MIB * MIB
    assert {one["kind"] for one in told["files"]} == {"simulated"}
    assert (tiny["core"], tiny["device"]) == ("Cortex-A72", "raspberry-pi-4")


def test_no_time_is_told_or_kept(found):
    _, told, _, saved = found
    for text in (json.dumps(told), *saved):
        assert not re.search(r'"([^"]*(_s|seconds|latency|median)|time)": ', text), text


def test_all_of_it_is_kept_beside_the_artifact(found):
    _, told, _, saved = found
    kept = [json.loads(text) for text in saved]
    assert sorted((one["label"], one["fits"]) for one in kept) == [("onnx fp32", False), ("tflite fp32", True)]
    assert kept[0] == told["files"][0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_or_killed_run_leaves_no_machine_behind(artifact, found, number, code):
    before = set(artifact.glob(f"{MEASUREMENTS}/*"))
    with subprocess.Popen(
        [sys.executable, "-c", HEEDING_CTRL_C, *bench(artifact)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        qemu = wait_for(lambda: machine_of(run.pid))
        run.send_signal(number)
        assert run.wait(ENDS_S) == code
    wait_for(lambda: not Path(f"/proc/{qemu}").exists())
    assert set(artifact.glob(f"{MEASUREMENTS}/*")) == before, "something half-written was left"


def machine_of(pid):
    """Return the process of QEMU that a process started, or None."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"qemu-system-aarch64"):
            return int(child)
    return None


def wait_for(condition):
    deadline = time.monotonic() + ENDS_S
    while not (met := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return met


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ram", "512MiB"), "--ram is of the emulated machine: --on emulator"),
        (("--on", "emulator", "--ram", "lots"), "--ram: `lots` is not a quantity of bytes"),
        (("--on", "emulator", "--ram", "16MiB"), "its own kernel needs 64 MiB to come up"),
        (("--on", "emulator", "--ram", "16MiB", "--meter", "auto"), "--meter means nothing on an emulator"),
        (("--on", "emulator:intel-n100", "--ram", "512MiB"), "intel-n100 cannot be emulated"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(options, words, tmp_path, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "bench", pack_small(tmp_path), *options)
    assert (code, out, words in err) == (2, "", True), err


FITS = MemoryFit(
    label="tflite int8", runtime="litert", runtime_version="2.3.0", library="brought", model="m.tflite",
    model_sha256="0", precision_requested="int8", precision_actual="int8", executors={"XNNPACK": 21},
    device="raspberry-pi-4", core="Cortex-A72", threads=1,
    ram_bytes=512 * MIB, available_bytes=468 * 10**6, fits=True, reason=None, peak_rss_bytes=9_200_000,
    runtime_rss_bytes=3_300_000, arena_bytes=None, golden_samples=8, seen=(),
)  # fmt: skip


def test_the_table_says_what_fits_what_does_not_and_what_was_not_asked(capsys):
    from edgeslim.cli.options import show
    from edgeslim.report.emulation import fit_table

    large = replace(FITS, label="onnx fp32", fits=False, reason="out of memory", peak_rss_bytes=None)
    report = FitReport(load_profile("raspberry-pi-4"), (FITS, large), (Skipped("openvino int8", "it throws"),), None)
    show(fit_table(report))
    words = " ".join(capsys.readouterr().out.split())
    for wanted in (
        "│ tflite int8 │ yes │ 8.77 MiB │ 3.15 MiB │ not told │ 8 of 8 │",
        "│ onnx fp32 │ NO │ unknown │ unknown │ unknown │ unknown │",
        "with 512 MiB of memory, of which the system left 446 MiB; nothing is timed there",
        "does not fit: onnx fp32: out of memory",
        "not run: openvino int8: it throws",
    ):
        assert wanted in words, words
