"""Two measurements side by side: what differs beyond noise, and what must not be compared at all."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.measurement import Kind, Measurement, bootstrap_interval

FEWEST_PAIRS = 3
MARGIN = 0.03  # a smaller advantage is no reason to choose
SIGNIFICANCE = 0.05
OTHER_SEED = 20_261
METRICS = ("median", "p90", "p99", "first", "init", "peak_rss", "fps", "energy")
UNBELIEVABLE: tuple[Kind, ...] = ("golden", "fallback", "partial")

_CONDITION = re.compile(rf"({'|'.join(METRICS)})\s*([<>])\s*([+-]\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Verdict:
    """The outcome of `faster`: the faster one's label or None, and a's median over b's with its 95 % interval."""

    faster: str | None
    ratio: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.interval
        outcome = f"{self.faster} is faster" if self.faster else "no difference"
        return f"{outcome} (ratio {self.ratio:.3f}, 95 % interval {low:.3f} to {high:.3f})"


@dataclass(frozen=True)
class Change:
    """One figure of b over that of a: its 95 % interval, the rank test's p, and whether it counts as a difference."""

    a: float
    b: float
    ratio: float
    interval: tuple[float, float]
    p_value: float
    different: bool

    def __str__(self) -> str:
        low, high = self.interval
        counts = "counts" if self.different else "no difference"
        return f"{100 * (self.ratio - 1):+.1f} % ({_percent(low)} to {_percent(high)}), p {self.p_value:.3f}, {counts}"


@dataclass(frozen=True)
class Comparison:
    """Measurement b against a: a change for each figure that both have; `paired` where they ran interleaved."""

    a: str
    b: str
    paired: bool
    changes: Mapping[str, Change]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """What fails a comparison: a figure that changed by more than so many percent, `above` or below."""

    metric: str
    above: bool
    percent: float

    @staticmethod
    def parse(text: str) -> "Condition":
        """Read "p90>+5%" or "fps<-3%"; BadInput for anything else."""
        found = _CONDITION.fullmatch(text.strip())
        if found is None:
            raise BadInput(
                f"--fail-if `{text}`: expected METRIC>+PERCENT% or METRIC<-PERCENT%, METRIC one of "
                f"{', '.join(METRICS)}: p90>+5%"
            )
        return Condition(found[1], found[2] == ">", float(found[3]))


def compare(a: Measurement, b: Measurement, *, paired: bool) -> Comparison:
    """Compare every figure of `b` with that of `a`.

    `paired`: process i of one ran next to process i of the other; pairs are then resampled together, so that what
    slowed both cancels out, and the rank test is Wilcoxon's signed-rank test on the logarithms of the pairs' ratios,
    the paired sibling of the Mann-Whitney U test that is used otherwise. A change counts as a difference when the whole
    95 % interval of the ratio lies beyond `MARGIN` on one side and the test's p is below `SIGNIFICANCE`: the interval
    alone is too narrow with few processes, the test alone calls any tiny difference real. Raises BadInput when the two
    were not taken alike or one must not be believed, InvalidMeasurement with fewer than three processes.
    """
    _require_comparable(a, b, [] if not paired else [_counts(a, b)])
    for one in (a, b):
        for caution in one.failing(UNBELIEVABLE):
            raise BadInput(f"{one.label} must not be compared: {caution.kind}: {caution.text}")
    of_a, of_b = _values(a), _values(b)
    changes = {name: _change(of_a[name], of_b[name], paired=paired) for name in METRICS if {name} <= {*of_a} & {*of_b}}
    notes = [] if paired else ["taken at different times: what the machine did besides may differ"]
    if a.place.boot_id != b.place.boot_id:
        notes.append("the machine was booted between the two")
    return Comparison(a.label, b.label, paired, changes, tuple(notes))


def faster(a: Measurement, b: Measurement, margin: float = MARGIN) -> Verdict:
    """Say which of two interleaved measurements is faster, if either.

    Process i of `a` ran next to process i of `b`, so pairs are resampled together and what slowed both cancels out. One
    is called faster only when the whole 95 % interval of the ratio of medians lies beyond `margin` on its side.
    Raises InvalidMeasurement with fewer than three pairs and BadInput when the two were not taken alike.
    """
    _require_comparable(a, b, [_counts(a, b)])
    low, high = _interval(_values(b)["median"], _values(a)["median"], paired=True)
    winner = None
    if high < 1 / (1 + margin):
        winner = a.label
    elif low > 1 + margin:
        winner = b.label
    return Verdict(winner, a.median_s / b.median_s, (low, high))


