"""Affine grids of integer codes, and how far values on them are from the real ones."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SQNR_MOST_DB = 200.0


def sqnr_db(reference: NDArray[np.floating[Any]], values: NDArray[np.floating[Any]]) -> float:
    """Return 10 log10 of the reference's power over the error's, in dB, within -200 and 200.

    Equal arrays give 200; NaN, infinity or a reference of zeros gives -200.
    """
    if not (np.isfinite(reference).all() and np.isfinite(values).all()):
        return -SQNR_MOST_DB
    signal = float((reference.astype(np.float64) ** 2).sum())
    noise = float(((values.astype(np.float64) - reference) ** 2).sum())
    if noise == 0.0:
        return SQNR_MOST_DB
    if signal == 0.0:
        return -SQNR_MOST_DB
    decibels = 10 * (math.log10(signal) - math.log10(noise))
    return round(max(-SQNR_MOST_DB, min(decibels, SQNR_MOST_DB)), 1)


@dataclass(frozen=True)
class Grid:
    """The int8 codes of one tensor as a file stores them: real = scale * (code - zero_point), code in -128..127."""

    scale: float
    zero_point: int

    @property
    def ends(self) -> tuple[float, float]:
        """The real values of the codes -128 and 127."""
        return (-128 - self.zero_point) * self.scale, (127 - self.zero_point) * self.scale

    def codes(self, values: NDArray[np.float32]) -> NDArray[np.int8]:
        """Return the nearest code of each value; what lies outside of the grid gets its end."""
        steps = np.round(values / np.float32(self.scale)) + self.zero_point
        clipped: NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
        return clipped

    def real(self, codes: NDArray[np.int8]) -> NDArray[np.float32]:
        """Return the real values of codes."""
        return (codes.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale)
