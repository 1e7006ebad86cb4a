"""Which meter a device offers."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from edgeslim.deploy.device import Device
from edgeslim.errors import BadInput, InvalidMeasurement, near_misses
from edgeslim.measure.meters import METERS, Reading, Sampling, Span, Watts, csv_trace

TRACE, TRACE_WAIT_S = "csv:", 600.0  # for the person at the meter to save it
TRACE_SETTLES_S = 2.0  # a file that nobody has written to for so long is whole


@dataclass(frozen=True)
class Metering:
    """A meter: what is read on the device while it runs, and what makes power over time of it.

    `watts` takes the readings and the times at work, which an external meter's trace is laid over.
    """

    name: str
    scope: str
    what: Sampling
    watts: Callable[[Sequence[Reading], Sequence[Span]], list[Watts]]


def find_meter(device: Device, name: str) -> Metering:
    """Return the meter of a name on a device, with "auto" the first it has, or an external one's trace ("csv:FILE").

    BadInput says why there is none.
    """
    if name.startswith(TRACE):
        trace = Path(name.removeprefix(TRACE))
        if trace.is_dir() or not trace.parent.is_dir():
            raise BadInput(f"meter `{name}`: expected csv:FILE, a file to be saved in a folder that exists")
        return Metering(name, csv_trace.SCOPE, csv_trace.CLOCK, partial(_laid, trace, time.time()))
    if name not in (*METERS, "auto"):
        raise BadInput(
            f"unknown meter `{name}`{near_misses(name, METERS)}; meters are auto, {', '.join(METERS)}, csv:FILE"
        )
    reasons = []
    for one in METERS if name == "auto" else (name,):
        meter = meter_module(one)
        files = device.target.look(meter.PATTERNS)
        what = meter.sampling(files)
        if what is not None:
            return Metering(one, meter.SCOPE, what, partial(_read, meter, what, files))
        reasons.append(f"{one}: {meter.why_not(files)}")
    raise BadInput(f"{device.target.address} has no power meter that can be read: {'; '.join(reasons)}")


def _read(
    meter: ModuleType, what: Sampling, files: Mapping[str, str], readings: Sequence[Reading], _: Sequence[Span]
) -> list[Watts]:
    return list(meter.watts(what, readings, files))


def _laid(trace: Path, began_s: float, _: Sequence[Reading], windows: Sequence[Span]) -> list[Watts]:
    """Return an external meter's trace on the device's clock, once the person at the meter has saved it.

    `began_s` is when the run began, by the clock on the wall: what was saved before is of another run. Raises
    InvalidMeasurement for a bad trace too: what was measured before it must not be lost over it.
    """
    deadline = time.monotonic() + TRACE_WAIT_S
    while not trace.exists() or time.time() - trace.stat().st_mtime < TRACE_SETTLES_S:
        if time.monotonic() > deadline:
            raise InvalidMeasurement(f"{trace} was not there, or still written to, {TRACE_WAIT_S:g} s after the run")
        time.sleep(TRACE_SETTLES_S / 4)
    if trace.stat().st_mtime < began_s:
        raise InvalidMeasurement(f"{trace} was saved before the run: record it while the run lasts, and save it after")
    try:
        return csv_trace.align(csv_trace.read_trace(trace), windows)
    except BadInput as error:
        raise InvalidMeasurement(error.message) from error


def meter_module(name: str) -> ModuleType:
    """Return the module of a meter."""
    return import_module(f"edgeslim.measure.meters.{name}")
