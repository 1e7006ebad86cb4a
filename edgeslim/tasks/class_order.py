"""Whether the labels mean the classes that a network answers with, in another order than the given one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

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
