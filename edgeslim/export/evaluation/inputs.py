"""The evaluation images as files that runtimes read: in each layout, in each type."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.formats import RUNTIMES
from edgeslim.tasks.images import BATCH, ImageSet

TIMED_IMAGES = 32
PART_BYTES = 2**29  # of inputs in one layout; two parts lie on the disk at a time, of which the first stays


def in_dtype(inputs: Path, dtype: str, convert: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Path:
    """Write an .npy file of real inputs in another type, row by row; return the file."""
    real = np.load(inputs, mmap_mode="r")
    converted = inputs.with_name(f"{inputs.stem}_{dtype}.npy")
    with converted.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": real.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for row in real:
            file.write(convert(row).tobytes())
    return converted


def in_parts(images: ImageSet) -> list[ImageSet]:
    """Return a set in parts, in order, whose inputs take PART_BYTES at most; a part has 64 images at least."""
    how = images.preprocessing
    most = max(PART_BYTES // (4 * how.height * how.width * how.channels), BATCH)
    return [images.part(slice(start, start + most)) for start in range(0, len(images), most)]


def write_inputs(images: ImageSet, work: Path) -> dict[str, Path]:
    """Write the preprocessed images once in each layout, batch by batch; return the file for each runtime.

    Written, not mapped: a full disk is then an error, and not the end of the process.
    """
    work.mkdir(exist_ok=True)
    how = images.preprocessing
    files = _by_layout(work)
    with files[True].open("wb") as last, files[False].open("wb") as first:
        for file, shape in (
            (last, (len(images), how.height, how.width, how.channels)),
            (first, (len(images), how.channels, how.height, how.width)),
        ):
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for batch in images.inputs():
            last.write(batch.tobytes())
            first.write(batch.transpose(0, 3, 1, 2).tobytes())
    return input_files(work)


def input_files(work: Path) -> dict[str, Path]:
    """Return where the inputs of each runtime lie, in its layout."""
    files = _by_layout(work)
    return {name: files[one.channels_last] for name, one in RUNTIMES.items()}


def _by_layout(work: Path) -> dict[bool, Path]:
    """Return the file of each layout, by whether the channel axis is the last."""
    return {True: work / "inputs_nhwc.npy", False: work / "inputs_nchw.npy"}


def sample_inputs(runtime: str, work: Path) -> Path:
    """Return an .npy file of the first images in a runtime's layout, for files that take floats."""
    file = work / f"samples_{runtime}.npy"
    np.save(file, first_rows(input_files(work)[runtime], TIMED_IMAGES))
    return file


def first_rows(file: Path, count: int) -> NDArray[np.float32]:
    """Return the first rows of an .npy file."""
    return np.array(np.load(file, mmap_mode="r")[:count])
