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
from edgeslim.model.graph import output_of
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
        taken, given = grids_of(one)
        if taken is not None:
            np.save(staging / GOLDEN_CODES, taken.codes(channels_last))
        outputs = one.logits[chosen]
        if one.job.io == "float16":
            halves = np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)).astype(np.float16)
            np.save(staging / GOLDEN_HALVES, halves)
            outputs = outputs.astype(np.float16)
        np.save(staging / golden_outputs_path(one), outputs if given is None else given.codes(outputs))


def tolerance_of(one: Judged, made: Built) -> Tolerance:
    """INT8 files whose logits lie on a grid may be off by steps of it; all others by a share of their size.

    Where the device's accelerator computes otherwise than this machine, it says by how much.
    """
    if one.label in made.delivery.tolerances:
        return made.delivery.tolerances[one.label]
    if grids_of(one)[1] is not None:
        return LsbTolerance(lsb=RUNTIMES[one.runtime].golden_lsb, scale=1.0)
    grid = logits_grid(one, made)
    if grid is not None:
        return LsbTolerance(lsb=RUNTIMES[one.runtime].golden_lsb, scale=grid[0])
    peak = float(np.abs(one.logits).max())
    return RelativeTolerance(rtol=1e-3, atol=float(f"{1e-4 * peak:.3g}"))


def logits_grid(one: Judged, made: Built) -> tuple[float, int] | None:
    """Return scale and zero point of the grid on which an INT8 file's logits lie, None where they lie on none."""
    name = output_of(made.stages.final.graph).name
    row = next((row for row in one.rows if row.kind == "edge" and row.name == name), None)
    if row is None or row.held_scale is None or row.held_zero_point is None:
        return None
    return row.held_scale, row.held_zero_point


def grids_of(one: Judged) -> tuple[Grid | None, Grid | None]:
    """Return the grids of a file's int8 input and output, None for what is float."""
    return (None, None) if one.ends is None else (one.ends[0].grid, one.ends[1].grid)


def golden_outputs_path(one: Judged) -> str:
    """Return where in the artifact a file's golden outputs lie."""
    return f"golden/outputs_{one.job.format}_{one.job.precision}.npy"
