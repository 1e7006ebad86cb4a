"""Exporters, one format a file with `write(job)` and `read_back(path, spelling)`; each job runs in its own process."""

import importlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeslim.errors import MissingPackage
from edgeslim.export.job import Ends, Held, Job, Spelling, load_spelling
from edgeslim.export.process import run_worker
from edgeslim.formats import FORMATS, FormatName


def require_format(name: FormatName) -> None:
    """Raise MissingPackage when a package that writes this format is not installed."""
    for package in FORMATS[name].packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package, FORMATS[name].extra)


def export(job: Job, log: Path) -> Spelling:
    """Run one job in a process of its own and return where the plan went; what the libraries say goes to `log`.

    Raises ToolFailed naming the format, what happened and the log. The process dies with an interrupt here.
    """
    folder = job.target.parent
    folder.mkdir(parents=True, exist_ok=True)
    stem = log.with_suffix("")
    told, answer = stem.with_suffix(".job.json"), stem.with_suffix(".spelling.json")
    job.save(told)
    what, name = f"the {job.format} exporter ({job.precision})", f"{job.format} {job.precision}"
    run_worker("edgeslim.export.worker", [told, answer], log, what, name)
    return load_spelling(answer)


def read_back(name: FormatName, path: Path, spelling: Spelling) -> tuple[dict[str, Held], dict[str, Held]]:
    """Return what a file of format `name` holds: by edge for activations, by layer for weights."""
    require_format(name)
    held: tuple[dict[str, Held], dict[str, Held]] = importlib.import_module(f"edgeslim.export.{name}").read_back(
        path, spelling
    )
    return held


def float_values(name: FormatName, path: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return every float activation of a float file for images (n, C, H, W), by tensor name, stacked on axis 0."""
    require_format(name)
    found: dict[str, NDArray[np.float32]] = importlib.import_module(f"edgeslim.export.{name}").float_values(
        path, images
    )
    return found


def stored_precisions(path: Path, weights: Iterable[str]) -> dict[str, str]:
    """Return the precision in which an ONNX file stores each of some weights: "fp16", "fp32" or "none"."""
    require_format("onnx")
    onnx = importlib.import_module("onnx")
    held: dict[str, str] = importlib.import_module("edgeslim.export.onnx_fp16").held_precisions(
        onnx.load(path), weights
    )
    return held


def tflite_ends(path: Path) -> Ends:
    """Return the input and the outputs of a TFLite file; ToolFailed where it cannot be read."""
    require_format("tflite")
    ends: Ends = importlib.import_module("edgeslim.export.tflite").ends(path)
    return ends
