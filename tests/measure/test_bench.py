"""An artifact measured on a recorded device: what is kept, what is doubted, what is refused before anything runs."""

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeslim.artifact.archive import MEASUREMENTS, archive_path, open_artifact, pack
from edgeslim.artifact.manifest import read_manifest
from edgeslim.artifact.records import save
from edgeslim.artifact.sections import CompiledFile, Simulated
from edgeslim.deploy.device import open_device
from edgeslim.deploy.memory_limit import OUT_OF_MEMORY
from edgeslim.errors import BadInput, DeviceFailed, IntegrityFailed, InvalidMeasurement, ToolFailed
from edgeslim.measure.artifact_changes import compare_manifests
from edgeslim.measure.bench import CutOff, bench, compare, metered, require_architecture
from edgeslim.measure.comparison import METRICS
from edgeslim.measure.entries import entries_of
from edgeslim.measure.harness import Workload
from edgeslim.measure.measurement import load
from edgeslim.measure.meters.find import find_meter
from tests.support.made_measurements import measured as made
from tests.support.packed_artifact import pack_small
from tests.support.recorded_device import THROTTLED, RecordedDevice, process, put_compilers, recorded, take_compilers

LABELS = ["onnx int8", "onnx fp32", "openvino fp32", "tflite fp32"]
NOBODY = 65534


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


def kept(artifact):
    """The saved measurements of an artifact, by folder."""
    folders = sorted((artifact / MEASUREMENTS).glob("*"))
    return [[load(file) for file in sorted(folder.glob("*.json"))] for folder in folders]


def kinds(one):
    return {caution.kind for caution in one.cautions}


def test_every_file_is_measured_in_fresh_processes_and_every_raw_time_kept(artifact, pi):
    measured = bench(artifact, on=pi.address).measurements
    assert [one.label for one in measured] == LABELS
    assert [(one.status, len(one.processes)) for one in measured] == [("valid", 9)] * 4, measured[0].cautions
    assert {len(run.samples_s) for one in measured for run in one.processes} == {120}, "raw times were lost"
    first = measured[0]
    assert (first.precision_actual, first.executors) == ("uint8", {"CPUExecutionProvider": 3})
    assert (first.place.name, first.place.governor) == ("Raspberry Pi 4 Model B Rev 1.5", "performance")
    assert (first.agent, first.library) == ("c", "the device's own /usr/local/lib/libonnxruntime.so.1.32.0")
    assert kept(artifact) == [sorted(measured, key=lambda one: one.label)], "what is kept is not what was returned"


def test_two_benches_in_one_second_keep_a_folder_each(artifact, pi):
    for _ in range(3):
        bench(artifact, on=pi.address, workload=Workload(processes=1))
    assert [len(folder) for folder in kept(artifact)] == [4, 4, 4], "one was written over the other"


def test_a_long_address_still_gives_a_folder(artifact, pi, tmp_path):
    deep = tmp_path / ("x" * 200) / ("y" * 100)
    deep.parent.mkdir()
    bench(artifact, on=RecordedDevice(deep).address, workload=Workload(processes=1))
    assert len(kept(artifact)[0]) == 4


def test_without_a_compiler_every_measurement_says_that_the_python_agent_ran_and_why(
    artifact, pi, tmp_path, monkeypatch
):
    take_compilers(tmp_path, monkeypatch)
    for one in bench(artifact, on=pi.address, workload=Workload(processes=1)).measurements:
        assert one.agent.startswith("python (no C agent: no C compiler for aarch64"), one.agent


def test_progress_counts_every_process(artifact, pi):
    calls = []
    bench(artifact, on=pi.address, workload=Workload(processes=2), progress=calls.append)
    assert {one.stage for one in calls} == {"measuring"}
    timed = [one for one in calls if one.doing.startswith("timing ")]
    wanted = [f"timing {label}" for label in (*LABELS, *LABELS[::-1])]
    assert [one.doing for one in timed] == wanted, "the second round does not go backwards"
    assert [(one.done, one.total) for one in timed] == [(n, 8) for n in range(1, 9)]


