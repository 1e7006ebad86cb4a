"""Exporters, one format a file with `write(job)` and `read_back(path, spelling)`; each job runs in a fresh process."""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeslim.errors import MissingPackage, ToolFailed
from edgeslim.export.job import Held, Job, Spelling, Tensor, load_spelling
from edgeslim.formats import FORMATS, FormatName
from edgeslim.resources import in_package

TIMEOUT_S = 1800.0


def require_format(name: FormatName) -> None:
    """Raise MissingPackage when a package that writes this format is not installed."""
    for package in FORMATS[name].packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package, FORMATS[name].extra)


def child_environment() -> dict[str, str]:
    """Return the environment of an exporter process: offline, without telemetry, and repeatable."""
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "GLOG_minloglevel": "2",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "JAX_PLATFORMS": "cpu",
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join([str(in_package().parent), *sys.path[1:]]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TRANSFORMERS_OFFLINE": "1",
    }


def export(job: Job, log: Path) -> Spelling:
    """Run one job in a fresh process and return where the plan went; what the libraries say goes to `log`.

    Raises ToolFailed naming the format, what happened and the log. The process dies with an interrupt here.
    """
    folder = job.target.parent
    folder.mkdir(parents=True, exist_ok=True)
    stem = log.with_suffix("")
    told, answer = stem.with_suffix(".job.json"), stem.with_suffix(".spelling.json")
    job.save(told)
    run_tool(
        [sys.executable, "-m", "edgeslim.export.worker", str(told), str(answer)],
        log,
        f"the {job.format} exporter ({job.precision})",
    )
    return load_spelling(answer)


def run_tool(command: Sequence[str], log: Path, what: str, folder: Path | None = None) -> None:
    """Run a program in a process group of its own, in `folder`; what it says goes to `log`.

    Raises ToolFailed naming `what`, what happened and the log. The process dies with an interrupt here.
    """
    with log.open("w") as output:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=child_environment(),
            cwd=folder,
            start_new_session=True,
        )
        try:
            code = child.wait(TIMEOUT_S)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ToolFailed(f"{what} did not end within {TIMEOUT_S:.0f} s; its log: {log}") from error
            raise
    if code:
        raise ToolFailed(f"{what} {_ending(code, log)}; its log: {log}")


def _ending(code: int, log: Path) -> str:
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"failed: {lines[-1].strip() if lines else f'exit code {code}'}"


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
    held: dict[str, str] = importlib.import_module("edgeslim.export.onnx_half").held_precisions(
        onnx.load(path), weights
    )
    return held


def tflite_ends(path: Path) -> tuple[Tensor, Tensor]:
    """Return the first input and output of a TFLite file; ToolFailed where it cannot be read."""
    require_format("tflite")
    ends: tuple[Tensor, Tensor] = importlib.import_module("edgeslim.export.tflite").ends(path)
    return ends