def violated(conditions: Sequence[Condition], found: Comparison) -> list[str]:
    """Return a sentence for each condition that a comparison breaks, which only a change that counts can.

    BadInput for a figure that one of the two does not have.
    """
    sentences = []
    for one in conditions:
        change = found.changes.get(one.metric)
        if change is None:
            raise BadInput(f"--fail-if: {one.metric} was not measured in both; there are {', '.join(found.changes)}")
        percent = 100 * (change.ratio - 1)
        if change.different and (percent > one.percent if one.above else percent < one.percent):
            sentences.append(f"{one.metric}: {change}; allowed is {one.percent:+g} %")
    return sentences


def _values(one: Measurement) -> dict[str, np.ndarray]:
    """Return each figure once for each process (energy: for each window), without those that were not measured."""
    rows = one.processes
    single = one.streams == 1
    columns: dict[str, list[float]] = {
        "median": [run.median_s for run in rows],
        "p90": [run.p90_s for run in rows],
        "p99": [run.p99_s for run in rows if run.p99_s is not None],
        "first": [run.first_s for run in rows],
        "init": [run.init_s for run in rows],
        "peak_rss": [float(run.peak_rss_bytes) for run in rows],
        "fps": [1 / run.median_s if single else len(run.samples_s) / run.window_s for run in rows],
        "energy": [] if one.power is None else [window.net_mj for window in one.power.windows],
    }
    whole = {name: np.array(column) for name, column in columns.items() if len(column) == len(rows)}
    return {name: column for name, column in whole.items() if (column > 0).all()}


def _change(a: np.ndarray, b: np.ndarray, *, paired: bool) -> Change:
    low, high = _interval(a, b, paired=paired)
    p_value = _p_value(a, b, paired=paired)
    beyond = low > 1 + MARGIN or high < 1 / (1 + MARGIN)
    first, second = float(np.median(a)), float(np.median(b))
    return Change(first, second, second / first, (low, high), p_value, beyond and p_value < SIGNIFICANCE)


def _interval(a: np.ndarray, b: np.ndarray, *, paired: bool) -> tuple[float, float]:
    """Return the interval of the ratio of b's median over a's, processes resampled in pairs or each on its own."""

    def ratios(rows: np.ndarray) -> np.ndarray:
        # Each on its own: the rows of b are drawn again, by a generator of their own.
        others = rows if paired else np.random.default_rng(OTHER_SEED).integers(len(b), size=(len(rows), len(b)))
        return np.asarray(np.log(np.median(b[others], axis=1) / np.median(a[rows], axis=1)))

    low, high = bootstrap_interval(len(a), ratios)
    return math.exp(low), math.exp(high)


def _p_value(a: np.ndarray, b: np.ndarray, *, paired: bool) -> float:
    from scipy.stats import mannwhitneyu, wilcoxon

    if not paired:
        return float(mannwhitneyu(a, b).pvalue)
    logs = np.log(b / a)
    return float(wilcoxon(logs).pvalue) if logs.any() else 1.0


def _counts(a: Measurement, b: Measurement) -> tuple[str, object, object]:
    return "number of processes", len(a.processes), len(b.processes)


def _require_comparable(a: Measurement, b: Measurement, more: Sequence[tuple[str, object, object]]) -> None:
    conditions: list[tuple[str, object, object]] = [
        ("machine", a.place.name, b.place.name),
        ("architecture", a.place.architecture, b.place.architecture),
        ("processor", a.place.cpu_model, b.place.cpu_model),
        ("kernel", a.place.kernel, b.place.kernel),
        ("governor", a.place.governor, b.place.governor),
        ("scenario", a.scenario, b.scenario),
        ("threads", a.threads, b.threads),
        ("streams", a.streams, b.streams),
        ("kind of figure", a.kind, b.kind),
        ("agent", a.agent, b.agent),
        *more,
    ]
    if a.runtime == b.runtime:
        conditions.append((f"version of {a.runtime}", a.runtime_version, b.runtime_version))
    differing = [f"{name} ({of_a} and {of_b})" for name, of_a, of_b in conditions if of_a != of_b]
    if differing:
        raise BadInput(f"{a.label} and {b.label} are not comparable: they differ in {', '.join(differing)}")
    fewest = min(len(a.processes), len(b.processes))
    if fewest < FEWEST_PAIRS:
        raise InvalidMeasurement(f"{fewest} processes cannot tell which is faster; measure {FEWEST_PAIRS} or more")


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
