"""Builds by the command line, and a plan for a small network, that several tests look at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeslim.backends import backend_of
from edgeslim.compress import fold
from edgeslim.compress.quantize import step as quantize
from edgeslim.devices.profile import load_profile
from edgeslim.export.export_all import export_job
from edgeslim.export.job import Spelling
from edgeslim.model.context import Context
from edgeslim.model.graph import program_of
from edgeslim.model.load import load_model
from edgeslim.model.model import Model
from edgeslim.model.numerics import Numerics
from edgeslim.progress import silent
from edgeslim.recipe import Recipe, with_settings, without_step
from tests.support import TESTS

NET = f"{TESTS / 'support' / 'mixed_net.py'}:make"


def recipe_for(device: str, *, prune: bool, **settings: Any) -> Recipe:
    """Return a device's default recipe with some settings, with or without its step `prune`."""
    profile = load_profile(device)
    default = backend_of(profile).default_recipe(profile)
    return with_settings(default if prune else without_step(default, "prune"), **settings)


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


def write_smooth_noise(path: Path, count: int = 256) -> Path:
    """Write unlabelled images for a small network: smooth noise, 16x16, in colour; return where."""
    coarse = np.random.default_rng(3).integers(0, 256, (count, 4, 4, 3), np.uint8)
    np.savez(path, images=coarse.repeat(4, 1).repeat(4, 2))
    return path


@dataclass(frozen=True)
class Built:
    folder: Path
    summary: dict[str, Any]
    stderr: str


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
            job, spelling = export_job(name, "int8", work, ["logits"])
            done[name] = (job.target, spelling)
        return done


def make_plan(images: Path, work: Path, settings: quantize.Settings) -> Plan:
    model = load_model(NET, "random")
    data = model.task.read(str(images), model.facts)
    context = Context(load_profile("raspberry-pi"), data, 0, work, silent)
    dense = fold.apply(model, fold.Settings(), context)
    return Plan(dense, quantize.apply(dense, settings, context), context)
