"""Room for temporary files, programs that end with their parent, and signals that wait for the end of a step."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeslim.resources import signals_deferred
from tests.support.builds import edgeslim
from tests.support.disks import mounted


def test_an_interrupt_waits_for_the_end_of_the_step_and_comes_then() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []

    def step() -> None:
        with signals_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the step")
        done.append("what follows")

    try:
        with pytest.raises(KeyboardInterrupt):
            step()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["the step"]


def test_in_another_thread_nothing_is_held_back() -> None:
    done = []

    def step() -> None:
        with signals_deferred():
            done.append("the step")

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert done == ["the step"]


@pytest.mark.parametrize(
    ("options", "told"), [("size=100k", "102 kB of room left"), ("size=4k", "4.1 kB of room left")]
)
def test_no_room_for_temporary_files_is_told_before_any_work(tmp_path: Path, options: str, told: str) -> None:
    with mounted(tmp_path / "disk", options) as disk:
        done = edgeslim("check", "torchvision:resnet18", "--device", "raspberry-pi", TMPDIR=str(disk))
        assert done.returncode == 7, done.stderr
        assert re.search(f"{disk} has .+ of room left; temporary files lie there and need", done.stderr), done.stderr
        assert "set TMPDIR" in done.stderr
        assert list(disk.iterdir()) == []


def test_a_folder_for_temporary_files_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = edgeslim("verify", "x", TMPDIR=str(tmp_path / "nosuch"))
    assert done.returncode == 7, done.stderr
    assert f"temporary files go to {tmp_path / 'nosuch'}, which cannot be used: No such file" in done.stderr


def test_what_is_started_with_its_parent_ends_when_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from edgeslim.resources import with_parent\n"
        "started = subprocess.Popen(with_parent(['sh', '-c', 'echo $$ >$0; exec sleep 60', sys.argv[1]]))\n"
        "while not (Path(sys.argv[1]).is_file() and Path(sys.argv[1]).read_text()):\n"
        "    time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "pid")], check=False)
    assert done.returncode == -signal.SIGKILL
    entry = Path("/proc") / (tmp_path / "pid").read_text().strip()
    deadline = time.monotonic() + 10
    while entry.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not entry.exists(), "it outlived its parent"


def test_libraries_leave_no_folder_where_temporary_files_lie(tmp_path: Path) -> None:
    done = edgeslim("check", "torchvision:resnet18", "--device", "raspberry-pi", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