def test_offline_every_core_gets_a_stream(artifact, pi):
    pi.answer({"argv": "--streams [^4]", "exit": 3})
    measured = bench(artifact, on=pi.address, workload=Workload(scenario="offline", processes=1)).measurements
    assert {one.streams for one in measured} == {4}


def test_wrong_golden_outputs_are_a_caution_of_that_file_alone(artifact, pi):
    pi.answer({**process("outputs"), **recorded("onnx_int8_golden"), "outputs": "outputs_wrong.npy"})
    np.save(pi.folder / "outputs_wrong.npy", np.load(pi.folder / "outputs_onnx_int8.npy") + 1)
    int8, *others = bench(artifact, on=pi.address).measurements
    assert (int8.status, kinds(int8)) == ("invalid", {"golden"})
    assert {one.status for one in others} == {"valid"}, "another file's outputs are held against it"
    assert "outputs differ by up to" in int8.cautions[0].text, "how wrong they are is not said"


def test_an_int8_file_that_ran_as_fp32_is_a_fallback(artifact, pi):
    as_float = [line.replace('"actual":"uint8"', '"actual":"fp32"') for line in pi.session("onnx_int8_graph")]
    pi.answer({**process("graph"), "lines": as_float})
    int8, fp32, *_ = bench(artifact, on=pi.address).measurements
    assert (kinds(int8), int8.cautions[0].text) == ({"fallback"}, "int8 was asked for, fp32 ran")
    assert fp32.status == "valid", "another file's fallback is held against it"


def test_an_fp32_file_that_ran_as_fp16_is_a_fallback(artifact, pi):
    as_half = [line.replace('"actual":"fp32"', '"actual":"fp16"') for line in pi.session("openvino_fp32_graph")]
    pi.answer({**process("graph", "openvino", "fp32"), "lines": as_half})
    assert kinds(bench(artifact, on=pi.address).measurements[2]) == {"fallback"}


def test_a_required_accelerator_must_have_run_every_node(artifact, pi):
    measured = bench(artifact, on=pi.address, require_accelerator="XNNPACK").measurements
    assert [kinds(one) for one in measured] == [{"fallback"}] * 3 + [set()]
    assert "XNNPACK was required; by the runtime's record 3 nodes on CPUExec" in measured[0].cautions[0].text


def test_a_throttled_board_is_doubted_in_every_file(artifact, pi):
    pi.write(THROTTLED, "50005\n")
    for one in bench(artifact, on=pi.address).measurements:
        assert kinds(one) == {"throttled"}
        assert "the firmware reports under-voltage, throttled" in one.cautions[0].text


def reboot_in_round_3(pi):
    begun = pi.session("onnx_int8_timed_3")[:4]
    lines = ({**process("iterations"), **recorded(f"onnx_int8_timed_{n}")} for n in (1, 2))
    pi.answer(*lines, {**process("iterations"), "lines": begun, "reboots": True})
    return begun


def test_a_reboot_in_round_3_keeps_two_rounds_marked_partial_and_says_where(artifact, pi):
    begun = reboot_in_round_3(pi)
    with pytest.raises(CutOff, match="rebooted in the middle of a run") as cut:
        bench(artifact, on=pi.address)
    assert (cut.value.status, cut.value.lines) == ("rebooted", tuple(begun)), "what it had written is lost"
    (saved,) = kept(artifact)
    assert [(one.status, len(one.processes)) for one in saved] == [("partial", 2)] * 4
    assert saved[0].cautions[0].text == "rebooted after 2 of 9 rounds"
    assert f"is kept in {cut.value.report.folder}, marked partial" in str(cut.value)
    assert sorted(cut.value.measurements, key=lambda one: one.label) == saved


