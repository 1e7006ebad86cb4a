"""What follows from the findings: whether the result is good enough, and where it is not, what would help."""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch

from edgeslim.backends import Delivery, backend_of
from edgeslim.compress.prune.step import AMOUNTS, PRUNED
from edgeslim.compress.quantize.promote import LEAST_IMAGES
from edgeslim.compress.quantize.step import PROMOTED
from edgeslim.devices.profile import is_this_machine
from edgeslim.export.evaluation.run import Judged, twin_of
from edgeslim.model.graph import as_arrays, batched, forward, joined
from edgeslim.model.model import Stages
from edgeslim.pipeline.result import Built
from edgeslim.recipe import Recipe
from edgeslim.tasks.images import Data
from edgeslim.tasks.sets import MOST
from edgeslim.tasks.task import points

MOST_ADVISED_POINTS = 10.0  # a network that loses more is broken: nobody is helped by allowing it
FEW_CALIBRATE = MOST["calibration"] // 4


@dataclass(frozen=True)
class Costs:
    """What pruning and what INT8 costs of all that a file loses, in the unit of its score.

    `trained`: what training gave back is counted in what pruning costs.
    """

    file: Judged
    pruning: float
    int8: float
    trained: bool = False

    def __str__(self) -> str:
        """Say it in words."""
        score = self.file.score
        by_pruning, by_int8 = points(self.pruning, score.unit), points(self.int8, score.unit)
        lost = score.amount(self.pruning + self.int8)
        behind = " and training" if self.trained else ""
        return f"{self.file.label} loses {lost}: pruning{behind} {by_pruning}, INT8 {by_int8}"


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


def costs(judged: Sequence[Judged], stages: Stages, data: Data, task: ModuleType) -> Costs | None:
    """Return what pruning and what INT8 costs of all that the INT8 file loses which loses most.

    The pruned network is run in PyTorch, before it was quantized, on the images that judge. None where nothing was
    pruned, or nothing can be said.
    """
    lost = [(one, lost_points(one, judged, data)) for one in judged if one.job.precision == "int8"]
    files = [(one, total) for one, total in lost if total is not None]
    if not files or not _pruned(stages):
        return None
    worst, total = max(files, key=lambda pair: pair[1])
    twin = twin_of(worst, judged)
    reference = worst.outputs if twin is None else twin.outputs
    network = batched(stages.unquantized.graph)
    with torch.no_grad():
        outputs = as_arrays(joined(forward(network, batch) for batch in data.evaluation.tensors()))
    score = task.score(outputs, data.evaluation.targets, reference)
    pruning = score.lost_against(twin.score if data.labelled and twin else None)
    return Costs(worst, pruning, total - pruning, trained=stages.final.trained_steps is not None)


