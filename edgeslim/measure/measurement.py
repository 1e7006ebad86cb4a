"""What was measured: raw times of fresh processes, the statistics read from them, and every reason to doubt them."""

import json
import statistics
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.artifact.records import read, text_of
from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.units import show_seconds

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 20_260
CONFIDENCE = 0.95
NOISY_SPREAD = 0.10  # width of the confidence interval, as a share of the median
FEWEST_PROCESSES = 5  # with fewer, the resampled medians show too little of the spread
FEWEST_FOR_P99 = 100
SLOWING = 1.1  # a sustained run's last tenth over its first
FORMAT: Literal["edgeslim-measurement/2"] = "edgeslim-measurement/2"
SIMULATED = {  # records that lie beside measurements -> what they hold instead
    "edgeslim-simulation": "a compiler simulates",
    "edgeslim-emulated-inference": "was counted on an emulated core",
    "edgeslim-fit": "an emulated machine did with its memory",
}

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Kind = Literal["noisy", "throttled", "clocks", "fallback", "golden", "disturbed", "power", "partial"]


@validated_dataclass(frozen=True, config=_STRICT)
class Place:
    """The machine on which a figure was taken; figures of places that differ are not comparable.

    `name` is its board or processor, `boot_id` the kernel's own mark of one boot, None where it has none.
    """

    target: str
    name: str
    architecture: str
    cpu_model: str
    kernel: str
    governor: str | None
    boot_id: str | None


@validated_dataclass(frozen=True, config=_STRICT)
class Caution:
    """One reason to doubt a figure: what was seen, and what to do about it."""

    kind: Kind
    text: str
    advice: str


@validated_dataclass(frozen=True, config=_STRICT)
class Energy:
    """What one process's timed loop drew; powers in watts over the whole window, energies in millijoules an inference.

    `active_w` is what `scope` drew while it ran, `idle_w` what it drew in the pauses around it.
    """

    active_w: float
    idle_w: float
    gross_mj: float
    net_mj: float
    samples: int


@validated_dataclass(frozen=True, config=_STRICT)
class Power:
    """Where energies come from: the meter's name, and what its figure covers ("CPU package", "whole board")."""

    meter: str
    scope: str
    windows: tuple[Energy, ...]

    def __post_init__(self) -> None:
        if not self.windows:
            raise InvalidMeasurement(f"{self.meter}: no window was metered")


