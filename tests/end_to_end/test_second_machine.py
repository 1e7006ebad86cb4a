"""A whole bench on a second machine: an emulated aarch64 board that is rebooted, cut off, filled up and starved."""

import json
import re
import subprocess
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeslim.artifact.archive import MEASUREMENTS, pack
from edgeslim.deploy.device import Candidate, open_device
from edgeslim.errors import DeviceFailed
from edgeslim.measure.bench import CutOff, bench
from edgeslim.measure.harness import Workload, measure
from edgeslim.measure.measurement import load
from tests.support.builds import edgeslim
from tests.support.emulated_machine import RAM_BYTES, REMOTE, running_machine
from tests.support.small_artifact import stage

FORMATS_THERE = ("models/tiny_fp32.onnx", "models/tiny_fp32.tflite")
REBOOT_AT_THE_NEXT_TIME = f"""
cd {REMOTE}; touch mark
while ! find . -name 'session-*' -newer mark -exec grep -l '"time"' {{}} + | grep -q .; do sleep 0.1; done
rm mark; sync; echo b >/proc/sysrq-trigger
"""
STEP_MIB, STEPS = 16, 8


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with running_machine(tmp_path_factory.mktemp("machine")) as one:
        yield one


@pytest.fixture
def artifact(tmp_path):
    """A small artifact with the fp32 files of two formats."""
    staging = tmp_path / "staging"
    manifest = stage(staging)
    models = tuple(model for model in manifest.models if model.path in FORMATS_THERE)
    return pack(staging, replace_models(manifest, models), tmp_path / "artifact").folder


def replace_models(manifest, models):
    return manifest.model_copy(update={"models": models, "primary": models[0].path})


@pytest.fixture(scope="module")
def hungry(tmp_path_factory):
    """A small file whose network fills memory step by step, 256 MiB in all, and its input."""
    size = STEP_MIB * 2**20 // 4
    nodes = [helper.make_node("Expand", ["x", "size"], ["part_0"])]
    nodes += [helper.make_node("Add", [f"part_{n}", "x"], [f"part_{n + 1}"]) for n in range(STEPS - 1)]
    nodes.append(helper.make_node("Concat", [f"part_{n}" for n in range(STEPS)], ["all"], axis=0))
    nodes.append(helper.make_node("ReduceMax", ["all"], ["y"], keepdims=1))
    graph = helper.make_graph(
        nodes, "hungry", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [onnx.numpy_helper.from_array(np.array([size]), "size")],
    )  # fmt: skip
    file = tmp_path_factory.mktemp("hungry") / "hungry.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return Candidate("hungry", "onnxruntime", file, "fp32"), np.ones((1, 1), np.float32)


def starve(machine, hungry, **limits):
    """Run the hungry network there and return how it ended."""
    candidate, x = hungry
    with open_device(machine.address) as device, pytest.raises(DeviceFailed) as failed:
        measure([candidate], x, Workload(processes=1, min_duration_s=0, **limits), device=device)
    return failed.value


def test_a_bench_deploys_measures_and_cleans_up_and_the_second_one_sends_nothing_again(machine, artifact):
    done = edgeslim("bench", str(artifact), "--on", machine.address, "--processes", "2", "--json")
    assert done.returncode == 0, done.stderr
    onnx_file, tflite = json.loads(done.stdout)
    for one in (onnx_file, tflite):
        assert (one["agent"], one["target"], one["place"]) == ("c", machine.address, "linux,dummy-virt"), one
        assert "brought along" in one["library"], "whose runtime it is is not said"
        assert re.match(r"(onnxruntime|litert) \d", one["runtime"]), "the version is not known"
        assert one["median_s"] > 0, "nothing was timed"
        assert one["peak_rss_bytes"] > one["runtime_rss_bytes"] > 2**20, "the memory is implausible"
        assert {doubt["kind"] for doubt in one["cautions"]} == {"noisy"}, one["cautions"]  # two processes are few
    assert machine.ssh(f"ls {REMOTE}") == "kept\n", "the session's folder is still there"
    kept = machine.ssh(f"find {REMOTE} -type f -exec stat -c '%n %Z' {{}} +")
    assert "libonnxruntime" in kept, "the runtime was not kept for the next time"
    assert edgeslim("bench", str(artifact), "--on", machine.address, "--processes", "1").returncode == 0
    assert machine.ssh(f"find {REMOTE} -type f -exec stat -c '%n %Z' {{}} +") == kept, "something was sent again"
    saved = [load(file) for file in sorted((artifact / MEASUREMENTS).glob("*/*.json"))]
    assert [len(one.processes) for one in saved] == [2, 2, 1, 1], "measurements were lost or overwritten"