def _pruned(stages: Stages) -> bool:
    return any(line.startswith(PRUNED) for line in stages.final.history)


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
            reasons.append(
                f"{one.label} loses {one.score.amount(drop)}, {recipe.max_drop_points:g} are allowed (--max-drop)"
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


def primary_of(judged: Sequence[Judged], delivery: Delivery) -> Judged | None:
    """Return the file that the device should run, None where none of those that were run here is."""
    return next((one for one in judged if one.path == delivery.primary), None)


def advice(made: Built, parts: Costs | None) -> tuple[str, ...]:
    """Return what would help a rejected build, by what was measured, each thing once; only what can help this one.

    `parts`: as `costs`.
    """
    if not made.reasons:
        return ()
    return (*_wider_demands(made), *_on_accuracy(made, parts), *_on_budget(made), *_on_strictness(made))


def _worst(made: Built) -> tuple[Judged, float] | None:
    return None if made.not_judged else worst_beyond_drop(made.judged, made.recipe, made.data)


def _too_large(made: Built) -> bool:
    primary, most = primary_of(made.judged, made.delivery), made.recipe.max_size_bytes
    return primary is not None and most is not None and primary.size_bytes > most


def _too_slow(made: Built) -> bool:
    primary, most = primary_of(made.judged, made.delivery), made.recipe.max_latency_s
    if primary is None or most is None:
        return False
    if is_this_machine(made.profile):
        return any(one.label == primary.label and one.median_s > most for one in made.delivery.measurements)
    found = made.times.device.of(primary.label)
    return found is not None and found.estimate is not None and found.estimate.s > most


def _wider_demands(made: Built) -> list[str]:
    """Return the least demands that these files meet, where whoever demands could wish for them."""
    worst, primary = _worst(made), primary_of(made.judged, made.delivery)
    options, met = [], 0
    if worst is not None and worst[1] <= MOST_ADVISED_POINTS:
        options.append(f"--max-drop {_rounded_up(worst[1]):g}")
        lost = [lost_points(one, made.judged, made.data) for one in made.judged]
        met += sum(one is not None and one > made.recipe.max_drop_points for one in lost)
    if primary is not None and _too_large(made):
        options.append(f"--max-size {math.ceil(primary.size_bytes / 1000)}KB")
        met += 1
    numerics = made.stages.final.numerics
    promoted = [] if numerics is None else [one for one in numerics.layers.values() if one.why == PROMOTED]
    words = " ".join(options)
    if not options:
        return []
    if met < len(made.reasons):
        return [f"it takes at least {words}"]
    if worst is not None and promoted:
        return [f"{words} would take these files; a build with it keeps fewer layers in float, and may lose more"]
    return [f"{words} would take it"]


def _rounded_up(lost: float) -> float:
    """Return the least number with two digits behind the point that is no less."""
    shown = round(lost, 2)
    return shown if shown >= lost else round(shown + 0.01, 2)


def _on_accuracy(made: Built, parts: Costs | None) -> list[str]:
    """Return what brings back accuracy: of pruning and INT8, what puts the file that loses most beyond the demand."""
    worst = _worst(made)
    if worst is None:
        return []
    file, lost = worst
    pruned, allowed = _pruned(made.stages), made.recipe.max_drop_points
    by_pruning = parts.pruning if parts is not None else lost if pruned else 0.0
    by_int8 = parts.int8 if parts is not None else lost
    found = []
    amount = _amount(made.recipe)
    if pruned and amount is not None and _puts_beyond(by_pruning, by_int8, allowed):
        told = "" if parts is None else f": pruning costs {points(by_pruning, file.score.unit)}"
        found.append(f"keep more than --prune {amount} does{told}")
        trains = any(call.step == "distill" for call in made.recipe.steps)
        found.append("train longer, or on more images: --train-time, --train" if trains else "train: --train-time 2min")
    if file.job.precision == "int8" and _puts_beyond(by_int8, by_pruning, allowed):
        found += _on_quantization(made)
    return found


def _puts_beyond(part: float, other: float, allowed: float) -> bool:
    """Tell whether less of one part of a loss helps: what the other part loses is allowed, or both are too much."""
    return part > 0 and (other <= allowed or part > allowed)


def _amount(recipe: Recipe) -> str | None:
    """Return the share to keep that a recipe names, as --prune takes it; None where the build chooses."""
    named = [(name, call.settings.get(name)) for call in recipe.steps if call.step == "prune" for name in AMOUNTS]
    return next((f"{name.removeprefix('keep_')}={share:g}" for name, share in named if share is not None), None)


def _on_quantization(made: Built) -> list[str]:
    calibrate, select = len(made.data.calibration), len(made.data.selection)
    seeks = all(call.settings.get("promote", True) for call in made.recipe.steps if call.step == "quantize")
    found = []
    if made.delivery.on_cpu:
        found += _keep_float(made)
    if made.delivery.on_cpu and seeks and select < LEAST_IMAGES:
        found.append(
            f"{LEAST_IMAGES} images that select (--selection, or more of --data): the build then keeps the layers in "
            f"float that cost too much, which {select} cannot tell"
        )
    if calibrate < FEW_CALIBRATE:
        found.append(
            f"more images that calibrate (--calibration, or more of --data): {calibrate} do, up to "
            f"{MOST['calibration']} are used"
        )
    return found


def _keep_float(made: Built) -> list[str]:
    """Return how to leave the layer in float that alone brings the most noise in."""
    numerics, errors = made.stages.final.numerics, made.error_by_depth
    alone = {} if errors is None else {one.name: one.layer_db for one in errors.layers if one.layer_db is not None}
    if numerics is None or not alone:
        return []
    name, decibels = min(alone.items(), key=lambda one: one[1])
    module = numerics.layers[name].module
    fits = [layer for layer in numerics.layers.values() if re.search(module, layer.module)]
    pattern = module if len(fits) == 1 else f"^{re.escape(module)}$"
    return [
        f"--keep-float {shlex.quote(pattern)}: as INT8 this layer adds the most noise ({decibels:.1f} dB alone); "
        "`edgeslim sensitivity` says what each costs"
    ]


def _on_budget(made: Built) -> list[str]:
    """Return how pruning makes the file smaller and faster, where it is too large or too slow."""
    if made.data.synthetic or not (_too_large(made) or _too_slow(made)):
        return []
    amount = _amount(made.recipe)
    if amount is not None:
        return [f"keep less than --prune {amount} does"]
    if any(call.step == "prune" for call in made.recipe.steps):
        return ["a larger --max-drop lets pruning take more"]
    if any(call.step == "prune" for call in backend_of(made.profile).default_recipe(made.profile).steps):
        return ["without --no-prune the build seeks a network that is small and fast enough"]
    return []


def _on_strictness(made: Built) -> list[str]:
    if not made.recipe.strict:
        return []
    found = []
    if made.not_judged:
        found.append("more images that judge (--evaluation, or more of --data), or no --strict")
    if any(row.unexplained for one in made.judged for row in one.rows):
        found.append("`edgeslim inspect` shows where the files depart from the plan; without --strict that is no fault")
    return found
