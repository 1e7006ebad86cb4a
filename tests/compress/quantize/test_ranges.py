"""Ranges and grids, each held against arithmetic."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeslim.compress.quantize.ranges import affine, mse_range
from edgeslim.model.numerics import LEVELS

HISTOGRAMS = st.lists(st.floats(0, 1e6), min_size=8, max_size=64).filter(any)
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=100, deadline=None)
@given(counts=HISTOGRAMS, a=FLOATS, b=FLOATS)
def test_a_clip_lies_within_the_extremes_and_holds_zero_and_is_no_worse_than_they_are(counts, a, b):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    clipped = mse_range(np.array(counts), min(a, b), max(a, b))
    assert low <= clipped[0] <= 0.0 <= clipped[1] <= high, f"{clipped} leaves [{low}, {high}] or zero"
    assert squared_error(counts, low, high, clipped) <= squared_error(counts, low, high, (low, high)) * (1 + 1e-9)


def squared_error(counts: list[float], low: float, high: float, clip: tuple[float, float]) -> float:
    """Return the error of a histogram's bin centres: their distance to the clip, or the variance of a rounding."""
    width = (high - low) / len(counts)
    error = 0.0
    for position, count in enumerate(counts):
        center = low + (position + 0.5) * width
        outside = max(clip[0] - center, center - clip[1], 0.0)
        error += count * (outside**2 if outside else ((clip[1] - clip[0]) / LEVELS) ** 2 / 12)
    return error


def test_a_rare_outlier_is_clipped_and_a_flat_histogram_is_not():
    outlier = np.zeros(1000)
    outlier[:300], outlier[-1] = 10_000.0, 1.0
    assert 0.3 <= mse_range(outlier, 0.0, 1.0)[1] < 0.4, "the one outlier costs all others their resolution"
    assert mse_range(np.ones(1000), 0.0, 1.0)[1] > 0.95, "a flat histogram lost its end"


@settings(max_examples=200, deadline=None)
@given(a=st.floats(max_value=0, width=32, allow_nan=False, allow_infinity=False), b=st.floats(0, 2.0**127, width=32))
def test_a_grid_holds_zero_exactly_and_its_range_to_half_a_step(a, b):
    scale, zero_point = affine(a, b)
    assert scale > 0, "no scale"
    assert np.isfinite(scale), "an infinite scale"
    assert scale == float(np.float32(scale)), "runtimes hold scales as float32"
    assert zero_point in range(LEVELS + 1), "zero has no code"
    assume(b - a > 1e-30)
    step = scale * 0.5001
    assert -zero_point * scale <= a + step, "the low end is cut off"
    assert (LEVELS - zero_point) * scale >= b - step, "the high end is cut off"
