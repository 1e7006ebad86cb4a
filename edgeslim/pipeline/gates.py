"""What follows from the findings: which file the device should run, and whether the result is good enough."""

from collections.abc import Sequence
from types import ModuleType

import torch

from edgeslim.compress.prune.step import AMOUNTS, PRUNED
from edgeslim.export.evaluation.run import Judged, twin_of
from edgeslim.model.graph import as_arrays, batched, forward, joined
from edgeslim.model.model import Stages
from edgeslim.recipe import Recipe
from edgeslim.tasks.images import Data
from edgeslim.tasks.task import points


def lost_points(one: Judged, judged: Sequence[Judged], data: Data) -> float | None:
    """Return the points that a file loses against its fp32 twin; None where that cannot be said.

    Without targets they are points of agreement.
    """
    twin = twin_of(one, judged)
    if data.synthetic or one is twin or (data.labelled and twin is None):
        return None
    return one.score.lost_against(twin.score if data.labelled and twin else None)


def worst_beyond_drop(judged: Sequence[Judged], recipe: Recipe, data: Data) -> tuple[Judged, float] | None:
    """Return the file that loses most, and the points, where that is more than the recipe allows."""
    lost = [(one, found) for one in judged if (found := lost_points(one, judged, data)) is not None]
    worst = max(lost, key=lambda pair: pair[1], default=None)
    return None if worst is None or worst[1] <= recipe.max_drop_points else worst


def costs(judged: Sequence[Judged], stages: Stages, data: Data, task: ModuleType) -> str | None:
    """Return in words what pruning and what INT8 costs of all that the INT8 file loses which loses most.

    The pruned network is run in PyTorch, before it was quantized, on the images that judge. None where nothing was
    pruned, or nothing can be said.
    """
    lost = [(one, lost_points(one, judged, data)) for one in judged if one.job.precision == "int8"]
    files = [(one, total) for one, total in lost if total is not None]
    if not files or not any(line.startswith(PRUNED) for line in stages.final.history):
        return None
    worst, total = max(files, key=lambda pair: pair[1])
    twin = twin_of(worst, judged)
    reference = worst.outputs if twin is None else twin.outputs
    network = batched(stages.unquantized.graph)
    with torch.no_grad():
        outputs = as_arrays(joined(forward(network, batch) for batch in data.evaluation.tensors()))
    score = task.score(outputs, data.evaluation.targets, reference)
    pruning = score.lost_against(twin.score if data.labelled and twin else None)
    by_pruning, by_int8 = points(pruning, score.unit), points(total - pruning, score.unit)
    return f"{worst.label} loses {worst.score.amount(total)}: pruning {by_pruning}, INT8 {by_int8}"


def not_judged(recipe: Recipe, data: Data, task: ModuleType) -> str | None:
    """Return why the images cannot tell the loss that the recipe allows, with how many could; None where they can."""
    images, needed = len(data.evaluation), task.images_to_tell(recipe.max_drop_points)
    if data.synthetic or images >= needed:
        return None
    return f"not judged: {images} images, {needed} needed for {recipe.max_drop_points:g} points"


def below_demand(judged: Sequence[Judged], recipe: Recipe, data: Data, unjudged: str | None = None) -> list[str]:
    """Return every way in which the result falls below the recipe's demands.

    `unjudged`: why the images cannot say how much is lost, which is no way to fall short unless the recipe is strict.
    """
    reasons = [f"{unjudged} (--strict)"] if unjudged and recipe.strict else []
    for one in judged:
        if one.job.precision == "fp32":
            continue
        drop = lost_points(one, judged, data)
        if unjudged is None and drop is not None and drop > recipe.max_drop_points:
            asked = any(call.step == "prune" and set(AMOUNTS) & set(call.settings) for call in recipe.steps)
            cures = [*(["--no-prune leaves every channel"] if asked else []), "--keep-float leaves layers in float"]
            reasons.append(
                f"{one.label} loses {one.score.amount(drop)}, {recipe.max_drop_points:g} are allowed (--max-drop); "
                f"{', '.join(cures)}"
            )
        missing = [name for name in one.spelling.nodes if name not in (one.proven or ())]
        if one.planned is not None and len(one.proven or ()) < one.planned:
            reasons.append(
                f"{one.label}: {one.runtime} ran {len(one.proven or ())} of {one.planned} planned layers on integers"
                f"{'; not: ' + ', '.join(missing[:5]) if missing else ''}"
            )
        unexplained = [row.name for row in one.rows if row.unexplained]
        if recipe.strict and unexplained:
            reasons.append(
                f"{one.label} departs from the plan without a stated reason at {len(unexplained)} places "
                f"(--strict): {', '.join(unexplained[:5])}"
            )
    return reasons
