"""A trace of any external meter, as CSV: its clock is its own, so it is laid over the run by the run's marks."""

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from edgeslim.errors import BadInput, InvalidMeasurement
from edgeslim.meters import Sampling, Watts

SCOPE = "what the external meter sees"
CLOCK = Sampling(("/proc/uptime",), None, 0.5)  # only the device's clock is read while it runs
NEAR_S = 3.0  # how far the clocks may drift apart over a run
FEWEST_SAMPLES = 20
LEAST_CONTRAST = 3.0  # the step from rest to work, in standard deviations of the rest

# Column, in lower case -> what makes seconds, watts, volts or amperes of it.
_TIMES = {"time_s": 1.0, "timestamp_s": 1.0, "seconds": 1.0, "time_ms": 1e-3, "timestamp_ms": 1e-3, "time_us": 1e-6}
_CLOCKS = ("time", "timestamp")  # seconds, or a date and time in ISO 8601
_POWERS = {"power_w": 1.0, "watts": 1.0, "power": 1.0, "power_mw": 1e-3, "power_uw": 1e-6}
_VOLTS = {"voltage_v": 1.0, "volts": 1.0, "voltage": 1.0, "voltage_mv": 1e-3}
_AMPERES = {"current_a": 1.0, "amperes": 1.0, "current": 1.0, "current_ma": 1e-3, "current_ua": 1e-6}

Span = tuple[float, float]


def read_trace(file: Path) -> list[Watts]:
    """Read a trace with a header: a time column, and power, or voltage and current; seconds on the meter's own clock.

    Units are in the names: time_s, time_ms, timestamp (ISO 8601); power_w, power_mw, voltage_v with current_ma. Lines
    without a power are dropped samples. BadInput names the line and the columns that would do.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    columns = {(name or "").strip().lower(): name for name in (rows[0] if rows else ())}
    time = next((name for name in (*_TIMES, *_CLOCKS) if name in columns), None)
    power = next((name for name in _POWERS if name in columns), None)
    volts = next((name for name in _VOLTS if name in columns), None)
    amperes = next((name for name in _AMPERES if name in columns), None)
    if time is None or (power is None and (volts is None or amperes is None)):
        raise BadInput(
            f"{file}: expected a header with a time ({', '.join((*_TIMES, *_CLOCKS))}) and a power "
            f"({', '.join(_POWERS)}) or voltage and current; it has {', '.join(columns) or 'no line'}"
        )
    found = []
    for number, row in enumerate(rows, start=2):
        cells = {name: (row[column] or "").strip() for name, column in columns.items()}
        try:
            at_s = float(cells[time]) * _TIMES[time] if time in _TIMES else _clock_s(cells[time])
            if power is not None:
                drawn = [float(cells[power]) * _POWERS[power]] if cells[power] else []
            else:
                given = cells[str(volts)] and cells[str(amperes)]
                u, i = (str(volts), str(amperes))
                drawn = [float(cells[u]) * _VOLTS[u] * float(cells[i]) * _AMPERES[i]] if given else []
        except ValueError as error:
            raise BadInput(f"{file}, line {number}: {error}") from error
        found += [Watts(at_s, at_s, value) for value in drawn]
    times = np.array([one.from_s for one in found])
    if len(found) < FEWEST_SAMPLES or (np.diff(times) <= 0).any():
        raise BadInput(f"{file}: expected {FEWEST_SAMPLES} samples or more, in the order of time")
    return found


def align(trace: Sequence[Watts], windows: Sequence[Span]) -> list[Watts]:
    """Return a trace on the device's clock, on which `windows` are the times at work.

    The offset is the one at which the trace is high inside the windows and low outside (the largest correlation); then
    each window is laid on its own step, and a line through these gives the meter's skew. Raises InvalidMeasurement
    where the trace shows no step, or where two offsets fit alike.
    """
    times, watts = (np.array(column) for column in zip(*((one.from_s, one.watts) for one in trace), strict=True))
    marks = np.array(sorted(windows))
    step_s = max(float(np.median(np.diff(times))), 1e-4)
    grid = np.arange(times[0], times[-1], step_s)
    power = np.interp(grid, times, watts)
    length = round((marks[-1, 1] - marks[0, 0]) / step_s)
    if length >= len(grid):
        lasts_s, run_s = times[-1] - times[0], marks[-1, 1] - marks[0, 0]
        raise InvalidMeasurement(f"the trace lasts {lasts_s:.0f} s, the run {run_s:.0f} s: record all of it")
    at = marks[0, 0] + step_s * np.arange(length)
    work = _inside(at, marks)
    fit = np.correlate(power - power.mean(), work - work.mean(), "valid")
    best = int(np.argmax(fit))
    _require_step(power[best : best + length], work)
    apart = np.abs(np.arange(len(fit)) - best) * step_s > min(marks[:, 1] - marks[:, 0]) / 2
    if apart.any() and fit[apart].max() > (1 - 0.5 / len(marks)) * fit[best]:
        raise InvalidMeasurement("the trace fits the run at two places: record some rest before and after it")
    offset_s = grid[best] - marks[0, 0]
    own = [offset_s + _nearer(times, watts, mark, offset_s, step_s) for mark in marks]
    slope, intercept = np.polyfit(marks.mean(axis=1), own, 1) if len(marks) > 2 else (0.0, float(np.mean(own)))
    # A moment t of the device is t + slope t + intercept on the meter's clock.
    return [Watts(t, t, w) for t, w in zip(((times - intercept) / (1 + slope)).tolist(), watts.tolist(), strict=True)]


def _inside(at: np.ndarray, marks: np.ndarray) -> np.ndarray:
    return np.asarray(((at[:, None] >= marks[:, 0]) & (at[:, None] < marks[:, 1])).any(axis=1), dtype=float)


def _require_step(power: np.ndarray, work: np.ndarray) -> None:
    """Raise InvalidMeasurement where the power at work does not stand out from that at rest."""
    rest, busy = power[work == 0], power[work == 1]
    if len(rest) == 0 or busy.mean() - rest.mean() <= LEAST_CONTRAST * max(float(rest.std()) / len(rest) ** 0.5, 1e-9):
        raise InvalidMeasurement("the trace shows no step where the run was at work: is it of this run?")


def _nearer(times: np.ndarray, watts: np.ndarray, mark: np.ndarray, offset_s: float, step_s: float) -> float:
    """Return by how much one window must be moved further so that its two edges lie where the power steps."""
    margin_s = min(NEAR_S, (mark[1] - mark[0]) / 2)
    near = (times > mark[0] + offset_s - margin_s) & (times < mark[1] + offset_s + margin_s)
    at, drawn = times[near] - offset_s, watts[near] - watts[near].mean()
    shifts = np.arange(-margin_s / 2, margin_s / 2, step_s / 2)
    fits = [float(drawn @ (_inside(at - shift, mark[None]) - 0.5)) for shift in shifts]
    best = np.flatnonzero(np.isclose(fits, max(fits)))
    return float(shifts[best].mean())


def _clock_s(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
