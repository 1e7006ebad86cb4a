"""What a build knows of times: it lies beside the archive, for it differs in every run, and is read back from there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.artifact.records import file_name, read, save, text_of
from edgeslim.emulation import inference
from edgeslim.emulation.inference import EmulatedInference
from edgeslim.measure import measurement
from edgeslim.measure.measurement import Measurement
from edgeslim.units import show_seconds

FILE = "times_of_the_build.json"
EMULATED = "emulated"  # the folder of what was counted, beside that of what was measured


@dataclass(frozen=True)
class DeviceTimes:
    """Estimates for some files of a build, and what kept others from having one."""

    simulations: tuple[EmulatedInference, ...] = ()
    missing: tuple[str, ...] = ()

    def of(self, label: str) -> EmulatedInference | None:
        """Return what is known of a file, None where nothing is."""
        return next((one for one in self.simulations if one.label == label), None)


@dataclass(frozen=True)
class Times:
    """What was measured where the artifact was built, and estimated for its device.

    `here`: whether the machine that measured is the device. `warnings`: those that follow from times, or say in a
    tool's own words what failed.
    """

    measured: tuple[Measurement, ...]
    device: DeviceTimes
    here: bool
    warnings: tuple[str, ...] = ()


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class _Told:
    """What of `Times` no record of a single file holds."""

    here: bool
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    format: Literal["edgeslim-build-times/1"] = "edgeslim-build-times/1"


_ADAPTER = TypeAdapter(_Told)


def save_times(times: Times, folder: Path) -> None:
    """Write all of it into a folder of measurements, each file's figures as a record of their own."""
    save(times.measured, folder)
    if times.device.simulations:
        save(times.device.simulations, folder / EMULATED)
    told = _Told(times.here, times.device.missing, times.warnings)
    (folder / FILE).write_text(text_of(_ADAPTER, told), encoding="utf-8")


def load_times(folder: Path, labels: Iterable[str]) -> Times | None:
    """Return what `save_times` wrote of the files with these labels; None where nothing did. BadInput names the file.

    A record that is missing was not taken.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    told = read(_ADAPTER, file.read_bytes(), str(file))
    names = [file_name(label) for label in labels]
    measured = (measurement.load(folder / name) for name in names if (folder / name).is_file())
    emulated = folder / EMULATED
    simulations = (inference.load(emulated / name) for name in names if (emulated / name).is_file())
    return Times(tuple(measured), DeviceTimes(tuple(simulations), told.missing), told.here, told.warnings)


def latency(one: Measurement) -> str:
    """Return a median with half the width of its 95 % interval: "317 µs ±1 %"."""
    low, high = one.median_interval_s
    return f"{show_seconds(one.median_s)} ±{50 * (high - low) / one.median_s:.0f} %"


def place(measured: Sequence[Measurement], device: str, *, here: bool, local: str = "this machine") -> str:
    """Say where figures were taken, and that it was not on the device where it was not.

    `here`: whether it was; `local`: what a reader calls the machine that measured itself.
    """
    first = measured[0]
    streams = f", {first.streams} streams" if first.streams > 1 else ""
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}{streams}"
    counts = [len(one.processes) for one in measured]  # where a device was lost, some have one fewer
    processes = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    how = f"{first.scenario}, {threads}, {processes} fresh processes each"
    machine = local if first.place.target == "local" else first.place.target
    if here:
        return f"{machine}, a {device} ({first.place.name}; {how})"
    return f"{machine} ({first.place.name}; {how}), NOT on a {device}"


def time_lines(times: DeviceTimes, title: str) -> list[str]:
    """Return what the files of a build would take on the device, and why there is no figure where there is none."""
    found = [(one, one.estimate) for one in times.simulations if one.estimate is not None]
    if not found:
        return list(times.missing)
    threads = found[0][0].threads
    shown = ", ".join(f"{one.label} {estimate.shown}" for one, estimate in found)
    return [f"on a {title}, {threads} thread{'s' if threads > 1 else ''}: {shown}", *times.missing]