def test_what_is_kept_of_a_run_that_was_cut_off_has_its_other_doubts_too(artifact, pi):
    reboot_in_round_3(pi)
    as_float = [line.replace('"actual":"uint8"', '"actual":"fp32"') for line in pi.session("onnx_int8_graph")]
    wrong = {**process("outputs"), **recorded("onnx_int8_golden"), "outputs": "outputs_wrong.npy"}
    shutil.copyfile(artifact / "golden/inputs_nchw.npy", pi.folder / "outputs_wrong.npy")
    pi.answer({**process("graph"), "lines": as_float}, wrong)
    with pytest.raises(CutOff) as cut:
        bench(artifact, on=pi.address)
    assert {"partial", "golden", "fallback"} <= kinds(cut.value.measurements[0]), "a wrong figure looks right"
    assert "golden" not in kinds(cut.value.measurements[1])


def test_a_device_lost_in_the_first_round_keeps_the_files_that_were_complete(artifact, pi):
    pi.answer({**process("iterations", "openvino", "fp32"), "exit": 137, "killed_for_memory": True})
    with pytest.raises(CutOff, match="ran out of memory") as cut:
        bench(artifact, on=pi.address)
    assert cut.value.status == "oom"
    assert [[one.label for one in folder] for folder in kept(artifact)] == [["onnx fp32", "onnx int8"]]


def test_a_device_lost_before_anything_was_complete_keeps_nothing(artifact, pi):
    pi.answer({**process("iterations"), "exit": 137})
    with pytest.raises(CutOff) as cut:
        bench(artifact, on=pi.address)
    assert (cut.value.status, cut.value.report.folder, cut.value.measurements) == ("killed", None, ())
    assert "kept" not in str(cut.value)
    assert not kept(artifact), "an empty folder was made"


def test_an_archive_that_was_cut_off_keeps_nothing_but_hands_out_what_was_complete(packed, pi):
    reboot_in_round_3(pi)
    with pytest.raises(CutOff) as cut:
        bench(archive_path(packed), on=pi.address)
    assert (cut.value.report.folder, len(cut.value.measurements)) == (None, 4)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"exit": 17, "lines": ['{"type":"error","reason":"old-runtime","message":"needs 9"}']}, "old-runtime"),
        ({"lines": ['{"type":"hello","protocol":2,"ag']}, "protocol"),
        ({"exit": 137}, "killed"),
        ({"exit": 139}, "killed"),
        ({"exit": 127}, "failed"),
    ],
)
def test_a_failure_before_the_first_round_has_its_status_and_keeps_nothing(artifact, pi, reply, status):
    pi.answer({**process("outputs", "litert", "fp32"), **reply})
    with pytest.raises(DeviceFailed) as failed:
        bench(artifact, on=pi.address)
    assert failed.value.status == status, failed.value
    assert not kept(artifact)


def test_a_memory_limit_that_kills_is_a_result(artifact, pi):
    pi.answer({"argv": "(?s)echo 1048576 .*memory.max.*--graph", "exit": OUT_OF_MEMORY})
    with pytest.raises(DeviceFailed, match="at the memory limit") as failed:
        bench(artifact, on=pi.address, workload=Workload(memory_limit_bytes=2**20))
    assert failed.value.status == "oom"


def test_a_device_of_another_architecture_is_refused_unless_any_will_do(artifact, pi):
    pi.answer({"argv": "^uname -m$", "lines": ["x86_64"]})
    with pytest.raises(DeviceFailed, match="is x86_64; the artifact was built for raspberry-pi-4, aarch64") as failed:
        bench(artifact, on=pi.address)
    assert failed.value.status == "wrong-architecture"
    assert len(bench(artifact, on=pi.address, any_device=True).measurements) == 4


def test_this_machine_may_measure_what_was_built_for_another(artifact):
    with open_artifact(artifact) as opened, open_device("local") as device:
        require_architecture(device, opened.manifest, any_device=False)


def test_a_tampered_artifact_is_refused_before_a_device_is_asked(artifact):
    (artifact / "models" / "tiny_fp32.onnx").write_bytes(b"another")
    with pytest.raises(IntegrityFailed, match=r"`models/tiny_fp32\.onnx` was changed"):
        bench(artifact, on="fake:nowhere")


