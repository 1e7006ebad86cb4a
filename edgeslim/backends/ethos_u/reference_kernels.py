"""How TensorFlow Lite Micro's reference kernels answer beside LiteRT, where the package `tflite-micro` is installed.

A worker runs them: int8 arrays in .npy files, samples on axis 0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeslim.artifact.sections import ReferenceKernels
from edgeslim.deploy.installed import version_of
from edgeslim.export.process import run_worker

PACKAGE = "tflite-micro"
IMAGES = 16  # the reference kernels are written to be read: mobilenet_v2 takes seconds an image
ARENA_BYTES = 64 * 2**20


def installed_version() -> str | None:
    """Return the version of tflite-micro that is installed, or None."""
    return version_of(PACKAGE)


def compare(
    model: Path, inputs: NDArray[np.int8], outputs: Sequence[NDArray[np.int8]], work: Path
) -> ReferenceKernels | None:
    """Run a model's int8 inputs (n, ...) in the reference kernels, and hold the answers against LiteRT's `outputs`.

    None where the package is not installed. Raises ToolFailed where the kernels cannot run the model.
    """
    version = installed_version()
    if version is None:
        return None
    fed, made = work / "micro_inputs.npy", work / "micro_outputs.npz"
    np.save(fed, inputs)
    log = work / "tflite_micro.log"
    told: list[str | Path] = [model, fed, made, str(len(outputs))]
    run_worker("edgeslim.backends.ethos_u.reference_kernels", told, log, "tflite-micro", "tflite-micro")
    with np.load(made) as found:
        pairs = [(found[f"arr_{place}"], wanted) for place, wanted in enumerate(outputs)]
    steps = np.concatenate(
        [np.abs(one.reshape(wanted.shape).astype(np.int32) - wanted).reshape(-1) for one, wanted in pairs]
    )
    return ReferenceKernels(
        version=version, images=len(inputs), equal_pct=100.0 * float((steps == 0).mean()), max_lsb=int(steps.max())
    )


def main(model: str, inputs: str, outputs: str, count: str) -> None:
    """Run the samples one by one, and leave the outputs behind, in the model's order."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(model, arena_size=ARENA_BYTES)
    answers = []
    for row in np.load(inputs):
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        answers.append([np.array(interpreter.get_output(place)) for place in range(int(count))])
    np.savez(outputs, *(np.concatenate(parts) for parts in zip(*answers, strict=True)))
