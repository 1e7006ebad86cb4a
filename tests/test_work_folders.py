"""Folders that go with their process: removed with their context, or by the next one when the process was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeslim.work_folders import KEPT_S, process_name, work_folder

LEAVING = """
import os, sys
from pathlib import Path
from edgeslim.work_folders import work_folder
with work_folder(Path(sys.argv[1])) as folder:
    (folder / "large").write_text("x")
    os.kill(os.getpid(), 9)
"""


def test_a_folder_goes_with_its_context_and_with_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with work_folder(tmp_path) as folder:
            assert folder.parent == tmp_path
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["mkdir", "unlink", "rmdir"])
def test_an_interrupt_while_a_folder_is_made_or_removed_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, call)

    def interrupted(*given: object, **named: object) -> None:
        real(*given, **named)
        signal.raise_signal(signal.SIGINT)

    within = tmp_path / "within"
    within.mkdir()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patched:  # noqa: PT012
            patched.setattr(os, call, interrupted)
            with work_folder(within) as folder:
                (folder / "inner").mkdir()
                for name in ("one", "two", "inner/three"):
                    (folder / name).write_text("x")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(within.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else_is(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVING, tmp_path], check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "large").is_file()
    for name in ("edgeslim-mine", "other"):
        (tmp_path / name).mkdir()
    with work_folder(tmp_path) as own, work_folder(tmp_path):
        assert own.is_dir(), "a folder whose process lives was removed"
        assert not left.exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["edgeslim-mine", "other"]


def test_names_that_are_no_processes_are_left_alone(tmp_path: Path) -> None:
    names = [f"edgeslim-{process}-abcdefgh" for process in ("1", "1.2", "1.2.", "..", "1.2.3.4")]
    for name in names:
        (tmp_path / name).mkdir()
    with work_folder(tmp_path):
        pass
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(names)


@pytest.mark.parametrize(("old", "stays"), [(0.5, True), (1.5, False)])
def test_a_folder_of_another_machine_goes_once_it_is_old(tmp_path: Path, old: float, stays: bool) -> None:
    container, pid, started = process_name().split(".")
    folder = tmp_path / f"edgeslim-{int(container, 16) ^ 1:x}.{pid}.{started}-abcdefgh"
    folder.mkdir()
    written = folder.stat().st_mtime - old * KEPT_S
    os.utime(folder, (written, written))
    with work_folder(tmp_path):
        assert folder.exists() == stays


def test_another_prefix_or_suffix_is_not_touched(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVING, tmp_path], check=False)
    with work_folder(tmp_path, ".artifact.", ".partial"):
        assert len(list(tmp_path.iterdir())) == 2
