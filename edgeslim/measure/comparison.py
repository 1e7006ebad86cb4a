"""Two measurements side by side: what differs beyond noise, and what must not be compared at all."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.measure.artifact_changes import ArtifactChanges, ScoreChange, SizeChange, beyond
from edgeslim.measure.cautions import told_once
from edgeslim.measure.measurement import FEWEST_FOR_P99, FEWEST_PROCESSES, Kind, Measurement, bootstrap_interval
from edgeslim.readable import Readable

FEWEST_TO_CHOOSE = 3
FEWEST_PAIRS = 6  # even if all of five pairs agree, the sign test's p is above 5 %
MARGIN = 0.03  # a smaller advantage is no reason to choose
SIGNIFICANCE = 0.05
OTHER_SEED = 20_261
EXACT_UP_TO = 100  # processes in all; beyond it the exact test takes long and the normal one is as good
METRICS = ("median", "p90", "p99", "first", "init", "peak_rss", "fps", "energy")
SIZE, SCORE = "size", "score"  # of two artifacts
UNBELIEVABLE: tuple[Kind, ...] = ("golden", "fallback", "partial")

_AMOUNT = r"\s*(>\s*\+|<\s*-)\s*(\d+(?:\.\d+)?)"
_PERCENT = re.compile(rf"({'|'.join([*METRICS, SIZE])}){_AMOUNT}\s*%")
_POINTS = re.compile(rf"({SCORE}){_AMOUNT}")


@dataclass(frozen=True)
class Verdict:
    """The outcome of `faster`: the faster one's label or None, and a's time over b's with its 95 % interval."""

    faster: str | None
    ratio: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.interval
        outcome = f"{self.faster} is faster" if self.faster else "no difference"
        return f"{outcome} (ratio {self.ratio:.3f}, 95 % interval {low:.3f} to {high:.3f})"


@dataclass(frozen=True)
class Change:
    """One figure of b over that of a: its 95 % interval, the test's p, and whether it counts as a difference.

    `a` and `b` are medians over processes; seconds, bytes, frames a second or millijoules an inference. The ratio of
    interleaved ones is the median of the pairs' ratios, which need not be b / a.
    """

    a: float
    b: float
    ratio: float
    interval: tuple[float, float]
    p_value: float
    different: bool

    def __str__(self) -> str:
        low, high = (_percent(bound) for bound in self.interval)
        end = "" if self.different else ", no difference"
        return f"{_percent(self.ratio)} (95 % interval {low} to {high}; p {self.p_value:.3f}){end}"

    def beyond(self, percent: float, *, above: bool) -> bool:
        """Tell whether it grew by more than so many percent, or fell by more."""
        return beyond(self.ratio, percent, above=above)

    def limit(self, percent: float) -> str:
        """Return a limit of it in words."""
        return f"{percent:+g} %"


@dataclass(frozen=True)
class Comparison(Readable, view="measurements:comparison_table"):
    """Measurement b against a: a change for each figure that both have, `paired` where they ran interleaved.

    `missing` says for each other figure why there is none; `notes` what else a reader must know. `artifacts`: what
    their manifests say, where two artifacts are compared.
    """

    a: str
    b: str
    paired: bool
    changes: Mapping[str, Change]
    missing: Mapping[str, str]
    notes: tuple[str, ...]
    artifacts: ArtifactChanges | None = None

    def change(self, metric: str) -> Change | SizeChange | ScoreChange | str:
        """Return the change of a figure, or why there is none."""
        if metric in self.changes:
            return self.changes[metric]
        if metric in self.missing:
            return self.missing[metric]
        if self.artifacts is None:
            return "saved measurements hold none, artifacts do"
        return self.artifacts.size if metric == SIZE else self.artifacts.score or str(self.artifacts.no_score)


@dataclass(frozen=True)
class Condition:
    """What fails a comparison: a figure that changed by more than an amount, `above` or below.

    The amount is in percent; that of a score is in its own unit, points of a share.
    """

    metric: str
    above: bool
    amount: float

    @staticmethod
    def parse(text: str) -> "Condition":
        """Read "p90>+5%", "fps<-3%" or "score<-0.5"; BadInput for anything else."""
        found = _PERCENT.fullmatch(text.strip()) or _POINTS.fullmatch(text.strip())
        if found is None:
            raise BadInput(
                f"--fail-if `{text}`: expected METRIC>+PERCENT% or METRIC<-PERCENT%, METRIC one of "
                f"{', '.join([*METRICS, SIZE])}, or {SCORE}<-POINTS; for example p90>+5% or {SCORE}<-0.5"
            )
        above, amount = found[2].startswith(">"), float(found[3])
        if not above and amount >= 100 and found[1] != SCORE:
            raise BadInput(f"--fail-if `{text}`: nothing falls by 100 % or more; for example fps<-5%")
        return Condition(found[1], above, amount if above else -amount)


