"""What a build does for an NVIDIA GPU with TensorRT: the fp16 file held against the same network in fp32."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.artifact.archive import Artifact
from edgeslim.artifact.manifest import Manifest, RelativeTolerance
from edgeslim.artifact.sections import HalfCheck
from edgeslim.backends import Delivery, Faults, Inspected, beyond_budget
from edgeslim.backends.tensorrt import tables
from edgeslim.devices.profile import DeviceProfile, known_to_fail
from edgeslim.errors import Refused
from edgeslim.formats import Io
from edgeslim.recipe import Recipe, StepCall

if TYPE_CHECKING:
    from edgeslim.export.evaluation.run import Judged
    from edgeslim.model.context import Context
    from edgeslim.model.model import Model, Stages

OWN_RULES = False
EXTRAS: dict[str, tuple[str, ...]] = {}
CHECKS: dict[str, str] = {}
lines = tables.gpu_lines


def default_recipe(profile: DeviceProfile) -> Recipe:
    """Prune, fold, fp16 but for what it hurts, and INT8 with zero points of 0, which is all that TensorRT takes."""
    quantize = StepCall(step="quantize", settings={"symmetric": True})
    steps = (*(StepCall(step=name) for name in ("prune", "fold", "mixed_precision")), quantize)
    return Recipe(steps=steps, formats=("onnx",))


def profile_faults(profile: DeviceProfile) -> list[str]:
    """Return nothing: whoever has TensorRT can be built for."""
    return []


def recipe_faults(recipe: Recipe, profile: DeviceProfile) -> list[str]:
    """Refuse a recipe that a GPU with TensorRT has no use for."""
    faults = []
    if recipe.formats != ("onnx",):
        faults.append(
            f"{profile.name} builds its engines from ONNX; the recipe writes {', '.join(recipe.formats)} "
            "(--format onnx)"
        )
    if recipe.max_latency_s is not None:
        faults.append(f"--max-latency cannot be judged for {profile.name}: nothing runs on its GPU here")
    return faults


def model_faults(model: "Model", profile: DeviceProfile, steps: Sequence[tuple[Any, Any]]) -> Faults:
    """Return nothing: the rules of the pipeline hold for TensorRT too."""
    return Faults()


def ends(model: "Model", precision: str) -> Io:
    """An fp16 file takes and gives what its plan says, all others floats."""
    return "float16" if precision == "fp16" and model.half is not None and model.half.io == "fp16" else "float32"


def operator_runtime(profile: DeviceProfile) -> tuple[str, int]:
    """Return ONNX Runtime, which runs the same file here, and TensorRT's channel multiple: that runs nowhere here."""
    support = profile.tensorrt
    if support is None or "int8" not in support.precisions:
        raise Refused(f"pruning for {profile.name} goes by INT8 times, which its TensorRT does not offer")
    return "onnxruntime", support.channel_multiple["int8"].value or 1


def deliver(
    judged: "Sequence[Judged]", stages: "Stages", recipe: Recipe, context: "Context", destination: Path
) -> Delivery:
    """Simulate fp16, and add what builds engines on the device; nothing is timed, for nothing runs on a GPU here."""
    from edgeslim.backends.tensorrt.section import BUILDER, SOURCE, gpu_files
    from edgeslim.export.evaluation.run import known_failures

    check = check_half(judged, stages.unquantized, context)
    primary, plan = engine_source(judged, context.profile), stages.final.half
    return Delivery(
        primary=None if primary is None else primary.path,
        section=None if plan is None or check is None else gpu_files(plan, check, context.profile),
        files={} if check is None else {BUILDER: SOURCE},
        tolerances={} if check is None else _tolerances(judged, check),
        reasons=(*short_of(check, recipe), *beyond_budget(primary, recipe, [])),
        warnings=tuple(known_failures(judged, context.profile)),
    )


def _tolerances(judged: "Sequence[Judged]", check: HalfCheck) -> dict[str, tuple[RelativeTolerance, ...]]:
    """Return how far a GPU may be from each of the fp16 file's golden outputs.

    It rounds to fp16 behind every operator, in an order of its own; ONNX Runtime on a CPU does not.
    """
    if check.simulated_max_error is None:
        return {}
    found = {}
    for one in judged:
        if one.job.precision == "fp16":
            least = [max(2 * check.simulated_max_error, 1e-3 * float(np.abs(out).max())) for out in one.outputs]
            found[one.label] = tuple(RelativeTolerance(rtol=1e-3, atol=float(f"{atol:.3g}")) for atol in least)
    return found


