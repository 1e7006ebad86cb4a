"""A trace of any external meter, as CSV: its clock is its own, so it is laid over the run by the run's marks."""

import csv
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.measure.meters import Sampling, Watts

SCOPE = "what the external meter sees"
CLOCK = Sampling(("/proc/uptime",), None, 0.5)  # only the device's clock is read while it runs
FEWEST_SAMPLES = 20
REST_S = 3.0  # after a window; the harness leaves five seconds between processes when it meters
MOST_SKEW = 0.006  # the cheapest oscillators in meters are off by half a per cent
GRID_S = 0.2
NEAR_S = (2.0, 0.5, 0.125, 0.03)  # how far a finer place is looked for, in turns
RIVAL = 0.75  # of the least step at the best place, that of another place for which it might be taken
STEADY = 0.8  # the power over a whole window, of that at its end: it is at work all the time
EDGE_S, SHARP = 1.0, 0.5  # what of the fall must happen within a second around a window's end
LEAST_CONTRAST = 3.0  # the least step from work to rest, in standard deviations of the rest

# Column, in lower case -> what makes seconds, watts, volts or amperes of it.
_TIMES = {"time_s": 1.0, "timestamp_s": 1.0, "seconds": 1.0, "time_ms": 1e-3, "timestamp_ms": 1e-3, "time_us": 1e-6}
_CLOCKS = ("time", "timestamp")  # seconds, or a date and time in ISO 8601
_POWERS = {"power_w": 1.0, "watts": 1.0, "power": 1.0, "power_mw": 1e-3, "power_uw": 1e-6}
_VOLTS = {"voltage_v": 1.0, "volts": 1.0, "voltage": 1.0, "voltage_mv": 1e-3}
_AMPERES = {"current_a": 1.0, "amperes": 1.0, "current": 1.0, "current_ma": 1e-3, "current_ua": 1e-6}
_UNITS = _POWERS | _VOLTS | _AMPERES

Span = tuple[float, float]


