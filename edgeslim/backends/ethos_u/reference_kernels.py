"""How TensorFlow Lite Micro's reference kernels answer beside LiteRT, where the package `tflite-micro` is installed.

A worker runs them: int8 arrays in .npy files, samples on axis 0.
"""

import importlib.metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeslim.artifact.sections import ReferenceKernels
from edgeslim.export.process import run_worker

PACKAGE = "tflite-micro"
IMAGES = 16  # the reference kernels are written to be read: mobilenet_v2 takes seconds an image
ARENA_BYTES = 64 * 2**20


def installed_version() -> str | None:
    """Return the version of tflite-micro that is installed, or None."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def compare(model: Path, inputs: NDArray[np.int8], outputs: NDArray[np.int8], work: Path) -> ReferenceKernels | None:
    """Run a model's int8 inputs (n, ...) in the reference kernels, and hold the answers against LiteRT's `outputs`.

    None where the package is not installed. Raises ToolFailed where the kernels cannot run the model.
    """
    version = installed_version()
    if version is None:
        return None
    fed, made = work / "micro_inputs.npy", work / "micro_outputs.npy"
    np.save(fed, inputs)
    log = work / "tflite_micro.log"
    run_worker("edgeslim.backends.ethos_u.reference_kernels", [model, fed, made], log, "tflite-micro", "tflite-micro")
    steps = np.abs(np.load(made).astype(np.int32).reshape(outputs.shape) - outputs)
    return ReferenceKernels(
        version=version, images=len(inputs), equal_pct=100.0 * float((steps == 0).mean()), max_lsb=int(steps.max())
    )


def main(model: str, inputs: str, outputs: str) -> None:
    """Run the samples one by one, and leave the first output of each behind."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(model, arena_size=ARENA_BYTES)
    answers = []
    for row in np.load(inputs):
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        answers.append(np.array(interpreter.get_output(0)))
    np.save(outputs, np.concatenate(answers))
