import sys
import time
from pathlib import Path

import pytest

from edgeslim.deploy.targets.local import open_target
from edgeslim.errors import BadInput, DeviceFailed


def python(script):
    return [sys.executable, "-c", script]


def is_alive(pid):
    """True while the process runs; a killed one that nobody has reaped yet (state Z) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_dead(pid):
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


def test_lines_come_while_the_program_still_runs():
    with open_target() as target:
        lines = target.run(python("import time; print('first', flush=True); time.sleep(30)"), 20)
        started = time.monotonic()
        assert next(lines) == "first", "the line is not what was printed"
        assert time.monotonic() - started < 15, "the line came only at the end"
        lines.close()


def test_a_program_that_takes_too_long_is_killed_and_named():
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with open_target() as target:
        lines = target.run(python(script), 0.5)
        pid = int(next(lines))
        with pytest.raises(DeviceFailed, match=r"not finished after 0\.5 s"):
            next(lines)
        assert wait_until_dead(pid), "the program lives on after its time"


def test_the_agents_reason_and_the_end_of_stderr_are_in_the_error():
    script = (
        "import sys; print('early', file=sys.stderr); print('why', file=sys.stderr);"
        'print(\'{"type": "error", "reason": "bad-input", "message": "x is wrong"}\'); sys.exit(13)'
    )
    with open_target() as target, pytest.raises(DeviceFailed) as caught:
        list(target.run(python(script), 20))
    assert "bad-input: x is wrong" in str(caught.value), "the agent's reason is lost"
    assert "  early\n  why" in str(caught.value), "stderr is lost"


def test_a_program_without_a_reason_is_reported_by_its_exit_code_or_signal():
    with open_target() as target, pytest.raises(DeviceFailed, match="exit code 7"):
        list(target.run(python("raise SystemExit(7)"), 20))
    with open_target() as target, pytest.raises(DeviceFailed, match=r"killed by signal 9 \(SIGKILL; .*memory"):
        list(target.run(python("import os; os.kill(os.getpid(), 9)"), 20))
    with open_target() as target, pytest.raises(DeviceFailed, match=r"killed by signal 11 \(SIGSEGV\)"):
        list(target.run(python("import os; os.kill(os.getpid(), 11)"), 20))


def test_a_program_that_does_not_exist_cannot_be_started():
    with open_target() as target, pytest.raises(DeviceFailed, match="/no/such/program cannot be started"):
        list(target.run(["/no/such/program"], 20))


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_nothing_started_outlives_the_target_whatever_ends_it(end):
    script = (
        "import os, subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(os.getpid(), child.pid, flush=True); time.sleep(60)"
    )
    pids = []

    def interrupted():
        with open_target() as target:
            lines = target.run(python(script), 50)
            pids.extend(int(pid) for pid in next(lines).split())
            raise end

    with pytest.raises(end):
        interrupted()
    assert all(wait_until_dead(pid) for pid in pids), "a process of the program's group lives on"


def test_a_child_that_the_program_leaves_behind_is_killed_too():
    script = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL);"
        "print(child.pid)"
    )
    with open_target() as target:
        (pid,) = target.run(python(script), 20)
        assert wait_until_dead(int(pid)), "the orphan lives on"


def test_files_pushed_are_found_and_files_pulled_are_whole(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model")
    with open_target() as target:
        remote = target.push(file)
        target.pull(remote, tmp_path / "copy.onnx")
        assert (tmp_path / "copy.onnx").read_bytes() == b"model", "the copy differs"
        assert sorted(one.name for one in tmp_path.iterdir()) == ["copy.onnx", "model.onnx"], "a .part file was left"
        with pytest.raises(BadInput, match=r"gone\.onnx does not exist"):
            target.push(tmp_path / "gone.onnx")
        with pytest.raises(DeviceFailed, match=r"gone\.npy does not exist"):
            target.pull(str(tmp_path / "gone.npy"), tmp_path / "here.npy")
