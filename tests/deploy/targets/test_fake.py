"""The fake target replays what a device said, and refuses a record that says nothing it could replay."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeslim.deploy.deployment import machine_at
from edgeslim.deploy.targets.fake import open_target
from edgeslim.devices.machine import BOOT_ID
from edgeslim.errors import BadInput, DeviceFailed
from tests.support.recorded_device import PI_4, UNAME, RecordedDevice, process, recorded

TIMED = ["agent", "--runtime", "onnxruntime", "--model", "m", "--precision", "int8", "--iterations", "5"]
ERROR = '{"type": "error", "reason": "old-runtime", "message": "needs 9"}'


@pytest.fixture
def device(tmp_path):
    return RecordedDevice(tmp_path / "pi")


@pytest.fixture
def bad(tmp_path):
    """`bad(line)` is the address of a device whose second reply is this line."""

    def made(line):
        (tmp_path / "root").mkdir()
        (tmp_path / "replies.jsonl").write_text(f'{{"argv": "uname", "lines": ["aarch64"]}}\n{line}\n')
        return f"fake:{tmp_path}"

    return made


def test_the_recorded_device_says_what_it_is():
    with open_target(f"fake:{PI_4}") as target:
        machine = machine_at(target)
    assert (machine.architecture, machine.board) == ("aarch64", "Raspberry Pi 4 Model B Rev 1.5")
    assert (machine.cores, machine.glibc, machine.governor) == (4, "2.36", "performance")


def test_a_program_gets_the_first_reply_whose_pattern_its_words_hold(device):
    device.answer({"argv": "na.e -m", "lines": ["first"]}, {"argv": "uname", "lines": ["second"]})
    with open_target(device.address) as target:
        assert list(target.run(["uname", "-m"], 1)) == ["first"]
        assert list(target.run(["uname", "-r"], 1)) == ["second"], "the pattern was not looked for"


def test_replies_to_one_pattern_come_in_order_and_the_last_one_stays(device):
    device.answer(*({**UNAME, "lines": [word]} for word in ("one", "two")))
    with open_target(device.address) as target:
        came = [list(target.run(["uname", "-m"], 1)) for _ in range(5)]
    assert came == [["one"], ["two"], *[["aarch64"]] * 3], "a reply was left out, repeated or lost"


def test_each_time_it_is_opened_the_record_begins_anew(device):
    device.answer({**UNAME, "lines": ["one"]})
    for _ in range(2):
        with open_target(device.address) as target:
            assert list(target.run(["uname", "-m"], 1)) == ["one"]


def test_the_lines_of_a_recorded_file_are_replayed_and_logged_as_an_agent_would(device, tmp_path):
    with open_target(device.address) as target:
        log = target.work_path("log.jsonl")
        lines = list(target.run([*TIMED, "--log", log], 1))
        target.pull(log, tmp_path / "log.jsonl")
    assert lines == device.session("onnx_int8_timed_1")
    assert (tmp_path / "log.jsonl").read_text().splitlines() == lines, "the log holds something else"


def test_recorded_outputs_come_back_from_where_the_agent_was_told_to_save_them(device, tmp_path):
    with open_target(device.address) as target:
        made = target.work_path("outputs.npy")
        list(target.run([*TIMED[:-2], "--outputs", made], 1))
        target.pull(made, tmp_path / "outputs.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), np.load(PI_4 / "outputs_onnx_int8.npy"))


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"exit": 3}, "failed"),
        ({"exit": 137}, "killed"),
        ({"exit": 137, "killed_for_memory": True}, "oom"),
        ({"exit": 17}, "old-runtime"),
        ({"cut": True}, "lost"),
        ({"reboots": True}, "lost"),
    ],
)
def test_a_program_ends_as_it_was_recorded_after_its_last_line(device, how, status):
    said = ["a line", ERROR] if status == "old-runtime" else ["one", "two"]
    device.answer({**UNAME, "lines": said, "stderr": "last words", **how})
    with open_target(device.address) as target:
        lines = target.run(["uname", "-m"], 1)
        assert [next(lines), next(lines)] == said, "what was said before it is lost"
        with pytest.raises(DeviceFailed) as failed:
            next(lines)
    assert failed.value.status == status, failed.value


def test_only_a_reboot_gives_another_boot(device):
    device.answer({**UNAME, "cut": True}, {**UNAME, "reboots": True})
    with open_target(device.address) as target:
        boots = [target.look([BOOT_ID])[BOOT_ID]]
        for _ in range(2):
            with pytest.raises(DeviceFailed):
                list(target.run(["uname", "-m"], 1))
            target.reconnect(1)
            boots.append(target.look([BOOT_ID])[BOOT_ID])
    assert boots[0] == boots[1] != boots[2], "a cut looks like a reboot, or a reboot like a cut"


def test_a_program_that_was_not_recorded_is_not_there_and_the_record_is_named(device):
    with open_target(device.address) as target, pytest.raises(DeviceFailed, match="has no such program") as failed:
        list(target.run(["vcgencmd", "get_throttled"], 1))
    assert f"{device.folder}/replies.jsonl has no reply to: vcgencmd get_throttled" in str(failed.value)


def test_small_files_are_found_by_pattern_at_the_devices_own_paths(device):
    with open_target(device.address) as target:
        found = target.look(["/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor", "/nowhere/*"])
    assert list(found) == [f"/sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor" for n in range(4)]


def test_what_is_sent_must_be_here_and_what_is_fetched_must_be_there(device, tmp_path):
    with open_target(device.address) as target:
        with pytest.raises(BadInput, match=r"gone\.bin does not exist"):
            target.push(tmp_path / "gone.bin")
        with pytest.raises(DeviceFailed, match=r"log\.jsonl does not exist on fake:"):
            target.pull(target.work_path("log.jsonl"), tmp_path / "log.jsonl")


def test_what_the_device_wrote_goes_when_it_is_closed(device):
    with open_target(device.address) as target:
        log = Path(target.work_path("log.jsonl"))
        list(target.run([*TIMED, "--log", str(log)], 1))
        assert log.is_file()
    assert not log.parent.exists(), "the temporary folder was left"


def test_a_folder_that_is_no_record_is_named_with_what_is_missing(tmp_path):
    with pytest.raises(BadInput, match=r"replies\.jsonl cannot be read: .*fake:FOLDER needs"), open_target("fake:gone"):
        pass
    (tmp_path / "replies.jsonl").touch()
    with pytest.raises(BadInput, match="root does not exist"), open_target(f"fake:{tmp_path}"):
        pass


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("uname", "line: Invalid JSON"),
        ('{"lines": []}', "argv: Field required"),
        ('{"argv": "x", "exit": "3"}', "exit: Input should be a valid integer"),
        ('{"argv": "x", "reboot": true}', "reboot: Unexpected keyword argument"),
        ('{"argv": "("}', "argv: missing \\), unterminated"),
        ('{"argv": "x", "stdout": "gone.jsonl"}', r"stdout: .*gone\.jsonl does not exist"),
        ('{"argv": "x", "outputs": "gone.npy"}', r"outputs: .*gone\.npy does not exist"),
        ('{"argv": "x", "stdout": "replies.jsonl", "lines": ["y"]}', "expected `stdout` or `lines`, not both"),
    ],
)
def test_a_line_that_is_no_reply_is_named_by_its_number(bad, line, complaint):
    with pytest.raises(BadInput, match=f"replies.jsonl, line 2: {complaint}"), open_target(bad(line)):
        pass


def test_outputs_of_a_program_that_was_told_to_save_none_are_not_saved(device):
    device.answer({**UNAME, "lines": ["aarch64"], "outputs": "outputs_onnx_int8.npy"})
    with open_target(device.address) as target:
        assert list(target.run(["uname", "-m"], 1)) == ["aarch64"]


def test_the_record_in_the_repository_fits_itself():
    """Every session that replies.jsonl names is there, and every one that is there is named."""
    replies = [json.loads(line) for line in (PI_4 / "replies.jsonl").read_text().splitlines()]
    named = {one["stdout"] for one in replies if "stdout" in one}
    assert named == {f"sessions/{file.name}" for file in (PI_4 / "sessions").iterdir()}
    assert recorded("onnx_int8_timed_1")["stdout"] in named, "the tests' spelling is another"
    assert process("iterations")["argv"] in {one["argv"] for one in replies}, "the tests' spelling is another"