def check_half(judged: "Sequence[Judged]", model: "Model", context: "Context") -> HalfCheck | None:
    """Return how the network of the fp16 file answers in fp16, beside itself in fp32, on the whole evaluation set.

    `model` is that network with its HalfPlan. None where no fp16 file was judged.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    from edgeslim.model.graph import as_arrays, batched, rows
    from edgeslim.model.simulate_fp16 import HalfNetwork, to_bfloat16

    file = next((one for one in judged if one.job.precision == "fp16"), None)
    if model.half is None or file is None:
        return None
    plan = model.half
    try:
        graph, whole = batched(model.graph), True
    except Refused:
        graph, whole = model.graph, False
    half = HalfNetwork(graph, plan.kept, plan.io)
    runners = (torch.fx.Interpreter(graph), half, HalfNetwork(graph, rounding=to_bfloat16))
    found: tuple[list[tuple[NDArray[np.float32], ...]], ...] = ([], [], [])
    count = len(context.data.evaluation)
    done = 0
    with torch.no_grad():
        for batch in context.data.evaluation.tensors():
            context.progress("simulating fp16", done, count)
            for images in [batch] if whole else rows([batch]):
                for outputs, runner in zip(found, runners, strict=True):
                    outputs.append(as_arrays(tree_leaves(runner.run(images))))
            done += len(batch)
    exact, simulated, brain = (
        tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True)) for outputs in found
    )
    error = max(float(np.abs(one - other).max()) for one, other in zip(simulated, exact, strict=True))
    agreement_pct = model.task.agreement_pct
    return HalfCheck(
        images=count,
        simulated_pct=agreement_pct(simulated, exact),
        bf16_simulated_pct=agreement_pct(brain, exact),
        file_pct=agreement_pct(file.outputs, exact),
        simulated_max_error=error if np.isfinite(error) else None,
        overflow=half.first_overflow,
    )


def short_of(half: HalfCheck | None, recipe: Recipe) -> list[str]:
    """Return how the fp16 file falls short: an overflow beyond calibration, too little agreement with fp32."""
    if half is None:
        return []
    reasons = []
    if half.overflow is not None:
        reasons.append(
            f"fp16 overflows at `{half.overflow}` on images of the evaluation set, beyond what calibration saw; raise "
            "`headroom` in the step mixed_precision, or calibrate on more images"
        )
    for pct, how in ((half.simulated_pct, "simulated in fp16"), (half.file_pct, "as the fp16 file in ONNX Runtime")):
        if pct < recipe.min_fp16_agreement_pct:
            reasons.append(
                f"{how}, the network agrees with itself in fp32 on {pct:.2f} % of the images, "
                f"{recipe.min_fp16_agreement_pct:g} % are demanded (min_fp16_agreement_pct); raise `min_sqnr_db` in "
                "the step mixed_precision to keep more operators in fp32"
            )
    return reasons


def engine_source(judged: "Sequence[Judged]", profile: DeviceProfile) -> "Judged | None":
    """Return the file from which the engine is built; INT8 comes second, for whether it is faster must be measured."""
    offered = () if profile.tensorrt is None else profile.tensorrt.precisions
    for precision in ("fp16", "int8", "fp32"):
        for one in judged:
            if (
                one.job.precision == precision
                and precision in offered
                and not known_to_fail(profile, "tensorrt", precision)
            ):
                return one
    return None


def bench_lines(manifest: Manifest) -> list[str]:
    """Return nothing: a bench runs every file with the GPU's execution provider, or refuses."""
    return []


def inspected(artifact: Artifact) -> Inspected:
    """Return every operator's precision, as planned and as the fp16 file stores it."""
    rows = tables.fp16_rows(artifact.manifest, artifact.folder)
    data = [{"planned": row.planned.model_dump(mode="json"), "held": row.held} for row in rows]
    return Inspected({"half_precision": data}, (tables.fp16_table(rows),) if rows else ())
