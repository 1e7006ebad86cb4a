"""From the values that calibration saw to ranges and grids."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeslim.errors import BadModel
from edgeslim.model.numerics import LEVELS, MIDDLE, WEIGHT_LIMIT

BINS = 2048
CLIPS = np.linspace(0.2, 1.0, 81)


def affine(low: float, high: float) -> tuple[float, int]:
    """Return (scale, zero point) of the uint8 grid over [low, high], which holds 0 exactly; scale is a float32."""
    scale = float(np.float32((high - low) / LEVELS))
    if scale < np.finfo(np.float32).tiny:
        return 1.0, 0  # an activation that is always zero, or nearly so
    return scale, int(np.clip(round(-low / scale), 0, LEVELS))


def centred(peak: float) -> tuple[float, int]:
    """Return (scale, zero point) of the grid over [-peak, peak]; its codes less 128 are int8 with the zero point 0."""
    scale = float(np.float32(peak / WEIGHT_LIMIT))
    return (1.0 if scale < np.finfo(np.float32).tiny else scale), MIDDLE


def mse_range(counts: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """Return the clip (low, high) of least squared error for a histogram over [low, high].

    Inside the clip a value is off by scale² / 12 on average, outside by its distance to the limit.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 0:
        return low, high
    edges = np.linspace(low, high, len(counts) + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    best, chosen = np.inf, (low, high)
    for clip in CLIPS:
        a, b = low * clip, high * clip
        outside = np.where(centers < a, a - centers, np.where(centers > b, centers - b, 0.0))
        noise = ((b - a) / LEVELS) ** 2 / 12
        error = float((counts * np.where(outside > 0, outside**2, noise)).sum())
        if error < best:
            best, chosen = error, (a, b)
    return chosen


class Extremes:
    """First look at the calibration images: the range of every edge, the mean image before every layer."""

    def __init__(self, ranged: set[str], averaged: set[str]) -> None:
        self.low: dict[str, float] = dict.fromkeys(ranged, 0.0)
        self.high: dict[str, float] = dict.fromkeys(ranged, 0.0)
        self._sums: dict[str, Tensor] = {}
        self._averaged = averaged
        self._images: dict[str, int] = {}

    def see(self, name: str, value: Tensor) -> None:
        """Take in one activation of one batch; BadModel where it is not finite."""
        if name in self.low:
            low, high = (float(v) for v in torch.aminmax(value))
            if not np.isfinite(low + high):
                raise BadModel(f"`{name}` became NaN or infinite on a calibration image; nothing can be quantized")
            self.low[name], self.high[name] = min(self.low[name], low), max(self.high[name], high)
        if name in self._averaged:
            self._sums[name] = value.double() + self._sums.get(name, 0.0)
            self._images[name] = self._images.get(name, 0) + 1

    def mean(self, name: str) -> Tensor:
        """Return the mean over the images of one activation, (1, C, H, W) or (1, features)."""
        return self._sums[name] / self._images[name]


class Histograms:
    """Second look: how the values of every edge lie between its extremes (zero included)."""

    def __init__(self, low: dict[str, float], high: dict[str, float]) -> None:
        self._ranges = {name: (min(low[name], 0.0), max(high[name], 0.0)) for name in low}
        self.counts: dict[str, NDArray[np.float64]] = {name: np.zeros(BINS) for name in low}

    def see(self, name: str, value: Tensor) -> None:
        """Count one activation of one batch."""
        if name in self.counts:
            low, high = self._ranges[name]
            if high > low:
                self.counts[name] += torch.histc(value, BINS, low, high).double().numpy()