def test_an_archive_is_measured_and_keeps_nothing(packed, pi):
    measured = bench(archive_path(packed), on=pi.address, workload=Workload(processes=5)).measurements
    assert [one.label for one in measured] == LABELS
    assert not (packed / MEASUREMENTS).exists()


@contextmanager
def as_nobody():
    """Let root, who may write everywhere, be somebody who may not; anybody else is that already."""
    root = os.getuid() == 0
    if root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


def test_a_folder_that_cannot_be_written_to_is_refused_before_a_device_is_asked(packed):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own is closed to others
        Path(name).chmod(0o755)
        folder = shutil.copytree(packed, Path(name) / "tiny")
        folder.chmod(0o555)
        complaint = r"cannot be written to \(Permission denied\).*bench its archive to keep none"
        with as_nobody(), pytest.raises(BadInput, match=complaint):
            bench(folder, on="fake:nowhere")
        folder.chmod(0o755)


def test_a_disk_that_is_full_in_the_end_is_no_bug_of_ours(artifact, pi):
    """A file where the folder of measurements would be made stands for a disk that takes no more."""

    def fill(progress):
        if progress.doing.startswith("timing"):
            (artifact / MEASUREMENTS).touch()

    with pytest.raises(ToolFailed, match="the measurements cannot be kept: "):
        bench(artifact, on=pi.address, workload=Workload(processes=1), progress=fill)


def test_only_files_whose_runtime_is_installed_are_measured(artifact, monkeypatch):
    with open_artifact(artifact) as opened:
        (one,) = entries_of(opened.folder, opened.manifest, "models/tiny_fp32.tflite")
        assert (one.candidate.label, one.golden_inputs.shape) == ("tflite fp32", (3, 6, 6, 1)), "another layout"
        monkeypatch.setattr("sys.path", [])  # no installed package can be found from here on
        with pytest.raises(BadInput, match="none of the artifact's runtimes is installed; `edgeslim doctor`"):
            entries_of(opened.folder, opened.manifest)


@pytest.mark.parametrize(
    ("meter", "complaint"),
    [
        ("rapple", "unknown meter `rapple`; did you mean `rapl`.*; meters are auto, ina3221"),
        ("hwmon", "has no power meter that can be read: hwmon: no /sys/class/hwmon"),
        ("auto", "ina3221: .*; pi_pmic: only the Raspberry Pi 5.*; rapl: .*; hwmon: no"),
        ("csv:/nowhere/trace.csv", "expected csv:FILE, a file to be saved in a folder that exists"),
    ],
)
def test_a_meter_that_is_not_there_is_refused_with_every_reason(artifact, pi, meter, complaint):
    with pytest.raises(BadInput, match=complaint):
        bench(artifact, on=pi.address, meter=meter)
    assert not kept(artifact)


def test_the_first_meter_that_a_device_has_is_found(pi):
    pi.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    with open_device(pi.address) as device:
        assert find_meter(device, "auto").name == "pi_pmic"