def read_trace(file: Path) -> list[Watts]:
    """Read a trace with a header: a time column, and power, or voltage and current; seconds on the meter's own clock.

    Units are in the names: time_s, time_ms, timestamp (ISO 8601); power_w, power_mw, voltage_v with current_ma. Lines
    without a power, or with NaN, are dropped samples. BadInput names the line and the columns that would do.
    """
    found: list[Watts] = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
            time, drawn = _columns(rows.fieldnames, file)
            for row in rows:
                try:
                    found += _sample(row, time, drawn, after_s=found[-1].from_s if found else -math.inf)
                except ValueError as error:
                    raise BadInput(f"{file}, line {rows.line_num}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    if len(found) < FEWEST_SAMPLES:
        raise BadInput(f"{file}: expected {FEWEST_SAMPLES} samples or more; it has {len(found)}")
    return found


def align(trace: Sequence[Watts], windows: Sequence[Span]) -> list[Watts]:
    """Return a trace on the device's clock, on which `windows` are the times at work.

    The mark of a window is its end, where the process is gone; before its begin the process loads and warms up. Offset
    and skew of the meter's clock are first those at which the least step, from a window to the rest after it, is the
    largest; then those at which the power falls most from just before the ends to just after them. Raises
    InvalidMeasurement where the trace shows no step, is too short, or fits at two places.
    """
    marks = np.array(sorted(windows))
    run = _Run(trace, marks)
    at_s, skew = run.place()
    own_s = np.array([one.from_s for one in trace])
    times_s = run.middle_s + (own_s - at_s) / (1 + skew)
    return [Watts(t, t, one.watts) for t, one in zip(times_s.tolist(), trace, strict=True)]


class _Run:
    """A run's windows and a trace to lay them over: a place is when, by the meter's clock, the run's middle was."""

    def __init__(self, trace: Sequence[Watts], marks: np.ndarray) -> None:
        self.times_s = np.array([one.from_s for one in trace])
        watts = np.array([one.watts for one in trace])
        # A sample lasts until the next: the mean power of a span is a difference of two sums.
        self.joules = np.concatenate(([0.0], np.cumsum(np.diff(self.times_s) * watts[:-1])))
        self.noise_w = 1.48 * float(np.median(np.abs(np.diff(watts)))) / 2**0.5
        self.middle_s = (marks[0, 1] + marks[-1, 1]) / 2
        self.half_s = (marks[-1, 1] - marks[0, 1]) / 2
        self.ends_s = marks[:, 1] - self.middle_s
        self.lengths_s = marks[:, 1] - marks[:, 0]
        self.rest_s = min(REST_S, *(self.lengths_s / 2), *((marks[1:, 0] - marks[:-1, 1]) / 2))

    def place(self) -> tuple[float, float]:
        """Return the place and the skew at which the windows end where the power falls; InvalidMeasurement if none."""
        at_s, skews, least = self._tried()
        best = int(np.argmax(least))
        found_s, skew = self._finer(float(at_s[best]), float(skews[best]))
        self._require_steps(np.array([found_s]), np.array([skew]))
        apart = np.abs(at_s - at_s[best]) > self.lengths_s.min() / 2
        if least[apart].max(initial=-math.inf) > RIVAL * least[best]:
            raise InvalidMeasurement(
                "the trace fits the run at two places: record this run only, or time longer (--min-duration)"
            )
        return found_s, skew

    def _tried(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the places and skews on a grid, GRID_S apart at the run's ends too, and the least step at each."""
        count = math.ceil(MOST_SKEW * self.half_s / GRID_S)
        tried = []
        for skew in MOST_SKEW * np.linspace(-1, 1, 2 * count + 1):
            places = self._inside(skew)
            skews = np.full(len(places), skew)
            tried.append((places, skews, self._steps(places, skews, self.lengths_s).min(axis=1)))
        at_s, skews, least = (np.concatenate(column) for column in zip(*tried, strict=True))
        if len(at_s) == 0:
            lasts_s, run_s = np.ptp(self.times_s), 2 * self.half_s + self.lengths_s[0]
            raise InvalidMeasurement(
                f"the trace lasts {lasts_s:.0f} s, the run {run_s:.0f} s: record all of it, with some rest around it"
            )
        return at_s, skews, least

    def _finer(self, at_s: float, skew: float) -> tuple[float, float]:
        """Return the place and the skew nearby at which the power falls most at the ends of the windows."""
        steps = np.linspace(-1, 1, 9)
        for width_s in NEAR_S:
            slant = width_s / self.half_s if self.half_s else 0.0
            tried = (skew + slant * steps).clip(-MOST_SKEW, MOST_SKEW)
            places, skews = (grid.ravel() for grid in np.meshgrid(at_s + width_s * steps, tried))
            best = int(np.argmax(self._steps(places, skews, self.rest_s).sum(axis=1)))
            at_s, skew = float(places[best]), float(skews[best])
        return at_s, skew

    def _require_steps(self, at_s: np.ndarray, skew: np.ndarray) -> None:
        """Raise InvalidMeasurement where the windows do not stand out from the rests, or the power falls elsewhere."""
        ends_s = at_s + (1 + skew) * self.ends_s
        rests_w = self._mean_w(ends_s, ends_s + self.rest_s)
        period_s = float(np.median(np.diff(self.times_s)))
        spread_w = max(float(rests_w.std()), self.noise_w * (period_s / self.rest_s) ** 0.5, 1e-9)
        whole, late = (self._steps(at_s, skew, before_s) for before_s in (self.lengths_s, self.rest_s))
        if whole.min() <= LEAST_CONTRAST * spread_w or whole.mean() < STEADY * late.mean():
            raise InvalidMeasurement(
                "the trace shows no step where the run was at work: is it of this run, and of all of it?"
            )
        edge_s = min(max(EDGE_S, 2 * period_s), self.rest_s)
        if self._steps(at_s, skew, edge_s).mean() < SHARP * late.mean():
            raise InvalidMeasurement("the power falls at other times than those at which the run's windows ended")

    def _inside(self, skew: float) -> np.ndarray:
        """Return the places at which the whole run, and the rest after it, lie within the trace."""
        before_s = (1 + skew) * (self.half_s + self.lengths_s[0])
        after_s = (1 + skew) * self.half_s + self.rest_s
        return np.arange(float(self.times_s[0] + before_s), float(self.times_s[-1] - after_s), GRID_S)

    def _steps(self, at_s: np.ndarray, skews: np.ndarray, before_s: np.ndarray | float) -> np.ndarray:
        """Return by how much the mean power falls at each window's end; a row a place, a column a window.

        The mean over `before_s` is compared with that over as much time after it, REST_S at most.
        """
        slopes = 1 + skews[:, None]
        ends_s = at_s[:, None] + slopes * self.ends_s
        after_s = np.minimum(before_s, self.rest_s)
        return np.asarray(self._mean_w(ends_s - slopes * before_s, ends_s) - self._mean_w(ends_s, ends_s + after_s))

    def _mean_w(self, from_s: np.ndarray, to_s: np.ndarray) -> np.ndarray:
        joules = [np.interp(time_s, self.times_s, self.joules) for time_s in (from_s, to_s)]
        return np.asarray((joules[1] - joules[0]) / (to_s - from_s))


def _columns(names: Sequence[str], file: Path) -> tuple[str, tuple[str, ...]]:
    """Return the column of the time, and those whose product is the power."""

    def first(known: Mapping[str, float] | Sequence[str]) -> str | None:
        return next((name for name in known if name in names), None)

    time, power, volts, amperes = first((*_TIMES, *_CLOCKS)), first(_POWERS), first(_VOLTS), first(_AMPERES)
    if time is not None and power is not None:
        return time, (power,)
    if time is not None and volts is not None and amperes is not None:
        return time, (volts, amperes)
    raise BadInput(
        f"{file}: expected a header with a time ({', '.join((*_TIMES, *_CLOCKS))}) and a power ({', '.join(_POWERS)}) "
        f"or a voltage ({', '.join(_VOLTS)}) and a current ({', '.join(_AMPERES)}); "
        f"it has {', '.join(names) or 'no line'}"
    )


def _sample(
    row: Mapping[str | None, str | list[str] | None], time: str, drawn: Sequence[str], after_s: float
) -> list[Watts]:
    """Return the sample of one line, none where it was dropped; ValueError says what is wrong with it."""
    if any(row.get(None) or ()):
        raise ValueError("it has more cells than the header; numbers take a point, not a comma")
    cells = [str(row[name] or "").strip() for name in drawn]
    watts = (
        math.prod(float(cell) * _UNITS[name] for name, cell in zip(drawn, cells, strict=True))
        if all(cells)
        else math.nan
    )
    if math.isnan(watts):
        return []
    given = str(row[time] or "").strip()
    at_s = float(given) * _TIMES[time] if time in _TIMES else _clock_s(given)
    if not (math.isfinite(at_s) and math.isfinite(watts)):
        raise ValueError("time and power must be finite")
    if at_s <= after_s:
        raise ValueError(f"its time, {given}, does not lie after that of the sample before")
    return [Watts(at_s, at_s, watts)]


def _clock_s(text: str) -> float:
    """Return seconds on the meter's own clock; one without a zone is not this machine's, which may change to summer."""
    try:
        return float(text)
    except ValueError:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