def compare(a: Measurement, b: Measurement, *, paired: bool) -> Comparison:
    """Compare every figure of `b` with that of `a`.

    A change counts as a difference when the ratio lies beyond `MARGIN`, its 95 % interval does not hold 1 and the
    test's p is below `SIGNIFICANCE`: the interval alone is too narrow with few processes, the test alone calls any tiny
    difference real.

    `paired`: process i of one ran next to process i of the other. The ratio is then the median of the pairs' ratios,
    resampled in pairs, so that what slowed both cancels out, and the test is the sign test on the pairs. Otherwise the
    ratio is that of the medians, each resampled on its own, and the test is the Mann-Whitney U test. That test does not
    know of pairs: where rounds differ by 15 % and the processes of a round by 1 %, it sees a difference of 10 % in one
    of twenty comparisons of nine processes, the sign test in all. Wilcoxon's signed ranks see it too, until one process
    in nine takes up to twice as long. What hides a difference is noise within a round: with such processes and 3, 5 and
    8 % of it, 10 % count in 16, 11 and 6 of 20 comparisons of nine pairs, and in 20, 18 and 11 of 21 pairs (simulated).

    Raises BadInput when the two were not taken alike or one must not be believed, and InvalidMeasurement with fewer
    than six pairs, which could never tell, or five processes each.
    """
    _require_alike(a, b, paired=paired)
    doubts = [
        f"{when} ({one.label}): {doubt.kind}: {doubt.text}"
        for when, one in _sides(a, b)
        for doubt in one.failing(UNBELIEVABLE)
    ]
    if doubts:
        raise BadInput(f"not comparable: {'; '.join(doubts)}")
    _require_processes(a, b, FEWEST_PAIRS if paired else FEWEST_PROCESSES)
    missing = {name: why for name in METRICS if (why := _why_missing(name, a, b)) is not None}
    of = _paired_change if paired else _unpaired_change
    changes = {name: of(_values(name, a), _values(name, b)) for name in METRICS if name not in missing}
    return Comparison(a.label, b.label, paired, changes, missing, _notes(a, b, paired=paired))


def faster(a: Measurement, b: Measurement, margin: float = MARGIN) -> Verdict:
    """Say which of two interleaved measurements is faster, if either.

    Process i of `a` ran next to process i of `b`, so pairs are resampled together and what slowed both cancels out. One
    is called faster only when the whole 95 % interval of the median of their ratios lies beyond `margin` on its side.
    Raises InvalidMeasurement with fewer than three pairs and BadInput when the two were not taken alike.
    """
    _require_alike(replace(a, agent=b.agent), b, paired=True)  # an agent's share is far below the margin
    _require_processes(a, b, FEWEST_TO_CHOOSE)
    ratio, (low, high) = _ratio_of_pairs(_values("median", a), _values("median", b))
    winner = None
    if high < 1 / (1 + margin):
        winner = a.label
    elif low > 1 + margin:
        winner = b.label
    return Verdict(winner, ratio, (low, high))


def violated(conditions: Sequence[Condition], found: Comparison) -> list[str]:
    """Return a sentence for each condition that a comparison breaks, which only a change that counts can.

    BadInput for a figure that one of the two does not have.
    """
    sentences, absent = [], []
    for one in conditions:
        change = found.change(one.metric)
        if isinstance(change, str):
            absent.append(f"there is no {one.metric} to judge: {change}")
        elif change.different and change.beyond(one.amount, above=one.above):
            sentences.append(f"{one.metric}: {change}; the limit is {change.limit(one.amount)}")
    if absent:
        raise BadInput(f"--fail-if: {'; '.join(absent)}")
    return sentences


def _values(metric: str, one: Measurement) -> np.ndarray:
    """Return a figure once for each process (energy: for each window); empty where it was not measured."""
    match metric:
        case "median":
            values = [run.median_s for run in one.processes]
        case "p90":
            values = [run.p90_s for run in one.processes]
        case "p99":
            values = [seconds for run in one.processes if (seconds := run.p99_s) is not None]
        case "first":
            values = [run.first_s for run in one.processes]
        case "init":
            values = [run.init_s for run in one.processes]
        case "peak_rss":
            values = [float(run.peak_rss_bytes) for run in one.processes]
        case "fps":
            values = [1 / seconds for seconds in one.frame_times_s]
        case _:
            values = [] if one.power is None else [window.net_mj for window in one.power.windows]
    return np.array(values)


def _why_missing(metric: str, a: Measurement, b: Measurement) -> str | None:
    """Return why the two cannot be compared in a figure, or None where they can."""
    for when, one in _sides(a, b):
        values = _values(metric, one)
        if metric == "energy" and one.power is None:
            return f"{when}, it was not measured"
        if len(values) != len(one.processes):
            return {
                "p99": f"{when}, a process has fewer than {FEWEST_FOR_P99} times",
                "energy": f"{when}, {len(values)} of {len(one.processes)} processes were metered",
            }[metric]
        if (values <= 0).any():
            return f"{when}, it is not above zero in every process"
    if metric == "energy" and a.power is not None and b.power is not None:
        before, after = (f"{one.meter} ({one.scope})" for one in (a.power, b.power))
        if before != after:
            return f"it was metered by {before} before, by {after} after"
    return None


