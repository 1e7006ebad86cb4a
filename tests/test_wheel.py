"""An installed edgeslim works outside its repository: what travels in the wheel, and that it is found there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY

ASK = """
import json
from edgeslim import resources
from edgeslim.devices import profile
print(json.dumps({
    "runtimes": str(resources.bundled("runtimes")),
    "devices": profile.known_devices(),
    "soc": profile.load_profile("raspberry-pi").soc,
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it without its dependencies, and return the folder it lies in."""
    pytest.importorskip("hatchling", reason="hatchling is not installed; pip install 'edgeslim[test]'")
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", wheels, REPOSITORY], wheels)
    run([*pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", folder, *wheels.glob("*.whl")], wheels)
    return folder


def run(command: list[str | Path], cwd: Path, **variables: str) -> str:
    """Run a program and return what it printed; fail with its stderr."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_edgeslim_finds_its_own_profiles_and_runtimes(installed: Path, tmp_path: Path) -> None:
    answer = json.loads(run([sys.executable, "-c", ASK], tmp_path, PYTHONPATH=str(installed)))
    assert answer["runtimes"] == str(installed / "edgeslim" / "_bundled" / "runtimes"), "it used the repository's files"
    here = sorted(file.stem for file in (REPOSITORY / "device_profiles").glob("*.yaml"))
    assert answer["devices"] == here, "profiles are missing or too many"
    assert answer["soc"], "a bundled profile cannot be read"


def test_the_installed_command_lists_the_devices(installed: Path, tmp_path: Path) -> None:
    printed = run([installed / "bin" / "edgeslim", "devices"], tmp_path, PYTHONPATH=str(installed))
    assert "raspberry-pi-4" in printed, printed


@pytest.mark.parametrize(
    ("folder", "travels_as"),
    [
        ("device_profiles", "_bundled/device_profiles"),
        ("runtimes", "_bundled/runtimes"),
        ("edgeslim/model/default", "model/default"),
        ("edgeslim/artifact/carried", "artifact/carried"),
    ],
)
def test_every_file_that_is_no_cache_travels_with_the_same_bytes(folder: str, travels_as: str, installed: Path) -> None:
    source, there = REPOSITORY / folder, installed / "edgeslim" / travels_as
    assert contents(there) == contents(source), f"{folder} and its copy in the wheel differ"


@pytest.mark.parametrize(
    "name",
    [
        "_bundled/runtimes/PROTOCOL.md",
        "_bundled/runtimes/python/agent.py",
        "artifact/manifest.schema.json",
        "devices/profile.schema.json",
        "recipe.schema.json",
        "artifact/carried/run.py",
        "model/default/weights.safetensors",
        "model/default/calibration.npz",
        "model/default/selection.npz",
        "model/default/evaluation.npz",
        "model/default/train.npz",
        "model/default/LICENSE",
    ],
)
def test_what_an_installed_edgeslim_needs_is_inside(name: str, installed: Path) -> None:
    assert (installed / "edgeslim" / name).is_file(), f"the wheel lacks edgeslim/{name}"


def test_no_cache_travels(installed: Path) -> None:
    caches = [*installed.rglob(".*"), *installed.rglob("*.pyc")]
    assert not caches, f"caches are in the wheel: {caches[:3]}"


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file under a folder, by its path there, without hidden folders and bytecode."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
        and file.suffix != ".pyc"
        and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    }
