"""The smallest task that is no classification: two numbers an image, judged by their mean error in grey levels."""

import math
from pathlib import Path

import numpy as np

from edgeslim.errors import BadData
from edgeslim.tasks.images import synthetic_data
from edgeslim.tasks.sets import Found, in_sets
from edgeslim.tasks.task import Drop, Score

METRIC, UNIT, OUTPUT = "mean error", "grey levels", "numbers"


def model_faults(facts):
    shape = facts.outputs[0].shape
    return [] if shape == (1, 2) else [f"{facts.source} returns {shape}; two numbers are (N, 2)"]


def meaning(facts, labels):
    return "how bright the left and the right half are"


def read(source, facts, *, own=None, skip_bad=False, seed=0, opened=None):
    if source == "synthetic":
        return synthetic_data(facts.preprocessing, seed)
    with np.load(source) as file:
        found = Found(Path(source).name, file["images"], file["numbers"])
    return in_sets({}, found, facts.preprocessing, seed)


def counts(facts, data):
    return {}


def remarks(facts, data):
    return []


def require_fitting(outputs, targets, facts, data):
    if _errors(outputs[0], targets).mean() > targets.std():
        raise BadData(f"{facts.source} answers {data.source} no better than its mean does")


def _errors(found, wanted):
    return np.abs(found - wanted).mean(1)


def marks(outputs, targets, reference):
    return -_errors(outputs[0], reference[0] if targets is None else targets).astype(np.float64)


def score(outputs, targets, reference):
    errors = -marks(outputs, targets, reference)
    spread = 1.96 * errors.std() / math.sqrt(len(errors))
    interval = (max(errors.mean() - spread, 0.0), errors.mean() + spread)
    kind = "agreement" if targets is None else "accuracy"
    return Score(kind, METRIC, float(errors.mean()), UNIT, interval, len(errors), lower_is_better=True)


def drop(before, after):
    lost = before - after
    return Drop(float(lost.mean()), float(lost.mean() + 1.64 * lost.std() / math.sqrt(len(lost))))


def images_to_tell(points):
    return 1


def agreement_pct(outputs, reference):
    return 100.0 * float((_errors(outputs[0], reference[0]) < 1.0).mean())


def divergence(outputs, reference, temperature=1.0):
    return ((outputs[0] - reference[0]) ** 2).sum()


def loss(outputs, targets):
    return (outputs[0] ** 2).mean() if targets is None else ((outputs[0] - targets) ** 2).mean()
