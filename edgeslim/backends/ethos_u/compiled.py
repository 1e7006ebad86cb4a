"""The INT8 file compiled, run in reference kernels, and held against device and recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeslim.artifact.sections import ReferenceKernels
from edgeslim.backends.ethos_u import reference_kernels as micro
from edgeslim.backends.ethos_u.compile import Compiled, compile_network
from edgeslim.devices.profile import Compiler
from edgeslim.errors import ToolFailed
from edgeslim.export.evaluation.run import Judged
from edgeslim.export.process import keep_logs
from edgeslim.model.context import Context
from edgeslim.recipe import Recipe
from edgeslim.units import show_bytes


@dataclass(frozen=True)
class NpuFile:
    """The compiled file to take, and the other goals' that were tried."""

    made_from: Judged
    compiler: Compiler
    best: Compiled
    others: tuple[Compiled, ...]
    reference: ReferenceKernels | None
    warnings: tuple[str, ...] = ()


def compile_best(judged: Sequence[Judged], context: Context, destination: Path) -> tuple[NpuFile | None, list[str]]:
    """Compile the INT8 file for the device's NPU; return it and a sentence for what failed.

    None where there is no INT8 file or Vela failed on it; `destination` is the artifact's folder, beside which the log
    of a failure is kept.
    """
    compiler = context.profile.compiler
    one = next((one for one in judged if one.job.io == "int8"), None)
    if compiler is None or one is None:
        return None, []
    context.progress("compiling for the NPU")
    try:
        best, *others = compile_network(one.job.target, compiler, context.work / "vela")
    except ToolFailed as error:
        return None, [keep_logs(error.message, context.work, destination)]
    reference, warnings = None, []
    context.progress("running the reference kernels")
    try:
        reference = _reference(one, context)
    except ToolFailed as error:
        told = keep_logs(error.message, context.work, destination)
        warnings.append(f"the reference kernels of tflite-micro were not run: {told}")
    return NpuFile(one, compiler, best, tuple(others), reference, tuple(warnings)), []


def _reference(one: Judged, context: Context) -> ReferenceKernels | None:
    taken, given = (None, ()) if one.ends is None else (one.ends.input.grid, one.ends.outputs)
    grids = [end.grid for end in given if end.grid is not None]
    if taken is None or len(grids) < len(one.outputs):
        return None
    images = next(iter(context.data.evaluation.inputs()))[: micro.IMAGES]
    outputs = [grid.codes(found[: len(images)]) for grid, found in zip(grids, one.outputs, strict=True)]
    return micro.compare(one.job.target, taken.codes(np.asarray(images)), outputs, context.work)


def unfit(npu: NpuFile, recipe: Recipe) -> list[str]:
    """Return how a compiled file falls short: operators on the CPU with their cures, SRAM, flash and size too large."""
    best = npu.best
    placed = best.placement
    reasons = []
    if placed.npu_pct < recipe.min_npu_ops_pct:
        reasons.append(
            f"{len(placed.on_npu)} of {len(placed.operators)} operators run on the NPU ({placed.npu_pct:.1f} %), "
            f"{recipe.min_npu_ops_pct:g} % are demanded (min_npu_ops_pct)"
        )
        reasons += [f"on the CPU: {one.original} `{one.name}`: {one.reason}; cure: {one.cure}" for one in placed.on_cpu]
    reasons += [
        f"compiled for {best.goal} it {excess}{_tried(npu)}; prune it, or give it smaller images"
        for excess in best.excesses(npu.compiler)
    ]
    if recipe.max_size_bytes is not None and best.flash_bytes > recipe.max_size_bytes:
        reasons.append(
            f"{best.file.name} takes {show_bytes(best.flash_bytes)}, {show_bytes(recipe.max_size_bytes)} are allowed "
            "(--max-size)"
        )
    return reasons


def _tried(npu: NpuFile) -> str:
    """Return what the goals not taken would need."""
    return "".join(f" (for {other.goal}: {'; '.join(other.excesses(npu.compiler))})" for other in npu.others)
