"""Do the labels mean the model's classes? Asked of the network as it was given, before any work.

A wrong order of the classes spoils every figure of a build alike, so that no comparison of files with one another shows
it. Only calibration and selection images are asked; those that judge are left alone.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from edgeslim.errors import BadData
from edgeslim.model.equivalence import outputs_of
from edgeslim.model.model import Model
from edgeslim.tasks.class_order import better_order
from edgeslim.tasks.images import Data, ImageSet

CHECKED_IMAGES = 128  # of the calibration images, and as many of the selection images
BY_CHANCE = 0.05  # answers that guessing gives with a larger probability say nothing of the labels
SHOWN = 5
CURE = (
    "Name the classes in the order of the model's outputs (LABELS in its file; class folders are then matched by "
    "name), or label images with the numbers of its outputs (as names of folders too). With --trust-labels they are "
    "taken as they are"
)


def require_fitting_labels(model: Model, data: Data) -> None:
    """Raise BadData where the labels seem to name other classes than the model does, or say nothing of its answers.

    Random weights, synthetic images and unlabelled ones have nothing to be asked.
    """
    if not data.labelled or data.synthetic or model.weights_source == "random":
        return
    asked = [_answers(model, images) for images in (data.calibration, data.selection)]
    answers, labels = (np.concatenate(parts) for parts in zip(*asked, strict=True))
    names = data.class_names or model.labels or tuple(str(i) for i in range(model.classes))
    found = better_order(answers, labels, model.classes)
    if found is not None:
        changed = [
            f"class {number} seems to be `{names[label]}`"
            for number, label in enumerate(found.classes)
            if number != label and number in answers
        ]
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise BadData(
            f"the labels of {data.source} are in another order than the classes of {model.source}: as they are, "
            f"{found.right_as_given} of {found.images} images are answered right; with classes exchanged, as fitted on "
            f"other images, {found.right} (p = {found.p:.1g}): {', '.join(changed[:SHOWN])}{more}. {CURE}"
        )
    right = int((answers == labels).sum())
    if binom.sf(right - 1, len(labels), 1 / model.classes) > BY_CHANCE:
        raise BadData(
            f"{model.source} answers {right} of {len(labels)} images of {data.source} as they are labelled, as it "
            f"might by chance (1 in {model.classes}), before anything was done to it: its weights are not trained, its "
            f"preprocessing is another, or the labels mean other classes. {CURE}"
        )


def _answers(model: Model, images: ImageSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what the network as it was given answers for images spread over a set, and their labels."""
    if images.labels is None:
        raise TypeError("labelled data has labels")
    chosen = np.linspace(0, len(images) - 1, min(CHECKED_IMAGES, len(images))).round().astype(np.int64)
    some = images.at(chosen)
    logits = np.concatenate([outputs_of(model.network, batch) for batch in some.tensors()])
    return logits.argmax(1), images.labels[chosen]
