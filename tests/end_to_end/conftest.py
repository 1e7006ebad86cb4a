"""Builds that several tests look at: the bundled default as a user would make it, and a plan for a small network."""

import json
from pathlib import Path

import pytest

from edgeslim.compress.quantize import step as quantize
from tests.support.builds import Built, Plan, edgeslim, make_plan, write_smooth_noise
from tests.support.offline import REFUSE


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The bundled default for a Raspberry Pi, built by the command line, no process of which may ask the network."""
    folder = tmp_path_factory.mktemp("default") / "artifact"
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(REFUSE)  # which Python imports at its start
    told = ("--json", "--log-file", str(folder.with_name("log.txt")))
    done = edgeslim("build", "--device", "raspberry-pi", "--out", str(folder), *told, PYTHONPATH=str(hook))
    assert done.returncode == 0, done.stderr
    return Built(folder, json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unlabelled images for the small network: smooth noise."""
    return write_smooth_noise(tmp_path_factory.mktemp("images") / "images.npz")


@pytest.fixture(scope="session")
def plan(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(images, tmp_path_factory.mktemp("plan"), quantize.Settings())
