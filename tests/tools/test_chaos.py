"""tools/chaos.py finds what it looks for, and two of its trials run to their end."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import REPOSITORY
from tests.support.installed import skip_without

TOOL = REPOSITORY / "tools" / "chaos.py"
sys.path.insert(0, str(TOOL.parent))
import chaos_trial  # noqa: E402


@pytest.fixture
def trial(tmp_path: Path) -> chaos_trial.Trial:
    world = tmp_path / "world"
    for name in ("old", "new"):
        (world / name / "models").mkdir(parents=True)
        (world / name / "models" / "net.onnx").write_text(name)
        (world / f"{name}.tar.gz").write_text(name)
    return chaos_trial.Trial(chaos_trial.World(world, 1.0, 1.0), tmp_path / "trial", np.random.default_rng(0))


def test_an_artifact_that_is_neither_is_a_fault(trial: chaos_trial.Trial) -> None:
    place = trial.place / "artifact"
    trial.put("old", place)
    trial.require_whole(place, ("old", "new"), "once", may_lack=False)
    assert trial.faults == []
    trial.require_whole(place, ("new",), "the old one", may_lack=False)
    (place / "models" / "net.onnx").write_text("half")
    trial.require_whole(place, ("old", "new"), "a changed file", may_lack=False)
    shutil.copyfile(trial.world.folder / "new.tar.gz", trial.place / "artifact.tar.gz")
    trial.put("old", trial.place / "mixed")
    (trial.place / "mixed.tar.gz").write_text("new")
    trial.require_whole(trial.place / "mixed", ("old", "new"), "a pair of two", may_lack=True)
    trial.require_whole(trial.place / "nosuch", ("old", "new"), "nothing", may_lack=False)
    assert trial.faults == [
        "the old one: the artifact is none of new",
        "a changed file: the artifact is none of old, new",
        "a pair of two: the artifact is none of old, new",
        "nothing: the artifact is none of old, new",
    ]


def test_folders_and_processes_that_are_left_are_faults(
    trial: chaos_trial.Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos_trial, "GONE_S", 0.2)
    (trial.temporary / "cc1.o").touch()
    trial.require_no_folder(trial.place / "artifact", "a build")
    with subprocess.Popen(["sleep", "60"], env={"PATH": "/usr/bin:/bin", chaos_trial.MARK: str(trial.folder)}) as left:
        trial.require_no_process("a build")
        left.kill()
    trial.require_no_process("it was killed")
    assert trial.faults == ["a build: left behind: cc1.o", "a build: processes were left: sleep 60 "]


def test_a_few_trials_run_to_their_end_without_a_fault() -> None:
    skip_without("onnxruntime")
    command = [sys.executable, str(TOOL), "--trials", "2", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| what | trials | with a fault | a trial takes |" in done.stdout