@validated_dataclass(frozen=True, config=_STRICT)
class ProcessRun:
    """One fresh process: loading, the first inference, every raw time after the warm-up, all in seconds.

    `window_s` is the length of the timed loop, in which all streams together ran `len(samples_s)` inferences. The
    memory of the runtime alone is `runtime_rss_bytes`; `arena_bytes` is what it says it allocated for tensors.
    """

    init_s: float
    first_s: float
    samples_s: tuple[float, ...]
    peak_rss_bytes: int
    window_s: float
    runtime_rss_bytes: int
    arena_bytes: int | None

    def __post_init__(self) -> None:
        if not self.samples_s or min(self.init_s, self.first_s, self.window_s, *self.samples_s) <= 0:
            raise InvalidMeasurement("a process without times, or with a time that is not positive")

    @property
    def median_s(self) -> float:
        """Median of the raw times."""
        return statistics.median(self.samples_s)

    @property
    def p90_s(self) -> float:
        """The time that nine of ten inferences stay under."""
        return float(np.percentile(self.samples_s, 90))

    @property
    def p99_s(self) -> float | None:
        """The time that 99 of 100 inferences stay under; None with fewer than 100, of which it says nothing."""
        return None if len(self.samples_s) < FEWEST_FOR_P99 else float(np.percentile(self.samples_s, 99))

    @property
    def outliers(self) -> int:
        """How many raw times lie more than 1.5 IQR above the third quartile (Tukey's fence)."""
        first, third = np.percentile(self.samples_s, [25, 75])
        return int(np.sum(np.array(self.samples_s) > third + 1.5 * (third - first)))

    @property
    def drift(self) -> float:
        """Median of the last tenth of the raw times over that of the first tenth."""
        tenth = max(1, len(self.samples_s) // 10)
        return statistics.median(self.samples_s[-tenth:]) / statistics.median(self.samples_s[:tenth])


@validated_dataclass(frozen=True, config=_STRICT)
class Measurement:
    """One model in one runtime, over several fresh processes; every statistic is computed when it is read.

    `precision_actual` is what the runtime's own execution record says of convolutions and matrix products ("uint8",
    "fp32+int8"), `executors` who ran how many nodes by that record. `model_sha256` covers the model's files, one after
    the other (.xml and .bin for OpenVINO). `agent` says which agent ran and, where it was not the C one, why; `library`
    which runtime and where it came from. `seen` holds what the run itself gave reason to doubt.
    """

    label: str
    runtime: str
    runtime_version: str
    agent: str
    library: str
    model: str
    model_sha256: str
    precision_requested: str
    precision_actual: str
    executors: dict[str, int]
    scenario: Literal["single-stream", "offline", "sustained"]
    threads: int
    streams: int
    affinity: str | None
    memory_limit_bytes: int | None
    kind: Literal["measured"]
    place: Place
    processes: tuple[ProcessRun, ...]
    seen: tuple[Caution, ...]
    power: Power | None
    format: Literal["edgeslim-measurement/2"] = FORMAT

    def __post_init__(self) -> None:
        if not self.processes:
            raise InvalidMeasurement(f"{self.label}: no process was measured")

    def __repr__(self) -> str:
        """Say the median; the whole is in the file that `save` writes."""
        return f"Measurement({self.label}: {show_seconds(self.median_s)} over {len(self.processes)} processes)"

    @property
    def median_s(self) -> float:
        """Median over the processes of each process's median."""
        return self._over_processes(lambda run: run.median_s)

    @property
    def median_interval_s(self) -> tuple[float, float]:
        """The 95 % confidence interval of `median_s`, by resampling whole processes."""
        return _median_interval([run.median_s for run in self.processes])

    @property
    def p90_s(self) -> float:
        """Median over the processes of each process's p90."""
        return self._over_processes(lambda run: run.p90_s)

    @property
    def p99_s(self) -> float | None:
        """Median over the processes of each process's p99; None where one has fewer than 100 times.

        With 100 only the slowest one lies above it: it means little before a process has some hundreds.
        """
        if any(run.p99_s is None for run in self.processes):
            return None
        return self._over_processes(lambda run: run.p99_s or 0.0)

    @property
    def iqr_s(self) -> float:
        """Median over the processes of the distance between the quartiles."""
        return self._over_processes(lambda run: float(np.subtract(*np.percentile(run.samples_s, [75, 25]))))

    @property
    def outliers(self) -> int:
        """How many raw times lie more than 1.5 IQR above their process's third quartile (Tukey's fence)."""
        return sum(run.outliers for run in self.processes)

    @property
    def first_s(self) -> float:
        """Median over the processes of the first inference."""
        return self._over_processes(lambda run: run.first_s)

    @property
    def init_s(self) -> float:
        """Median over the processes of loading the model."""
        return self._over_processes(lambda run: run.init_s)

    @property
    def frame_times_s(self) -> tuple[float, ...]:
        """Seconds an inference in each process: its median; offline, or with several streams, its window over all."""
        if self.scenario == "offline" or self.streams > 1:
            return tuple(run.window_s / len(run.samples_s) for run in self.processes)
        return tuple(run.median_s for run in self.processes)

    @property
    def frames_per_second(self) -> float:
        """Inferences in a second: one after the other, or the throughput of all streams together (`frame_times_s`)."""
        return 1 / statistics.median(self.frame_times_s)

    @property
    def frames_per_second_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of `frames_per_second`."""
        low_s, high_s = _median_interval(self.frame_times_s)
        return 1 / high_s, 1 / low_s

    @property
    def drift(self) -> float | None:
        """Median over the processes of the last tenth's median time over the first tenth's; only when sustained."""
        if self.scenario != "sustained":
            return None
        return self._over_processes(lambda run: run.drift)

    @property
    def peak_rss_bytes(self) -> int:
        """Median over the processes of the highest resident size."""
        return round(self._over_processes(lambda run: run.peak_rss_bytes))

    @property
    def runtime_rss_bytes(self) -> int:
        """Median over the processes of the resident size with the runtime loaded and no model."""
        return round(self._over_processes(lambda run: run.runtime_rss_bytes))

    @property
    def arena_bytes(self) -> int | None:
        """Median of what the runtime says it allocated for tensors; None where it does not say."""
        if any(run.arena_bytes is None for run in self.processes):
            return None
        return round(self._over_processes(lambda run: run.arena_bytes or 0))

    @property
    def net_mj(self) -> tuple[float, tuple[float, float]] | None:
        """Median millijoules an inference above idle, with its 95 % interval over windows; None: not measured."""
        return None if self.power is None else _with_interval([window.net_mj for window in self.power.windows])

    @property
    def gross_mj(self) -> tuple[float, tuple[float, float]] | None:
        """The same with what the machine draws at rest."""
        return None if self.power is None else _with_interval([window.gross_mj for window in self.power.windows])

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """Every reason to doubt the figures: what the run itself saw, noise, and a sustained run that grew slower."""
        own = (*self.seen, self._noise(), self._slowing())
        return tuple(caution for caution in own if caution is not None)

    @property
    def status(self) -> Literal["valid", "invalid", "partial"]:
        """Whether the figures may be believed."""
        kinds = {caution.kind for caution in self.cautions}
        if "partial" in kinds:
            return "partial"
        return "invalid" if kinds else "valid"

    @property
    def noisy(self) -> str | None:
        """Why the median must be read with care and what to do about it, or None."""
        noise = self._noise()
        return None if noise is None else f"{noise.text}; {noise.advice}"

    def failing(self, kinds: Collection[Kind]) -> list[Caution]:
        """Return the cautions of some kinds."""
        return [caution for caution in self.cautions if caution.kind in kinds]

    def _noise(self) -> Caution | None:
        if self.scenario == "sustained" and len(self.processes) == 1:
            return None  # it asks how the end compares with the start, which one process answers
        if len(self.processes) < FEWEST_PROCESSES:
            text = f"{len(self.processes)} processes show too little of the spread"
            return Caution("noisy", text, f"measure {FEWEST_PROCESSES} or more")
        low, high = self.median_interval_s
        spread = (high - low) / self.median_s
        if spread <= NOISY_SPREAD:
            return None
        return Caution(
            "noisy",
            f"the 95 % interval of the median is wider than {NOISY_SPREAD:.0%} of it",
            "close other programs, fix the frequency (governor `performance`), or measure more processes",
        )

    def _slowing(self) -> Caution | None:
        if self.drift is None or self.drift <= SLOWING:
            return None
        text = f"the last tenth of the run took {self.drift:.2f} times as long for an inference as the first"
        return Caution("throttled", text, "cool the device, or plan with the figures of its end")

    def _over_processes(self, of: Callable[[ProcessRun], float]) -> float:
        return float(statistics.median(of(run) for run in self.processes))

    def to_json(self) -> str:
        """Return everything, raw times included, as JSON text that `from_json` reads back equal."""
        return text_of(_ADAPTER, self)

    @staticmethod
    def from_json(text: str, source: str = "measurement") -> "Measurement":
        """Read `to_json`'s text; BadInput names `source` and every missing, unknown or mistyped key."""
        version = _format_of(text)
        if (other := SIMULATED.get(str(version).partition("/")[0])) is not None:
            raise BadInput(f"{source}: holds what {other}; only what was measured can be compared")
        if version not in (None, FORMAT):
            raise BadInput(
                f"{source}: was written by another edgeslim ({version}; this one reads {FORMAT}); measure again"
            )
        try:
            return read(_ADAPTER, text, source)
        except InvalidMeasurement as error:
            raise BadInput(f"{source}: {error.message}") from error


_ADAPTER = TypeAdapter(Measurement)


def load(file: Path) -> Measurement:
    """Read what `save` wrote; BadInput names the file and what is wrong with it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    return Measurement.from_json(text, str(file))


def bootstrap_interval(processes: int, statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic when whole processes are resampled.

    `statistic` takes rows of process indices and returns one figure a row.
    """
    rows = np.random.default_rng(BOOTSTRAP_SEED).integers(processes, size=(BOOTSTRAP_RESAMPLES, processes))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(statistic(rows), [tail, 100 - tail])
    return float(low), float(high)


def _median_interval(values: Sequence[float]) -> tuple[float, float]:
    array = np.array(values)
    return bootstrap_interval(len(array), lambda rows: np.median(array[rows], axis=1))


def _with_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    return statistics.median(values), _median_interval(values)


def _format_of(text: str) -> str | None:
    """Return the format that a text of JSON says it has; None for what is no JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, thousands of brackets
        return None
    return str(value.get("format", "without a version")) if isinstance(value, dict) else None
