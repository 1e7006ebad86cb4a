"""What was measured: raw times of fresh processes, the statistics read from them, and when they must not decide."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.errors import BadInput, InvalidMeasurement

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 20_260
CONFIDENCE = 0.95
NOISY_SPREAD = 0.10  # width of the confidence interval, as a share of the median
FEWEST_PROCESSES = 5  # with fewer, the resampled medians show too little of the spread
FEWEST_PAIRS = 3
MARGIN = 0.03  # a smaller advantage is no reason to choose

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@validated_dataclass(frozen=True, config=_STRICT)
class Place:
    """The machine on which a figure was taken; figures of places that differ are not comparable."""

    name: str
    architecture: str
    cpu_model: str
    kernel: str
    governor: str | None


@validated_dataclass(frozen=True, config=_STRICT)
class ProcessRun:
    """One fresh process: loading, the first inference, every raw time after the warm-up, all in seconds."""

    init_s: float
    first_s: float
    samples_s: tuple[float, ...]
    peak_rss_bytes: int

    def __post_init__(self) -> None:
        if not self.samples_s or min(self.samples_s) <= 0:
            raise InvalidMeasurement("a process without times, or with a time that is not positive")

    @property
    def median_s(self) -> float:
        """Median of the raw times."""
        return statistics.median(self.samples_s)

    @property
    def p90_s(self) -> float:
        """The time that nine of ten inferences stay under."""
        return float(np.percentile(self.samples_s, 90))


@validated_dataclass(frozen=True, config=_STRICT)
class Measurement:
    """One model in one runtime, over several fresh processes; every statistic is computed when it is read.

    `precision_actual` is what the runtime's own execution record says of convolutions and matrix products ("uint8",
    "fp32+int8"). `model_sha256` covers the model's files, one after the other (.xml and .bin for OpenVINO).
    """

    label: str
    runtime: str
    runtime_version: str
    model: str
    model_sha256: str
    precision_requested: str
    precision_actual: str
    threads: int
    kind: Literal["measured"]
    place: Place
    processes: tuple[ProcessRun, ...]

    def __post_init__(self) -> None:
        if not self.processes:
            raise InvalidMeasurement(f"{self.label}: no process was measured")

    @property
    def median_s(self) -> float:
        """Median over the processes of each process's median."""
        return statistics.median(run.median_s for run in self.processes)

    @property
    def median_interval_s(self) -> tuple[float, float]:
        """The 95 % confidence interval of `median_s`, by resampling whole processes."""
        return _bootstrap(len(self.processes), lambda rows: np.median(self._medians_s()[rows], axis=1))

    @property
    def p90_s(self) -> float:
        """Median over the processes of each process's p90."""
        return statistics.median(run.p90_s for run in self.processes)

    @property
    def first_s(self) -> float:
        """Median over the processes of the first inference."""
        return statistics.median(run.first_s for run in self.processes)

    @property
    def init_s(self) -> float:
        """Median over the processes of loading the model."""
        return statistics.median(run.init_s for run in self.processes)

    @property
    def frames_per_second(self) -> float:
        """Inferences in a second, one after the other."""
        return 1 / self.median_s

    @property
    def peak_rss_bytes(self) -> int:
        """Median over the processes of the highest resident size."""
        return round(statistics.median(run.peak_rss_bytes for run in self.processes))

    @property
    def noisy(self) -> str | None:
        """Why the median must be read with care and what to do about it, or None."""
        if len(self.processes) < FEWEST_PROCESSES:
            return f"{len(self.processes)} processes show too little of the spread; measure {FEWEST_PROCESSES} or more"
        low, high = self.median_interval_s
        spread = (high - low) / self.median_s
        if spread <= NOISY_SPREAD:
            return None
        return (
            f"the 95 % interval of the median is {spread:.0%} of it wide; close other programs, "
            "fix the frequency (governor `performance`), or measure more processes"
        )

    def to_json(self) -> str:
        """Return everything, raw times included, as JSON text that `from_json` reads back equal."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @staticmethod
    def from_json(text: str, source: str = "measurement") -> "Measurement":
        """Read `to_json`'s text; BadInput names `source` and every missing, unknown or mistyped key."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            reasons = [f"{'.'.join(map(str, fault['loc'])) or 'text'}: {fault['msg']}" for fault in error.errors()]
            raise BadInput(f"{source}: {'; '.join(reasons)}") from error

    def _medians_s(self) -> np.ndarray:
        return np.array([run.median_s for run in self.processes])


_ADAPTER = TypeAdapter(Measurement)


def save(measurements: Iterable[Measurement], folder: Path) -> None:
    """Write each measurement, raw times included, into `folder` as LABEL.json."""
    folder.mkdir(exist_ok=True)
    for one in measurements:
        (folder / f"{one.label.replace(' ', '_')}.json").write_text(one.to_json())


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


def faster(a: Measurement, b: Measurement, margin: float = MARGIN) -> Verdict:
    """Say which of two interleaved measurements is faster, if either.

    Process i of `a` ran next to process i of `b`, so pairs are resampled together and what slowed both cancels out. One
    is called faster only when the whole 95 % interval of the ratio of medians lies beyond `margin` on its side.
    Raises InvalidMeasurement with fewer than three pairs and BadInput when the two were not taken alike.
    """
    _require_comparable(a, b)
    medians_a, medians_b = a._medians_s(), b._medians_s()
    low, high = _bootstrap(
        len(medians_a),
        lambda rows: np.log(np.median(medians_a[rows], axis=1) / np.median(medians_b[rows], axis=1)),
    )
    winner = None
    if high < -math.log1p(margin):
        winner = a.label
    elif low > math.log1p(margin):
        winner = b.label
    return Verdict(winner, a.median_s / b.median_s, (math.exp(low), math.exp(high)))


def _require_comparable(a: Measurement, b: Measurement) -> None:
    conditions = {
        "place": (a.place, b.place),
        "threads": (a.threads, b.threads),
        "kind": (a.kind, b.kind),
        "number of processes": (len(a.processes), len(b.processes)),
    }
    if a.runtime == b.runtime:
        conditions[f"version of {a.runtime}"] = (a.runtime_version, b.runtime_version)
    differing = [f"{name} ({of_a} and {of_b})" for name, (of_a, of_b) in conditions.items() if of_a != of_b]
    if differing:
        raise BadInput(f"{a.label} and {b.label} are not comparable: they differ in {', '.join(differing)}")
    if len(a.processes) < FEWEST_PAIRS:
        raise InvalidMeasurement(
            f"{len(a.processes)} processes cannot tell which is faster; measure {FEWEST_PAIRS} or more"
        )


def _bootstrap(processes: int, statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Return the percentile interval of `statistic`, which maps rows of process indices to one figure a row."""
    rows = np.random.default_rng(BOOTSTRAP_SEED).integers(processes, size=(BOOTSTRAP_RESAMPLES, processes))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(statistic(rows), [tail, 100 - tail])
    return float(low), float(high)
