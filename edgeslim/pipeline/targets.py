"""Do the targets of the data mean what the network answers? Asked of the network as it was given, before any work."""

import numpy as np

from edgeslim.model.equivalence import outputs_of
from edgeslim.model.model import Model
from edgeslim.tasks.images import Data

CHECKED_IMAGES = 128  # of the calibration images, and as many of the selection images


def require_fitting_targets(model: Model, data: Data) -> None:
    """Raise BadData where a model's task finds that the targets seem to mean something else than the answers.

    Those that judge are left alone, unless they alone have targets: nothing is chosen by the answer. Random weights,
    synthetic images and those without targets have nothing to be asked.
    """
    labelled = [one for one in (data.calibration, data.selection) if one.targets is not None]
    labelled = labelled or [one for one in (data.evaluation,) if one.targets is not None]
    if not labelled or data.synthetic or model.weights_source == "random":
        return
    outputs, targets = [], []
    for images in labelled:
        chosen = np.linspace(0, len(images) - 1, min(CHECKED_IMAGES, len(images))).round().astype(np.int64)
        some = images.at(chosen)
        outputs += [outputs_of(model.network, batch) for batch in some.tensors()]
        targets.append(np.asarray(some.targets))
    found = tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))
    model.task.require_fitting(found, np.concatenate(targets), model.facts, data)
