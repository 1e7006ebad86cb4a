"""What images show of a model before it is built: how good it is, what is odd about them, what a build would take."""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.compress import resolve_all
from edgeslim.compress.prune import step as prune
from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.promote import LEAST_IMAGES
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import Refused
from edgeslim.model.context import Demand
from edgeslim.model.equivalence import outputs_of
from edgeslim.model.model import Model
from edgeslim.pipeline.gates import not_judged
from edgeslim.pipeline.preflight.expectation import Expected, expected, timed_inference
from edgeslim.pipeline.preflight.past_builds import work_of
from edgeslim.pipeline.targets import CHECKED_IMAGES, require_fitting_targets
from edgeslim.recipe import Recipe
from edgeslim.resources import default_store
from edgeslim.tasks.image_remarks import image_remarks
from edgeslim.tasks.images import Data, ImageSet, evenly
from edgeslim.tasks.task import Score

JUDGED_S = 4.0  # that judging the float model may take, and holding the targets against its answers as much again
LEAST_JUDGED, MOST_JUDGED = 32, 2048  # images


@dataclass(frozen=True)
class OnImages:
    """What was found: `score` of the float model, or why there is none; what is to be said; what a build would take."""

    score: Score | None = None
    not_scored: str | None = None
    remarks: tuple[str, ...] = ()
    expected: Expected | None = None


NOTHING = OnImages()


def on_images(model: Model, profile: DeviceProfile, recipe: Recipe, data: Data, *, trust_labels: bool) -> OnImages:
    """Return what the images show of a model; BadData where the targets seem to mean something else than it answers."""
    task, first = model.task, next(data.calibration.at(evenly(1, 1)).tensors())
    inference = timed_inference(model.network, first)
    count = judged_images(inference.s)
    if not trust_labels:
        require_fitting_targets(model, data, min(CHECKED_IMAGES, count // 2))
    remarks = [*image_remarks(data), *task.remarks(model.facts, data)]
    unjudged = not_judged(recipe, data, task)
    remarks += [] if unjudged is None else [unjudged]
    score, why_not = None, _why_not_scored(model, data)
    if why_not is None:
        some = data.evaluation.at(evenly(len(data.evaluation), count))
        outputs = _outputs(model, some)
        score = task.score(outputs, some.targets, outputs)
        marks = task.marks(outputs, some.targets, outputs)
        remarks += _too_few_to_select(recipe, data, task, marks)
    work = work_of(model, profile, recipe, data)
    return OnImages(score, why_not, tuple(remarks), expected(model, recipe, data, work, inference, default_store()))


def judged_images(inference_s: float) -> int:
    """Return on how many images a model is judged in JUDGED_S seconds: a power of two, so that it rarely changes."""
    fitting = 1 << math.floor(math.log2(max(JUDGED_S / inference_s, 1.0)))
    return min(max(fitting, LEAST_JUDGED), MOST_JUDGED)


def _why_not_scored(model: Model, data: Data) -> str | None:
    """Return why the float model's score is not known before a build, None where it can be taken."""
    if model.weights_source == "random":
        return "its weights are random"
    if data.synthetic:
        return "synthetic images say nothing of it"
    return (
        None if data.labelled else "the images that judge have no labels; a build counts how often files agree with it"
    )


def _outputs(model: Model, images: ImageSet) -> tuple[NDArray[Any], ...]:
    parts = [outputs_of(model.network, batch) for batch in images.tensors()]
    return tuple(np.concatenate(one) for one in zip(*parts, strict=True))


def _too_few_to_select(recipe: Recipe, data: Data, task: ModuleType, marks: NDArray[np.float64]) -> list[str]:
    """Return what a build would leave undone for want of selection images; `marks`: of some that judge."""
    told, count = [], len(data.selection)
    for module, settings in resolve_all(recipe.steps):
        if module is prune and settings.amount is None:
            try:
                prune.require_enough_images(np.resize(marks, count), task, Demand(recipe.max_drop_points))
            except Refused as refusal:
                told.append(f"nothing would be pruned: {refusal}")
        if module is quantize and settings.promote and count < LEAST_IMAGES:
            told.append(f"no layer would stay float: {count} selection images cannot say whether one must")
    return told
