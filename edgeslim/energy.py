"""Energy of an inference: power over time, cut into the run's windows, above what the machine draws at rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeslim.errors import InvalidMeasurement
from edgeslim.measurement import Caution, Energy, Power, bootstrap_interval
from edgeslim.meters import Watts

FEWEST_SAMPLES = 10
COVERAGE = 0.9  # of a window must be measured
FEWEST_CONTROLS = 5
DISTURBED = 1.03

Span = tuple[float, float]  # began and ended, seconds on the device's CLOCK_MONOTONIC


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
    return Power(meter, scope, tuple(_energy(watts, window, _beside(window, idle)) for window in windows))


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


def _energy(watts: Sequence[Watts], window: Window, pauses: Sequence[Span]) -> Energy:
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
    """Return the last pause before a window and the first one after it."""
    before = [span for span in idle if span[1] <= window.began_s]
    after = [span for span in idle if span[0] >= window.ended_s]
    found = [max(before, default=None), min(after, default=None)]
    pauses = [span for span in found if span is not None]
    if not pauses:
        raise InvalidMeasurement("no pause lies beside a timed window, so there is no idle baseline")
    return pauses


def _mean_w(watts: Sequence[Watts], span: Span, what: str) -> tuple[float, int]:
    """Return the mean power over a span and how many samples it comes from; InvalidMeasurement where it has gaps.

    A sample that says what was drawn since the one before counts for that time; one of an instant, for the time until
    the next one.
    """
    began_s, ended_s = span
    inside = [(max(one.from_s, began_s), min(one.to_s, ended_s), one.watts) for one in spread(watts)]
    parts = [(to_s - from_s, power) for from_s, to_s, power in inside if to_s > from_s]
    covered_s = sum(length for length, _ in parts)
    if len(parts) < FEWEST_SAMPLES or covered_s < COVERAGE * (ended_s - began_s):
        share = covered_s / max(ended_s - began_s, 1e-9)
        raise InvalidMeasurement(
            f"the meter gave {len(parts)} samples for {what} of {ended_s - began_s:.1f} s and covers {share:.0%}; "
            f"{FEWEST_SAMPLES} samples and {COVERAGE:.0%} are needed"
        )
    return sum(length * power for length, power in parts) / covered_s, len(parts)


def spread(watts: Sequence[Watts]) -> list[Watts]:
    """Return samples that each cover a time: one of an instant lasts until the next, three usual distances at most."""
    instants = [one for one in watts if one.from_s == one.to_s]
    if not instants:
        return list(watts)
    times = np.array([one.from_s for one in instants])
    steps = np.diff(times)
    longest_s = 3 * float(np.median(steps)) if len(steps) else 0.0
    lengths = [*np.minimum(steps, longest_s), 0.0]
    covering = [
        Watts(one.from_s, one.from_s + float(length), one.watts) for one, length in zip(instants, lengths, strict=True)
    ]
    return [one for one in watts if one.from_s != one.to_s] + covering
