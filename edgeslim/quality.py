"""How good logits are: accuracy with its interval, agreement, and the signal-to-quantization-noise ratio."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964  # the normal quantile of a two-sided 95 % interval
Z95_ONE_SIDED = 1.644854


@dataclass(frozen=True)
class Score:
    """Top-1 (and top-5) of one file's logits: against labels, or against the float model's answers."""

    kind: str  # "accuracy" or "agreement"
    top1_pct: float
    top5_pct: float | None
    ci95_pct: tuple[float, float]
    images: int


def score(logits: NDArray[np.float32], labels: NDArray[np.int64] | None, float_logits: NDArray[np.float32]) -> Score:
    """Return the score of logits (N, classes) against labels (N,), or where there are none against `float_logits`.

    An image whose logits hold NaN is a miss.
    """
    wanted = float_logits.argmax(1) if labels is None else labels
    compared = _is_answer(logits) & (_is_answer(float_logits) | (labels is not None))
    images, classes = logits.shape
    hits = int(((logits.argmax(1) == wanted) & compared).sum())
    top5 = None
    if classes > 5:
        best = np.argpartition(-logits, 5, axis=1)[:, :5]
        top5 = _pct(int(((best == wanted[:, None]).any(1) & compared).sum()), images)
    return Score(
        "agreement" if labels is None else "accuracy", _pct(hits, images), top5, wilson_pct(hits, images), images
    )


def agreement_pct(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the share of images on which two logits (N, classes) name the same class, in percent."""
    return _pct(int(((a.argmax(1) == b.argmax(1)) & _is_answer(a) & _is_answer(b)).sum()), len(a))


def _is_answer(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell for each image whether its logits name a class: argmax over NaN would say the first."""
    return np.asarray(~np.isnan(logits).any(1))


def wilson_pct(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, in percent (Wilson 1927; holds near 0 and 1 too)."""
    share, z2 = hits / count, Z95**2
    center = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return round(100 * max(center - half, 0.0), 2), round(100 * min(center + half, 1.0), 2)


@dataclass(frozen=True)
class Drop:
    """Points of top-1 that one network loses against another on the same images, and what it loses at most."""

    points: float
    at_most: float  # upper end of the one-sided 95 % interval


def drop_points(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Drop:
    """Return how many points were lost from `before` to `after` (N,), which say of each image whether it was right.

    The images are the same, so only those that changed count. The interval is Bonett & Price's for paired shares (2012,
    Adjusted Wald Confidence Interval): one image more lost and one more gained of two more, so that few images, or
    none that changed, do not pass for certainty.
    """
    lost, gained, images = int((before & ~after).sum()), int((after & ~before).sum()), len(before)
    p, q, n = (lost + 1) / (images + 2), (gained + 1) / (images + 2), images + 2
    at_most = p - q + Z95_ONE_SIDED * math.sqrt((p + q - (p - q) ** 2) / n)
    return Drop(100.0 * (lost - gained) / images, 100.0 * at_most)


def _pct(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 2)
