"""What a classifier tells apart, and how many images there are of each: said before a build."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeslim.tasks.images import Data
from edgeslim.tasks.sets import SETS
from edgeslim.tasks.task import ModelFacts

SHOWN = 5


def meaning(facts: ModelFacts, labels: Sequence[str] | None) -> str:
    """Return how many classes there are, and the first of them and the last in the order of the outputs."""
    count = facts.outputs[0].shape[1]
    if not labels:
        return f"{count} classes, which nobody names"
    names = _numbered(labels)
    first = ", ".join(names[:SHOWN])
    more = {0: "", 1: f", {names[-1]}"}.get(max(count - SHOWN, 0), f" … {names[-1]}")
    return f"{count} classes in this order: {first}{more}"


def counts(facts: ModelFacts, data: Data) -> Mapping[str, int]:
    """Return how many of the images that are used show each class, by its number and name; none without labels."""
    by_set = _by_set(facts, data)
    return dict(zip(_names(facts, data), _total(by_set).tolist(), strict=True)) if by_set else {}


def remarks(facts: ModelFacts, data: Data) -> list[str]:
    """Return that all images show one class, or which classes no image shows, none of those that judge at least."""
    by_set, names = _by_set(facts, data), _names(facts, data)
    if not by_set:
        return []
    total = _total(by_set)
    missing, found = np.flatnonzero(total == 0), np.flatnonzero(total)
    if len(found) == 1:
        return [f"all images are of one class, {names[found[0]]}: they say nothing of the others"]
    told = [_of_classes(missing, names, "no image")] if len(missing) else []
    judging = by_set.get("evaluation")
    if judging is not None and (unjudged := np.flatnonzero((judging == 0) & (total > 0))).size:
        told.append(_of_classes(unjudged, names, "no image that judges"))
    return told


def _of_classes(numbers: NDArray[np.int64], names: Sequence[str], which: str) -> str:
    shown = ", ".join(names[number] for number in numbers[:SHOWN])
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"{which} shows {len(numbers)} of the {len(names)} classes: {shown}{more}"


def _by_set(facts: ModelFacts, data: Data) -> dict[str, NDArray[np.int64]]:
    """Return for each set with labels how many of its images show each class."""
    sets = {name: getattr(data, name).targets for name in SETS}
    classes = facts.outputs[0].shape[1]
    return {name: np.bincount(labels, minlength=classes) for name, labels in sets.items() if labels is not None}


def _total(by_set: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.asarray(np.sum(list(by_set.values()), axis=0))


def _names(facts: ModelFacts, data: Data) -> list[str]:
    labels = facts.labels or data.labels
    return _numbered(labels) if labels else [str(number) for number in range(facts.outputs[0].shape[1])]


def _numbered(labels: Sequence[str]) -> list[str]:
    return [f"{number} {label}" for number, label in enumerate(labels)]