def _paired_change(a: np.ndarray, b: np.ndarray) -> Change:
    from scipy.stats import binomtest

    ratio, interval = _ratio_of_pairs(b, a)
    above, unequal = int((b > a).sum()), int((b != a).sum())
    p_value = float(binomtest(above, unequal).pvalue) if unequal else 1.0
    return _change(a, b, ratio, interval, p_value)


def _ratio_of_pairs(a: np.ndarray, b: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Return the median of a / b over the pairs, and its 95 % interval when pairs are resampled."""
    logs = np.log(a / b)
    interval = _exp(bootstrap_interval(len(logs), lambda rows: np.median(logs[rows], axis=1)))
    return math.exp(float(np.median(logs))), interval


def _unpaired_change(a: np.ndarray, b: np.ndarray) -> Change:
    from scipy.stats import mannwhitneyu

    # The same rows for the same figures, whichever comes first: swapped arguments give the inverse to the last bit.
    if tuple(b) < tuple(a):
        swapped = _unpaired_change(b, a)
        low, high = swapped.interval
        return _change(a, b, 1 / swapped.ratio, (1 / high, 1 / low), swapped.p_value)

    def ratios(rows: np.ndarray) -> np.ndarray:
        others = np.random.default_rng(OTHER_SEED).integers(len(b), size=(len(rows), len(b)))
        return np.asarray(np.log(np.median(b[others], axis=1) / np.median(a[rows], axis=1)))

    exact = len(np.unique(np.concatenate([a, b]))) == len(a) + len(b) <= EXACT_UP_TO  # ties have no exact one
    p_value = float(mannwhitneyu(a, b, method="exact" if exact else "asymptotic").pvalue)
    ratio = float(np.median(b)) / float(np.median(a))
    return _change(a, b, ratio, _exp(bootstrap_interval(len(a), ratios)), p_value)


def _change(a: np.ndarray, b: np.ndarray, ratio: float, interval: tuple[float, float], p_value: float) -> Change:
    low, high = interval
    beyond = not 1 / (1 + MARGIN) <= ratio <= 1 + MARGIN
    different = beyond and not low <= 1 <= high and p_value < SIGNIFICANCE
    return Change(float(np.median(a)), float(np.median(b)), ratio, interval, p_value, different)


def _require_alike(a: Measurement, b: Measurement, *, paired: bool) -> None:
    """Raise BadInput with everything in which two measurements were not taken alike, and both values."""
    conditions: list[tuple[str, object, object]] = [
        ("machine", a.place.name, b.place.name),
        ("architecture", a.place.architecture, b.place.architecture),
        ("processor", a.place.cpu_model, b.place.cpu_model),
        ("kernel", a.place.kernel, b.place.kernel),
        ("governor", a.place.governor, b.place.governor),
        ("scenario", a.scenario, b.scenario),
        ("threads", a.threads, b.threads),
        ("streams", a.streams, b.streams),
        ("affinity", a.affinity or "any CPU", b.affinity or "any CPU"),
        ("memory limit", a.memory_limit_bytes or "none", b.memory_limit_bytes or "none"),
        ("kind of figure", a.kind, b.kind),
        ("agent", _agent(a), _agent(b)),
    ]
    if a.runtime == b.runtime:
        conditions.append((f"version of {a.runtime}", a.runtime_version, b.runtime_version))
    if paired:
        conditions.append(("number of processes", len(a.processes), len(b.processes)))
    unlike = [f"{name} ({_said(of_a)} and {_said(of_b)})" for name, of_a, of_b in conditions if of_a != of_b]
    if unlike:
        raise BadInput(f"{a.label} and {b.label} are not comparable: they differ in {', '.join(unlike)}")


def _require_processes(a: Measurement, b: Measurement, needed: int) -> None:
    fewest = min(len(a.processes), len(b.processes))
    if fewest < needed:
        raise InvalidMeasurement(f"{fewest} processes cannot tell a difference from noise; measure {needed} or more")


def _notes(a: Measurement, b: Measurement, *, paired: bool) -> tuple[str, ...]:
    """Return what does not forbid a comparison but must be known."""
    notes = [] if paired else ["taken at different times: what the machine did besides may differ"]
    if a.place.boot_id != b.place.boot_id:
        notes.append("the machine was booted between the two, or they are two machines of one kind")
    if a.runtime == b.runtime and a.library != b.library:
        notes.append(f"two builds of {a.runtime}: {a.library} and {b.library}")
    doubts = told_once([(when, one.cautions) for when, one in _sides(a, b)], "before and after")
    return (*notes, *(f"{words}; {advice}" for words, advice in doubts))


def _sides(a: Measurement, b: Measurement) -> tuple[tuple[str, Measurement], ...]:
    """Return each with the word for it; labels say nothing where one file was measured before and after."""
    return ("before", a), ("after", b)


def _agent(one: Measurement) -> str:
    """Return which agent ran, without why it did, which may differ from runtime to runtime."""
    return one.agent.partition(" ")[0]


def _said(value: object) -> str:
    return "not known" if value is None else str(value)


def _exp(interval: tuple[float, float]) -> tuple[float, float]:
    return math.exp(interval[0]), math.exp(interval[1])


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
