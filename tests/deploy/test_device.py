"""A session on a device survives a connection that is cut, and a reboot keeps what was written before it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgeslim.deploy import device as on_device
from edgeslim.deploy.device import Candidate, CutShort, files_of, open_device
from edgeslim.deploy.installed import runtime_available
from edgeslim.deploy.memory_limit import OUT_OF_MEMORY
from edgeslim.errors import BadInput, DeviceFailed
from tests.support.recorded_device import RecordedDevice, process, put_compilers, recorded

WISHES = ["--inputs", "x.npy", "--iterations", "5"]
TIMED = process("iterations")
ERROR = '{"type": "error", "reason": "%s", "message": "why"}'


@pytest.fixture
def pi(tmp_path, monkeypatch):
    if runtime_available("onnxruntime") is None:
        pytest.skip("onnxruntime is not installed; pip install 'edgeslim[onnx]'")
    put_compilers(tmp_path, monkeypatch)
    return RecordedDevice(tmp_path / "pi")


@pytest.fixture
def candidate(tmp_path):
    model = tmp_path / "tiny_int8.onnx"
    model.touch()
    return Candidate("onnx int8", "onnxruntime", model, "int8")


def run(pi, candidate, **limits):
    with open_device(pi.address) as device:
        return device.run(candidate, WISHES, 5.0, **limits)


def test_a_session_is_read_whole(pi, candidate):
    session = run(pi, candidate)
    assert (session.hello.runtime_version, len(session.samples_s)) == ("1.32.0", 120)


def test_what_a_file_asks_for_wherever_it_runs_reaches_the_agent(pi, candidate):
    pi.answer({"argv": "--provider One --no-fallback --inputs", "exit": 19, "lines": [ERROR % "fallback"]})
    run(pi, candidate)
    with pytest.raises(DeviceFailed, match="fallback: why") as failed:
        run(pi, replace(candidate, arguments=("--provider", "One", "--no-fallback")))
    assert failed.value.status == "fallback"


def test_a_session_whose_connection_was_cut_is_fetched_once_the_agent_has_ended(pi, candidate):
    whole = run(pi, candidate)
    pi.answer({**TIMED, **recorded("onnx_int8_timed_1"), "cut": True})
    assert run(pi, candidate) == whole, "what was measured is not what the log holds"


def test_an_agent_that_failed_while_the_connection_was_cut_keeps_its_status(pi, candidate):
    begun = pi.session("onnx_int8_timed_1")[:2]
    for reason, status in (("out-of-memory", "oom"), ("old-runtime", "old-runtime")):
        pi.answer({**TIMED, "lines": [*begun, ERROR % reason], "cut": True})
        with pytest.raises(DeviceFailed, match=f"edgeslim-agent: {reason}: why") as failed:
            run(pi, candidate)
        assert failed.value.status == status, "the reconnect made another status of it"


def test_a_device_that_booted_anew_is_said_and_what_it_had_written_is_kept(pi, candidate):
    begun = pi.session("onnx_int8_timed_1")[:4]
    pi.answer({**TIMED, "lines": begun, "reboots": True})
    with pytest.raises(CutShort, match="rebooted in the middle of a run") as cut:
        run(pi, candidate)
    assert (cut.value.status, cut.value.lines) == ("rebooted", tuple(begun))


def test_a_line_that_was_cut_in_the_middle_is_taken_for_the_cut_and_not_kept(pi, candidate):
    lines = pi.session("onnx_int8_timed_1")
    (pi.folder / "cut.jsonl").write_text("\n".join(lines[:4])[:-20])
    pi.answer({**TIMED, "stdout": "cut.jsonl", "reboots": True})
    with pytest.raises(CutShort) as cut:
        run(pi, candidate)
    assert cut.value.status == "rebooted", "half a line hid that the device was lost"
    assert cut.value.lines == tuple(lines[:3]), "half a line was kept"


def test_an_agent_that_was_killed_in_the_middle_of_a_line_was_killed(pi, candidate):
    pi.answer({**TIMED, "lines": [*pi.session("onnx_int8_timed_1")[:3], '{"type": "ti'], "exit": 137})
    with pytest.raises(DeviceFailed, match="killed by signal 9") as failed:
        run(pi, candidate)
    assert failed.value.status == "killed", "half a line hid it"


def test_a_damaged_line_of_an_agent_that_ended_well_breaks_the_protocol(pi, candidate):
    lines = pi.session("onnx_int8_timed_1")
    for number in (4, len(lines) - 1):
        pi.answer({**TIMED, "lines": [*lines[:number], lines[number][:-3], *lines[number + 1 :]]})
        with pytest.raises(DeviceFailed, match=f"line {number + 1} is no message") as failed:
            run(pi, candidate)
        assert failed.value.status == "protocol"


def test_an_agent_that_never_ends_after_a_cut_is_given_up_when_its_time_is_over(pi, candidate):
    begun = pi.session("onnx_int8_timed_1")[:4]
    pi.answer({**TIMED, "lines": begun, "cut": True})
    with open_device(pi.address) as device, pytest.raises(CutShort, match="did not end after that") as cut:
        device.run(candidate, WISHES, 0.1)
    assert (cut.value.status, cut.value.lines) == ("lost", tuple(begun))


def test_a_device_that_was_lost_before_the_agent_wrote_anything_has_no_lines(pi, candidate):
    pi.answer({**TIMED, "reboots": True})
    with pytest.raises(CutShort) as cut:
        run(pi, candidate)
    assert cut.value.lines == ()


def test_agent_and_model_are_brought_once(pi, candidate):
    with open_device(pi.address) as device:
        first = device.deployed("onnxruntime")
        device.run(candidate, WISHES, 5.0)
        candidate.model.unlink()  # a second push would miss it
        device.run(candidate, WISHES, 5.0)
        assert device.deployed("onnxruntime") is first, "it was brought again"


def test_the_weights_of_an_openvino_model_travel_with_it():
    assert [file.name for file in files_of(Path("m.xml"))] == ["m.xml", "m.bin"]
    assert [file.name for file in files_of(Path("m.onnx"))] == ["m.onnx"]


def test_a_memory_limit_that_killed_is_out_of_memory(pi, candidate):
    pi.answer({"argv": "(?s)memory.max.*--runtime onnxruntime", "exit": OUT_OF_MEMORY})
    with pytest.raises(DeviceFailed, match="at the memory limit") as failed:
        run(pi, candidate, memory_limit_bytes=2**20)
    assert failed.value.status == "oom"


def test_a_memory_limit_that_the_device_cannot_enforce_is_refused(pi, candidate):
    pi.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    with pytest.raises(DeviceFailed, match="offers no memory control group"):
        run(pi, candidate, memory_limit_bytes=2**20)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("locl", "unknown target `locl`; did you mean `local`.*; targets are fake, local, ssh"),
        ("shs://pi@board", "did you mean `ssh`"),
        ("telnet://board", "unknown target `telnet://board`; targets are"),
        ("", "unknown target ``"),
        ("local:board", "`local` takes nothing after it"),
    ],
)
def test_an_address_of_no_known_kind_is_refused_with_near_misses(address, complaint):
    with pytest.raises(BadInput, match=complaint), open_device(address):
        pass


def test_targets_are_the_modules_of_their_folder():
    folder = Path(on_device.__file__).parent / "targets"
    for file in folder.glob("[!_]*.py"):
        assert re.search(r"def open_target\(\s*address", file.read_text()), (
            f"{file.name} is a target that cannot be opened"
        )