def test_a_trace_that_was_saved_before_the_run_is_not_its(pi, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,power_w\n0,1\n")
    os.utime(trace, (time.time() - 60, time.time() - 60))
    with open_device(pi.address) as device, pytest.raises(InvalidMeasurement, match="was saved before the run"):
        find_meter(device, f"csv:{trace}").watts([], [])


def test_windows_and_pauses_of_a_metered_run_are_long_enough_to_read_a_power():
    short = metered(Workload(max_duration_s=1.0))
    assert (short.min_duration_s, short.max_duration_s, short.cool_down_s) == (10.0, 10.0, 5.0)
    long = Workload(min_duration_s=60.0, cool_down_s=30.0)
    assert metered(long) == long, "what is long enough was changed"


def test_two_artifacts_are_compared_by_their_primary_files_in_pairs(artifact, packed, pi):
    found = compare(packed, artifact, on=pi.address)
    assert (found.a, found.b) == (f"{packed}: onnx int8", f"{artifact}: onnx int8")
    assert found.paired
    assert set(found.changes) == set(METRICS) - {"energy"}
    assert not found.changes["median"].different, "the same record differs from itself"
    assert not kept(artifact), "a comparison is no measurement of the artifact"
    assert found.artifacts == compare_manifests(read_manifest(packed), read_manifest(artifact))


def test_a_file_that_nothing_here_can_time_is_compared_by_its_manifest_alone(tmp_path):
    found = compare(
        npu_artifact(tmp_path / "old", 1000), npu_artifact(tmp_path / "new", 1500), on="ssh://nobody@nowhere"
    )
    assert found.changes == {}
    assert set(found.missing) == set(METRICS)
    assert "runs on the device's accelerator, which edgeslim cannot time" in found.missing["median"]
    assert found.b == f"{tmp_path / 'new' / 'packed'}: models/tiny_vela.tflite"
    assert (found.artifacts.size.a, found.artifacts.size.b) == (1000, 1500), "not those of what the device loads"


def npu_artifact(folder, size_bytes):
    """The small artifact as if its INT8 file were compiled for an NPU, into so many bytes."""
    from tests.support.small_artifact import stage

    manifest = stage(folder / "staged")
    for name in ("models/tiny_vela.tflite", "compiler/vela.ini"):
        (folder / "staged" / name).parent.mkdir(exist_ok=True)
        (folder / "staged" / name).write_bytes(bytes(size_bytes))
    section = CompiledFile(
        path="models/tiny_vela.tflite", made_from=manifest.primary, bytes=size_bytes, compiler="ethos-u-vela",
        compiler_version="5.2.0", accelerator_config="ethos-u65-256", system_config="a", memory_mode="b",
        config="compiler/vela.ini", config_sha256="0" * 64, goal="Size", npu_operators={}, cpu_operators=(),
        npu_pct=100.0, reports=(),
        simulated=Simulated(
            inference_s=0.001, cycles=1, sram_bytes=0, flash_bytes=0, dram_bytes=0, sram_moved_bytes=0,
            flash_moved_bytes=0, dram_moved_bytes=0, known_error="none known",
        ),
    )  # fmt: skip
    manifest = manifest.model_copy(update={"compiled": section, "primary": section.path})
    return pack(folder / "staged", manifest, folder / "packed").folder


def test_an_artifact_against_itself_is_measured_twice(artifact, pi):
    twice = [{**process("iterations"), **recorded(f"onnx_int8_timed_{n}")} for n in (1, 2, 2, 1)] * 3
    pi.answer(*twice)
    found = compare(artifact, artifact, on=pi.address, workload=Workload(processes=6))
    assert found.a != found.b, "the two cannot be told apart"
    assert found.changes["median"].ratio != 1, "one run was compared with itself"


def test_a_rejected_artifact_has_nothing_to_compare(tmp_path, packed, pi):
    rejected = pack_small(tmp_path, status="rejected", primary=None, reasons=("it errs",))
    with pytest.raises(BadInput, match="has no primary file to compare: it was rejected"):
        compare(packed, rejected, on=pi.address)


def test_comparing_refuses_a_tampered_artifact_and_another_architecture(artifact, packed, pi):
    pi.answer({"argv": "^uname -m$", "lines": ["x86_64"]})
    with pytest.raises(DeviceFailed, match="--any-device"):
        compare(packed, artifact, on=pi.address)
    (artifact / "models" / "tiny_fp32.onnx").write_bytes(b"another")
    with pytest.raises(IntegrityFailed):
        compare(packed, artifact, on=pi.address, any_device=True)


def test_two_saved_measurements_are_compared_without_a_device(tmp_path):
    before = made([0.010 + n / 1e5 for n in range(9)], "before")
    save([before, replace(before, label="after")], tmp_path)
    found = compare(tmp_path / "before.json", tmp_path / "after.json", on="fake:nowhere")
    assert not found.paired
    assert found.changes["median"].ratio == 1
