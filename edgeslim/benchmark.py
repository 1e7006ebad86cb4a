"""Measure an artifact's files where they can be measured, and keep what was measured beside it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeslim.artifact import MEASUREMENTS, Artifact, check_integrity, open_artifact
from edgeslim.errors import BadInput
from edgeslim.harness import Candidate, measure, runtime_available
from edgeslim.manifest import GOLDEN_INPUTS
from edgeslim.measurement import Measurement, save

TARGETS = ("local",)


def bench(
    path: Path,
    *,
    on: str = "local",
    threads: int = 1,
    processes: int = 9,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Measurement]:
    """Measure every file of an artifact whose runtime is installed, fp32 beside INT8, in interleaved fresh processes.

    `on`: "local", this machine. The raw times are saved in the folder's `measurements/` (an archive is only read).
    Raises BadInput for another target or when no runtime is installed, IntegrityFailed for a changed artifact.
    """
    if on not in TARGETS:
        raise BadInput(f"unknown target `{on}`; targets are {', '.join(TARGETS)}")
    if path.is_dir() and not os.access(path, os.W_OK):
        raise BadInput(f"{path} cannot be written to, and measurements are kept there; bench its archive to keep none")
    with open_artifact(path) as artifact:
        check_integrity(artifact.folder)
        candidates = [
            Candidate(f"{model.format} {model.precision}", model.runtime, artifact.folder / model.path, model.precision)
            for model in artifact.manifest.models
            if runtime_available(model.runtime) is not None
        ]
        if not candidates:
            raise BadInput("none of the artifact's runtimes is installed; `edgeslim doctor` says how to install them")
        measured = measure(candidates, _inputs(artifact), threads=threads, processes=processes, progress=progress)
        if path.is_dir():
            save(measured, path / MEASUREMENTS)
        return measured


def _inputs(artifact: Artifact) -> dict[str, np.ndarray]:
    """Return the golden inputs in the layout of each runtime."""
    return {
        model.runtime: np.load(artifact.folder / GOLDEN_INPUTS[model.inputs[0].layout])
        for model in artifact.manifest.models
    }
