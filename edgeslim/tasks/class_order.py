"""Do the labels mean the model's classes, and in the given order? Asked of the network as it was given.

A wrong order of the classes spoils every figure of a build alike, so that no comparison of files with one another shows
it. Only calibration and selection images are asked; those that judge are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.errors import BadData
from edgeslim.tasks.images import Data
from edgeslim.tasks.task import ModelFacts

BY_CHANCE = 0.05  # answers that guessing gives with a larger probability say nothing of the labels
SHOWN = 5
CURE = (
    "name the classes in the order of the model's outputs (LABELS in its file; class folders are then matched by "
    "name), or label images with the numbers of its outputs (as names of folders too)\n"
    "--trust-labels takes them as they are"
)

SIGNIFICANT = 1e-3  # another order that is better with a smaller probability by chance is another order


@dataclass(frozen=True)
class Order:
    """A better order of the classes: `classes[c]` is the label that the model's class c seems to mean."""

    classes: tuple[int, ...]
    images: int  # on which both orders were tried; the better one was fitted on as many others
    right_as_given: int
    right: int
    p: float  # that it is better by chance alone


def better_order(answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> Order | None:
    """Return an order of the classes that fits answers (N,) to labels (N,) better than the given one, if there is one.

    It is fitted on every other image and must win on those between: of the images that only one of the two gets right,
    more than chance allows (sign test, p below 0.001), and more than by naming the most frequent label alone.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.stats import binom  # half a second to import

    counts = np.zeros((classes, classes))
    np.add.at(counts, (answers[::2], labels[::2]), 1)
    counts[np.diag_indices(classes)] += 0.5  # what no image says stays as it is
    order = linear_sum_assignment(counts, maximize=True)[1]
    as_given, other = answers[1::2] == labels[1::2], order[answers[1::2]] == labels[1::2]
    won, lost = int((other & ~as_given).sum()), int((as_given & ~other).sum())
    p = float(binom.sf(won - 1, won + lost, 0.5))
    most_frequent = float(np.bincount(labels[1::2]).max() / len(labels[1::2]))
    if p >= SIGNIFICANT or binom.sf(int(other.sum()) - 1, len(other), most_frequent) >= SIGNIFICANT:
        return None
    return Order(tuple(int(c) for c in order), len(as_given), int(as_given.sum()), int(other.sum()), p)


def require_fitting(outputs: Sequence[NDArray[Any]], targets: NDArray[np.int64], facts: ModelFacts, data: Data) -> None:
    """Raise BadData where the labels seem to name other classes than the model does, or say nothing of its answers."""
    from scipy.stats import binom

    answers, labels, classes = outputs[0].argmax(1), targets, facts.outputs[0].shape[1]
    names = data.labels or facts.labels or tuple(str(i) for i in range(classes))
    found = better_order(answers, labels, classes)
    if found is not None:
        changed = [
            f"class {number} seems to be `{names[label]}`"
            for number, label in enumerate(found.classes)
            if number != label and number in answers
        ]
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise BadData(
            f"the labels of {data.source} are in another order than the classes of {facts.source}: as they are, "
            f"{found.right_as_given} of {found.images} images are answered right; with classes exchanged, as fitted on "
            f"other images, {found.right} (p = {found.p:.1g}): {', '.join(changed[:SHOWN])}{more}",
            CURE,
        )
    right = int((answers == labels).sum())
    if binom.sf(right - 1, len(labels), 1 / classes) > BY_CHANCE:
        raise BadData(
            f"{facts.source} answers {right} of {len(labels)} images of {data.source} as they are labelled, as it "
            f"might by chance (1 in {classes}), before anything was done to it: its weights are not trained, its "
            f"preprocessing is another, or the labels mean other classes",
            CURE,
        )
