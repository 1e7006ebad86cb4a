"""What a GPU build demands of recipe and result: the fp16 file held against the same network in fp32."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edgeslim.artifact.sections import HalfCheck
from edgeslim.devices.profile import DeviceProfile, known_to_fail
from edgeslim.errors import BadInput, Refused
from edgeslim.export.evaluation.run import Judged
from edgeslim.model.context import Context
from edgeslim.model.graph import batched, rows
from edgeslim.model.model import Model
from edgeslim.model.simulate_fp16 import HalfNetwork, to_bfloat16
from edgeslim.recipe import Recipe
from edgeslim.tasks.classification import agreement_pct


def require_gpu_recipe(recipe: Recipe, profile: DeviceProfile) -> None:
    """Raise BadInput, before any work, for a recipe that a GPU with TensorRT has no use for."""
    if profile.tensorrt is None:
        return
    if recipe.formats != ("onnx",):
        raise BadInput(
            f"{profile.name} builds its engines from ONNX; the recipe writes {', '.join(recipe.formats)} "
            "(--format onnx)"
        )
    if recipe.max_latency_s is not None:
        raise BadInput(f"--max-latency cannot be judged for {profile.name}: nothing runs on its GPU here")


def check_half(judged: Sequence[Judged], model: Model, context: Context) -> HalfCheck | None:
    """Return how the network of the fp16 file answers in fp16, beside itself in fp32, on the whole evaluation set.

    `model` is that network with its HalfPlan. None where no fp16 file was judged.
    """
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
    found: tuple[list[NDArray[np.float32]], ...] = ([], [], [])
    count = len(context.data.evaluation)
    done = 0
    with torch.no_grad():
        for batch in context.data.evaluation.tensors():
            context.progress("simulating fp16", done / count)
            for images in [batch] if whole else rows([batch]):
                for logits, runner in zip(found, runners, strict=True):
                    logits.append(runner.run(images).numpy())
            done += len(batch)
    exact, simulated, brain = (np.concatenate(parts) for parts in found)
    error = float(np.abs(simulated - exact).max())
    return HalfCheck(
        images=count,
        simulated_pct=agreement_pct(simulated, exact),
        bf16_simulated_pct=agreement_pct(brain, exact),
        file_pct=agreement_pct(file.logits, exact),
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


def engine_source(judged: Sequence[Judged], profile: DeviceProfile) -> Judged | None:
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
