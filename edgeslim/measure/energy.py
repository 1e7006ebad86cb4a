"""Energy of an inference: measured, power over time in the run's windows, or estimated, from the profile's powers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeslim.errors import InvalidMeasurement
from edgeslim.measure.measurement import Caution, Energy, Power, bootstrap_interval
from edgeslim.measure.meters import Span, Watts

FEWEST_SAMPLES = 10
COVERAGE = 0.9  # of a window must be measured
FEWEST_CONTROLS = 5
LONGEST = 3  # usual distances: what a sample of an instant may stand for, and a longer one that an edge cuts
DISTURBED = 1.03


@dataclass(frozen=True)
class Window:
    """One timed loop: its ends on the device's CLOCK_MONOTONIC, and how many inferences it held."""

    began_s: float
    ended_s: float
    inferences: int


def energy(watts: Sequence[Watts], windows: Sequence[Window], idle: Sequence[Span], meter: str, scope: str) -> Power:
    """Return what each window drew for an inference, in all (gross) and above the pauses next to it (net).

    Power is averaged over time within a window; the idle baseline of a window is the mean over the pause before and the
    one after it. Raises InvalidMeasurement where a window or its pauses hold too few samples, or gaps: a figure from
    half a window would be a guess.
    """
    covering = np.array([(one.from_s, one.to_s, one.watts) for one in spread(watts)]).reshape(-1, 3)
    return Power(meter, scope, tuple(_energy(covering, window, _beside(window, idle)) for window in windows))


def disturbed(sampled_s: Sequence[float], control_s: Sequence[float]) -> Caution | None:
    """Say if processes beside the sampling ran slower than those without it, in the same order, by more than 3 %.

    Raises InvalidMeasurement with fewer than five of each: the sampling could then be neither blamed nor cleared.
    """
    count = min(len(sampled_s), len(control_s))
    if count < FEWEST_CONTROLS:
        raise InvalidMeasurement(
            f"{count} processes with and without sampling cannot show whether the meter disturbs the run; "
            f"measure {FEWEST_CONTROLS} or more"
        )
    ratios = np.array(sampled_s[:count]) / np.array(control_s[:count])
    low, _ = bootstrap_interval(count, lambda rows: np.median(ratios[rows], axis=1))
    if low <= DISTURBED:
        return None
    text = f"with the meter sampling an inference takes {np.median(ratios):.2f} times as long"
    return Caution("disturbed", text, "sample less often, or use an external meter")


def _energy(watts: np.ndarray, window: Window, pauses: Sequence[Span]) -> Energy:
    active_w, samples = _mean_w(watts, (window.began_s, window.ended_s), "a timed window")
    idle_w = float(np.mean([_mean_w(watts, pause, "a pause")[0] for pause in pauses]))
    per_inference_s = (window.ended_s - window.began_s) / window.inferences
    return Energy(
        active_w=active_w,
        idle_w=idle_w,
        gross_mj=1e3 * active_w * per_inference_s,
        net_mj=1e3 * (active_w - idle_w) * per_inference_s,
        samples=samples,
    )


def _beside(window: Window, idle: Sequence[Span]) -> list[Span]:
    """Return the last pause before a window and the first one after it; InvalidMeasurement where one is missing."""
    before = max((span for span in idle if span[1] <= window.began_s), default=None)
    after = min((span for span in idle if span[0] >= window.ended_s), default=None)
    if before is None or after is None:
        where = "before" if before is None else "after"
        raise InvalidMeasurement(f"no pause lies {where} a timed window, so its idle baseline is not known")
    return [before, after]


def _mean_w(watts: np.ndarray, span: Span, what: str) -> tuple[float, int]:
    """Return the mean power over a span and how many samples it comes from; InvalidMeasurement where it has gaps.

    A row of `watts` says from when to when how much was drawn. A long one that the span's edge cuts is a gap: how much
    of its mean belongs to the span is not known.
    """
    began_s, ended_s = span
    from_s, to_s, power = watts.T
    parts_s = np.minimum(to_s, ended_s) - np.maximum(from_s, began_s)
    inside = parts_s > 0
    if inside.any():
        cut = (from_s < began_s) | (to_s > ended_s)
        inside &= ~(cut & (to_s - from_s > LONGEST * np.median(to_s - from_s)))
    samples, covered_s = int(inside.sum()), float(parts_s[inside].sum())
    if samples < FEWEST_SAMPLES or covered_s < COVERAGE * (ended_s - began_s):
        share = covered_s / max(ended_s - began_s, 1e-9)
        raise InvalidMeasurement(
            f"the meter gave {samples} samples for {what} of {ended_s - began_s:.1f} s and covers {share:.0%}; "
            f"{FEWEST_SAMPLES} samples and {COVERAGE:.0%} are needed: sample faster, or ask for longer windows and "
            "pauses (--min-duration, --cool-down)"
        )
    return float(parts_s[inside] @ power[inside]) / covered_s, samples


def spread(watts: Sequence[Watts]) -> list[Watts]:
    """Return samples that each cover a time: one of an instant lasts until the next, LONGEST usual distances at most.

    One that says what was drawn on average since the one before covers that time already.
    """
    instants = [one for one in watts if one.from_s == one.to_s]
    if not instants:
        return list(watts)
    times = np.array([one.from_s for one in instants])
    steps = np.diff(times)
    longest_s = LONGEST * float(np.median(steps)) if len(steps) else 0.0
    lengths = [*np.minimum(steps, longest_s), 0.0]
    covering = [
        Watts(one.from_s, one.from_s + float(length), one.watts) for one, length in zip(instants, lengths, strict=True)
    ]
    return [one for one in watts if one.from_s != one.to_s] + covering
