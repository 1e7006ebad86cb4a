"""Do the targets of the data mean what the network answers? Asked of the network as it was given, before any work."""

import numpy as np

from edgeslim.model.equivalence import outputs_of
from edgeslim.model.model import Model
from edgeslim.tasks.images import Data, evenly

CHECKED_IMAGES = 128  # of the calibration images, and as many of the selection images


def require_fitting_targets(model: Model, data: Data, most: int = CHECKED_IMAGES) -> None:
    """Raise BadData where a model's task finds that the targets seem to mean something else than the answers.

    It is asked on at most so many images of each set.

    Those that judge are left alone, unless they alone have targets: nothing is chosen by the answer. Random weights,
    synthetic images and those without targets have nothing to be asked.
    """
    labelled = [one for one in (data.calibration, data.selection) if one.targets is not None]
    labelled = labelled or [one for one in (data.evaluation,) if one.targets is not None]
    if not labelled or data.synthetic or model.weights_source == "random":
        return
    outputs, targets = [], []
    for images in labelled:
        some = images.at(evenly(len(images), most))
        outputs += [outputs_of(model.network, batch) for batch in some.tensors()]
        targets.append(np.asarray(some.targets))
    found = tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))
    model.task.require_fitting(found, np.concatenate(targets), model.facts, data)
