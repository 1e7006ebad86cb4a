"""Builds that several tests look at: the bundled default as a user would make it, and a plan for a small network."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from offline import REFUSE

from edgeslim.compress import fold, quantize
from edgeslim.context import Context
from edgeslim.data import load_data
from edgeslim.device_profile import load_profile
from edgeslim.export.job import Spelling
from edgeslim.graph import program_of
from edgeslim.model import Model, load_model
from edgeslim.numerics import Numerics
from edgeslim.produce import export_job
from edgeslim.progress import silent

NET = f"{Path(__file__).with_name('mixed_net.py')}:make"


def edgeslim(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "edgeslim", *arguments],
        capture_output=True, text=True, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Start Python with its output in pipes; what still runs at the end is killed."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Built:
    folder: Path
    summary: dict[str, Any]
    stderr: str


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The bundled default for a Raspberry Pi, built by the command line, no process of which may ask the network."""
    folder = tmp_path_factory.mktemp("default") / "artifact"
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(REFUSE)  # which Python imports at its start
    done = edgeslim("build", "--device", "raspberry-pi", "--out", str(folder), "--json", PYTHONPATH=str(hook))
    assert done.returncode == 0, done.stderr
    return Built(folder, json.loads(done.stdout), done.stderr)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unlabelled images for the small network: smooth noise."""
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 256, (256, 4, 4, 3), np.uint8)
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, images=coarse.repeat(4, 1).repeat(4, 2))
    return path


@dataclass(frozen=True)
class Plan:
    """The small network folded and quantized, and what its exporters need."""

    dense: Model
    quantized: Model
    context: Context

    @property
    def numerics(self) -> Numerics:
        assert self.quantized.numerics is not None
        return self.quantized.numerics

    def export(self, quantized: Model, work: Path) -> dict[str, tuple[Path, Spelling]]:
        """Write the INT8 files of all formats; return file and spelling by format."""
        assert quantized.numerics is not None
        work.mkdir()
        images = next(iter(self.context.data.calibration.tensors()))[:16]
        np.save(work / "probe.npy", images.numpy())
        quantized.numerics.save(work / "numerics.json")
        torch.export.save(program_of(quantized.graph, images[:1]), work / "int8.pt2")
        done = {}
        for name in ("onnx", "openvino", "tflite"):
            job, spelling = export_job(name, "int8", work)
            done[name] = (job.target, spelling)
        return done


@pytest.fixture(scope="session")
def plan(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(images, tmp_path_factory.mktemp("plan"), quantize.Settings())


def make_plan(images: Path, work: Path, settings: quantize.Settings) -> Plan:
    model = load_model(NET, "random")
    data = load_data(str(images), model.preprocessing, model.classes, bundled=False)
    context = Context(load_profile("raspberry-pi"), data, 0, work, silent)
    dense = fold.apply(model, fold.Settings(), context)
    return Plan(dense, quantize.apply(dense, settings, context), context)
