"""A build that is killed and started again goes on from what was computed, and ends in the same bytes."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.builds import NET, edgeslim, running

STEPS = ("studying what each group", "reconstructing candidates", "exporting", "packing")


def command(images: Path, out: Path) -> list[str]:
    wishes = "--device raspberry-pi --weights random --format onnx --max-drop 50 --out"
    return ["build", NET, "--data", str(images), *wishes.split(), str(out)]


def kept(store: Path) -> dict[str, int]:
    """Return the results in a store with the time each was written."""
    return {str(file.relative_to(store)): file.stat().st_mtime_ns for file in store.rglob("*.pt")}


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """The archive of a build that nobody disturbed, and its store."""
    folder = tmp_path_factory.mktemp("whole")
    done = edgeslim(*command(images, folder / "artifact"), EDGESLIM_CACHE=str(folder / "store"))
    assert done.returncode == 0, done.stderr
    return (folder / "artifact.tar.gz").read_bytes(), folder / "store"


def test_killed_at_every_stage_in_turn_it_ends_in_the_same_bytes(
    whole: tuple[bytes, Path], images: Path, tmp_path: Path
) -> None:
    archive, measured = whole
    store = tmp_path / "store"
    shutil.copytree(measured / "operator_times", store / "operator_times")  # times differ from run to run
    before: dict[str, int] = {}
    for step in STEPS:
        words = [*command(images, tmp_path / "artifact"), "--quiet", "--log-file", "/dev/stderr"]
        with running("-m", "edgeslim", *words, EDGESLIM_CACHE=str(store)) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if step in line:
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL, f"the build has no step `{step}`"
        assert not (tmp_path / "artifact").exists()
        after = kept(store)
        assert {name: after[name] for name in before} == before, f"until `{step}` what was there was computed again"
        assert step == STEPS[0] or len(after) > len(before) or step in STEPS[2:], f"nothing new before `{step}`"
        before = after
    done = edgeslim(*command(images, tmp_path / "artifact"), EDGESLIM_CACHE=str(store))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "artifact.tar.gz").read_bytes() == archive
    assert kept(store) == before, "the last build found everything"


def test_the_operator_times_of_an_artifact_give_the_same_bytes_and_nothing_is_timed(
    whole: tuple[bytes, Path], images: Path, tmp_path: Path
) -> None:
    given = whole[1].parent / "artifact.tar.gz"
    store = tmp_path / "store"
    done = edgeslim(*command(images, tmp_path / "artifact"), "--operator-times", str(given), EDGESLIM_CACHE=str(store))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "artifact.tar.gz").read_bytes() == whole[0]
    assert not (store / "operator_times").exists(), "operators were timed"


def test_a_changed_image_reruns_what_depends_on_it_and_no_operator_is_timed_again(
    whole: tuple[bytes, Path], images: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole[1], store)
    times = {file: file.read_bytes() for file in (store / "operator_times").iterdir()}
    curves = {name for name in kept(store) if name.startswith("curve")}
    with np.load(images) as file:
        changed = file["images"].copy()
    changed[:] = changed[:, ::-1]
    np.savez(tmp_path / "changed.npz", images=changed)
    done = edgeslim(*command(tmp_path / "changed.npz", tmp_path / "artifact"), EDGESLIM_CACHE=str(store))
    assert done.returncode == 0, done.stderr
    assert {file: file.read_bytes() for file in (store / "operator_times").iterdir()} == times
    again = {name for name in kept(store) if name.startswith("curve")}
    assert len(again) == 2 * len(curves), "curves of other images were taken for those of these"
