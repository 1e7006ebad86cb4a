"""The golden vectors of an artifact, and how far a runtime may be from them."""

from pathlib import Path

import numpy as np

from edgeslim.artifact.manifest import (
    GOLDEN_CODES,
    GOLDEN_HALVES,
    GOLDEN_IMAGES,
    GOLDEN_INPUTS,
    LsbTolerance,
    RelativeTolerance,
    Tolerance,
)
from edgeslim.export.evaluation.run import Judged
from edgeslim.formats import RUNTIMES
from edgeslim.grid import Grid
from edgeslim.model.graph import output_nodes
from edgeslim.pipeline.result import Built
from edgeslim.tasks.images import ImageSet
from edgeslim.tasks.preprocessing import preprocess_batch

GOLDEN_COUNT, GOLDEN_SEARCHED = 8, 256


def golden_images(evaluation: ImageSet) -> list[int]:
    """Return which images become golden vectors: the first eight of the size most frequent among the first 256."""
    shapes = [image.shape for image in evaluation.raw(GOLDEN_SEARCHED)]
    wanted = max(set(shapes), key=shapes.count)
    return [i for i, shape in enumerate(shapes) if shape == wanted][:GOLDEN_COUNT]


def write_golden(staging: Path, made: Built, chosen: list[int]) -> None:
    """Write the chosen images, the inputs they become, and what every file makes of them."""
    raw = made.data.evaluation.raw(max(chosen) + 1)
    images = np.stack([raw[i] for i in chosen])
    channels_last = preprocess_batch(images, made.stages.given.preprocessing)
    np.save(staging / GOLDEN_IMAGES, images)
    np.save(staging / GOLDEN_INPUTS["NHWC"], channels_last)
    np.save(staging / GOLDEN_INPUTS["NCHW"], np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)))
    for one in made.judged:
        taken = input_grid(one)
        if taken is not None:
            np.save(staging / GOLDEN_CODES, taken.codes(channels_last))
        if one.job.io == "float16":
            halves = np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)).astype(np.float16)
            np.save(staging / GOLDEN_HALVES, halves)
        for place, name in enumerate(one.job.outputs):
            outputs, codes = one.outputs[place][chosen], output_codes(one, place)
            told = outputs.astype(np.float16) if one.job.io == "float16" else outputs
            np.save(staging / golden_path(one, name), told if codes is None else codes.codes(outputs))


def tolerance_of(one: Judged, place: int, made: Built) -> Tolerance:
    """An output of an INT8 file that lies on a grid may be off by steps of it, all others by a share of their size.

    Where the device's accelerator computes otherwise than this machine, it says by how much.
    """
    if one.label in made.delivery.tolerances:
        return made.delivery.tolerances[one.label][place]
    if output_codes(one, place) is not None:
        return LsbTolerance(lsb=RUNTIMES[one.runtime].golden_lsb, scale=1.0)
    grid = output_grid(one, place, made)
    if grid is not None:
        return LsbTolerance(lsb=RUNTIMES[one.runtime].golden_lsb, scale=grid[0])
    peak = float(np.abs(one.outputs[place]).max())
    return RelativeTolerance(rtol=1e-3, atol=float(f"{1e-4 * peak:.3g}"))


def output_grid(one: Judged, place: int, made: Built) -> tuple[float, int] | None:
    """Return scale and zero point of the grid on which an output of an INT8 file lies, None where it lies on none."""
    codes = output_codes(one, place)
    if codes is not None:
        return codes.scale, codes.zero_point
    name = output_nodes(made.stages.final.graph)[place].name
    row = next((row for row in one.rows if row.kind == "edge" and row.name == name), None)
    if row is None or row.held_scale is None or row.held_zero_point is None:
        return None
    return row.held_scale, row.held_zero_point


def input_grid(one: Judged) -> Grid | None:
    """Return the grid of a file's int8 input, None for one that takes floats."""
    return None if one.ends is None else one.ends.input.grid


def output_codes(one: Judged, place: int) -> Grid | None:
    """Return the grid of an int8 output of a file, None for one that is float."""
    return None if one.ends is None else one.ends.outputs[place].grid


def golden_path(one: Judged, output: str) -> str:
    """Return where in the artifact the golden values of one output of a file lie."""
    return f"golden/outputs_{one.job.format}_{one.job.precision}_{output}.npy"