def test_a_reboot_in_the_middle_of_a_run_keeps_what_was_measured_marked_partial(machine, artifact):
    boots = machine.boots()

    def reboot(progress):
        if progress.doing.startswith("timing") and progress.done == 3:
            machine.ssh(f"({REBOOT_AT_THE_NEXT_TIME}) >/dev/null 2>&1 &")

    with pytest.raises(CutOff, match="rebooted in the middle of a run") as cut:
        bench(artifact, on=machine.address, workload=Workload(processes=4, min_duration_s=3), progress=reboot)
    assert (cut.value.status, cut.value.exit_code) == ("rebooted", 4)
    machine.wait_for_boots(boots + 1)
    folder = cut.value.report.folder
    saved = [load(file) for file in sorted(folder.glob("*.json"))]
    assert [one.status for one in saved] == ["partial", "partial"], "a partial measurement passes for a whole one"
    assert sorted(len(one.processes) for one in saved) == [1, 2], "complete processes were lost or averaged"
    assert "rebooted" in saved[0].cautions[0].text, "the reason is not said"
    assert '"time"' in (folder / "cut_short.jsonl").read_text(), "what the cut process had measured is lost"
    again = edgeslim("bench", str(artifact), "--on", machine.address, "--processes", "1")
    assert again.returncode == 0, again.stderr
    assert machine.ssh(f"ls {REMOTE}") == "kept\n", "what the reboot left was not cleaned up"


def test_a_connection_that_is_cut_in_the_middle_loses_nothing(machine, artifact):
    def cut(progress):
        if progress.doing.startswith("timing") and progress.done == 1:
            threading.Timer(1.0, subprocess.run, (["pkill", "-9", "-f", f"ssh -M -N.*-p {machine.port}"],)).start()

    workload = Workload(processes=2, min_duration_s=4)
    measured = bench(artifact, on=machine.address, workload=workload, progress=cut).measurements
    assert [len(one.processes) for one in measured] == [2, 2], "the process that was cut off was not fetched"
    for one in measured:
        assert all(run.window_s >= 3.5 for run in one.processes), "a run was cut short"


def test_a_full_disk_is_a_result_and_leaves_nothing_half_written(machine, artifact):
    free = int(machine.ssh("df -Pk /root | tail -n 1 | awk '{print $4}'")) * 1024
    machine.ssh(f"fallocate -l {free} /root/filler || true; dd if=/dev/zero of=/root/rest bs=4096 2>/dev/null || true")
    try:
        done = edgeslim("bench", str(artifact), "--on", machine.address, "--processes", "1")
        assert done.returncode == 4, done.stderr
        assert "status: disk-full\nhelp: make room on the device" in done.stderr, done.stderr
    finally:
        machine.ssh("rm -f /root/filler /root/rest")
    # Where no session came before, the folder was never made.
    assert not machine.ssh(f"test ! -e {REMOTE} || find {REMOTE} -name '*.part'"), "a part was left"
    assert not list((artifact / MEASUREMENTS).glob("*/*")), "a measurement was made up"


def test_a_memory_limit_of_control_groups_version_2_is_enforced_and_reported(machine, hungry):
    ended = starve(machine, hungry, memory_limit_bytes=96 * 2**20)
    assert ended.status == "oom", ended
    assert "at the memory limit" in str(ended), ended
    assert not machine.ssh("ls -d /sys/fs/cgroup/edgeslim-* 2>/dev/null || true"), "the group is still there"
    candidate, x = hungry
    with open_device(machine.address) as device:
        (enough,) = measure(
            [candidate], x, Workload(processes=1, min_duration_s=0, memory_limit_bytes=900 * 2**20), device=device
        )
    assert enough.peak_rss_bytes > STEPS * STEP_MIB * 2**20, "the network does not take what it should"


@pytest.fixture
def small_machine(machine):
    """The machine with 256 MiB and control groups of version 1; behind the test it is as others expect it."""
    machine.start(256 * 2**20, kernel_words="edgeslim.cgroup=1")
    yield machine
    machine.start(RAM_BYTES)


def test_a_machine_with_too_little_memory_for_the_model_kills_the_agent_and_not_itself(small_machine, hungry):
    machine = small_machine
    ended = starve(machine, hungry)
    assert ended.status == "oom", ended
    assert machine.ssh("echo alive") == "alive\n", "the ssh server was killed too"
    limited = starve(machine, hungry, memory_limit_bytes=96 * 2**20)
    assert (limited.status, "at the memory limit" in str(limited)) == ("oom", True), "version 1 did not enforce it"
