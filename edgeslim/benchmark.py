"""Measure artifacts where they can be measured, and keep what was measured beside them."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np

from edgeslim.artifact.archive import MEASUREMENTS, check_integrity, open_artifact
from edgeslim.artifact.golden import golden_fault
from edgeslim.artifact.manifest import Manifest, ModelFile
from edgeslim.artifact.records import Record, save
from edgeslim.comparison import Comparison
from edgeslim.comparison import compare as compared
from edgeslim.deploy.device import Candidate, Device, open_device
from edgeslim.deploy.installed import runtime_available
from edgeslim.devices.machine import Machine
from edgeslim.emulated_inference import EmulatedInference
from edgeslim.energy import Span
from edgeslim.errors import BadInput, DeviceFailed, InvalidMeasurement, ToolFailed, near_misses
from edgeslim.harness import Metering, Unfinished, Workload, measure, outputs_on
from edgeslim.measurement import Caution, Measurement, load
from edgeslim.meters import METERS, Reading, Sampling, Watts, csv_trace

TRACE, TRACE_WAIT_S = "csv:", 600.0  # for the person at the meter to save it
TRACE_SETTLES_S = 2.0  # a file that nobody has written to for so long is whole
CUT_SHORT = "cut_short.jsonl"
LONGEST_PLACE = 80  # characters of an address in a folder's name
METERED_S, METERED_PAUSE_S = 10.0, 5.0  # the shortest window and pause of which an energy is believed


class CutOff(Unfinished):
    """A bench whose device was lost; what was complete before lies in `folder`, if it could be kept."""

    def __init__(self, cause: Unfinished, folder: Path | None) -> None:
        super().__init__(cause, cause.measurements)
        self.folder = folder

    def __str__(self) -> str:
        kept = "" if self.folder is None else f"\nwhat was complete before is kept in {self.folder}, marked partial"
        return f"{super().__str__()}{kept}"


@dataclass(frozen=True)
class BenchReport:
    """What a bench measured, a file each; `folder` holds every raw time, None for an archive, which keeps nothing."""

    measurements: tuple[Measurement, ...]
    folder: Path | None


@dataclass(frozen=True)
class Entry:
    """One file of an artifact and its candidate."""

    candidate: Candidate
    model: ModelFile
    folder: Path

    @property
    def golden_inputs(self) -> np.ndarray:
        """The golden inputs in this file's layout and type, samples on axis 0."""
        return np.asarray(np.load(self.folder / self.model.inputs[0].golden_inputs))


def bench(
    path: Path,
    *,
    on: str = "local",
    workload: Workload | None = None,
    library: str | None = None,
    meter: str | None = None,
    require_accelerator: str | None = None,
    any_device: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> BenchReport:
    """Measure every file of an artifact on a device, fp32 beside INT8, in interleaved fresh processes.

    `on`: "local" (this machine), "ssh://user@host:port" or "fake:FOLDER". Each file's golden vectors are replayed there
    first, and a wrong answer is a caution of the measurement. `library` names a runtime's library on the device;
    `meter`: "auto", one of METERS or "csv:FILE"; `require_accelerator`: what must have executed every node,
    in the runtime's own word for it; `any_device`: also on a device of another architecture than the artifact was built
    for. Raw times are saved in a folder of their own in the artifact's `measurements/` (an archive is only
    read). Raises BadInput, IntegrityFailed, and DeviceFailed; CutOff, a kind of it, has what was complete before.
    """
    workload = workload or Workload()
    with open_artifact(path) as artifact:
        check_integrity(artifact.folder)
        if path.is_dir():
            require_writable(path)
        entries = entries_of(artifact.folder, artifact.manifest)
        with open_device(on, library) as device:
            require_architecture(device, artifact.manifest, any_device=any_device)
            metering = _metering(device, meter)
            if metering is not None:
                workload = metered(workload)
            try:
                measured = bench_entries(entries, device, workload, metering, progress, require_accelerator)
            except Unfinished as error:
                raise CutOff(error, keep(error.measurements, path, on, error.lines)) from error
    return BenchReport(tuple(measured), keep(measured, path, on))


def entries_of(folder: Path, manifest: Manifest, only: str | None = None) -> list[Entry]:
    """Return an artifact's files whose runtime is installed; `only` is the path of one of them.

    Those of a GPU's artifact ask for its execution provider: where that is missing nothing runs in its place.
    Raises BadInput where there is none.
    """
    asked = () if manifest.gpu is None else manifest.gpu.agent_arguments
    found = [
        Entry(
            Candidate(f"{model.format} {model.precision}", model.runtime, folder / model.path, model.precision, asked),
            model,
            folder,
        )
        for model in manifest.models
        if runtime_available(model.runtime) is not None and only in (None, model.path)
    ]
    if not found:
        raise BadInput("none of the artifact's runtimes is installed; `edgeslim doctor` says how to install them")
    return found


def bench_entries(
    entries: Sequence[Entry],
    device: Device,
    workload: Workload,
    metering: Metering | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    require_accelerator: str | None = None,
) -> list[Measurement]:
    """Measure files on a device, after their golden vectors were replayed there; wrong answers and placement are said.

    Raises what `measure` does.
    """
    faults = {entry.candidate.label: _golden_caution(entry, device, workload) for entry in entries}

    def judged(measured: Sequence[Measurement]) -> list[Measurement]:
        seen = [replace(one, seen=(*one.seen, *faults[one.label])) for one in measured]
        return [with_placement(one, require_accelerator) for one in seen]

    try:
        measured = measure(
            [entry.candidate for entry in entries],
            {_takes(entry): entry.golden_inputs for entry in entries},
            workload,
            device=device,
            metering=metering,
            progress=progress,
        )
    except Unfinished as error:
        raise Unfinished(error, judged(error.measurements)) from error
    return judged(measured)


def _takes(entry: Entry) -> str:
    """Return for what an entry's inputs are: its runtime, whose float files take the same, or an int8 file alone."""
    return entry.model.runtime if entry.model.inputs[0].dtype == "float32" else entry.candidate.label


def metered(workload: Workload) -> Workload:
    """Return a workload with windows and pauses long enough to read a power in, even against its own longest time."""
    longest_s = workload.max_duration_s
    return replace(
        workload,
        min_duration_s=max(workload.min_duration_s, METERED_S),
        max_duration_s=None if longest_s is None else max(longest_s, METERED_S),
        cool_down_s=max(workload.cool_down_s, METERED_PAUSE_S),
    )


def require_architecture(device: Device, manifest: Manifest, *, any_device: bool) -> None:
    """Raise DeviceFailed for a device of another architecture than the artifact's; this machine is always allowed."""
    built_for, has = manifest.compatible.architecture, device.machine.architecture
    if has != built_for and not any_device and device.target.address != "local":
        raise DeviceFailed(
            f"{device.target.address} is {has}; the artifact was built for {manifest.compatible.device}, {built_for} "
            "(--any-device measures it all the same)",
            "wrong-architecture",
        )


Ran = TypeVar("Ran", Measurement, EmulatedInference)


def with_placement(one: Ran, accelerator: str | None) -> Ran:
    """Return a record with a caution where what ran is not what was asked for."""
    doubts: list[Caution] = placement_doubts(one.precision_requested, one.precision_actual, one.executors, accelerator)
    return replace(one, seen=(*one.seen, *doubts))


def placement_doubts(
    requested: str, actual: str, executors: Mapping[str, int], accelerator: str | None = None
) -> list[Caution]:
    """Return a caution for each way in which what ran is not what was asked for, by the runtime's own record."""
    seen: list[Caution] = []
    ran = actual.split("+")
    if requested == "fp32" and {"fp16", "bf16"} & set(ran):
        text = f"fp32 was asked for, {actual} ran"
        seen.append(Caution("fallback", text, "compare it with other fp16 figures, not with fp32"))
    if requested == "fp16" and "fp16" not in ran:
        text = f"fp16 was asked for, {actual} ran"
        seen.append(Caution("fallback", text, "ONNX Runtime's CPU computes fp16 in fp32; it says nothing about a GPU"))
    if requested == "int8" and not {"int8", "uint8"} & set(ran):
        text = f"int8 was asked for, {actual} ran"
        seen.append(Caution("fallback", text, "`edgeslim inspect` shows which layers the file holds as int8"))
    others = {name: count for name, count in executors.items() if accelerator and accelerator not in name}
    if others:
        ran_there = ", ".join(f"{count} nodes on {name}" for name, count in others.items())
        text = f"{accelerator} was required; by the runtime's record {ran_there}"
        seen.append(Caution("fallback", text, "look for operators the accelerator lacks, or for its missing driver"))
    return seen


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
        raise InvalidMeasurement(str(error)) from error


def meter_module(name: str) -> ModuleType:
    """Return the module of a meter."""
    return import_module(f"edgeslim.meters.{name}")


def _metering(device: Device, name: str | None) -> Metering | None:
    return None if name is None else find_meter(device, name)


def _golden_caution(entry: Entry, device: Device, workload: Workload) -> list[Caution]:
    outputs = outputs_on(device, entry.candidate, entry.golden_inputs, workload)
    return golden_doubt(entry, outputs, device.machine)


def golden_doubt(entry: Entry, outputs: np.ndarray, machine: Machine) -> list[Caution]:
    """Return a caution where a file's outputs for its golden inputs on a machine are not the golden ones."""
    fault = golden_fault(entry.model, outputs, np.load(entry.folder / entry.model.golden_outputs), machine)
    return [Caution("golden", fault, "`edgeslim verify` replays the golden vectors here")] if fault else []


def require_writable(folder: Path) -> None:
    """Raise BadInput where measurements could not be kept, before an hour is spent on them."""
    place = folder / MEASUREMENTS
    try:
        with tempfile.TemporaryFile(dir=place if place.is_dir() else folder):
            pass
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be written to ({error.strerror}), and measurements are kept there; "
            "bench its archive to keep none"
        ) from error


def keep(measured: Sequence[Record], path: Path, on: str, cut_short: Sequence[str] = ()) -> Path | None:
    """Save measurements, or other records, in a new folder beside an artifact, and return it; an archive keeps none.

    `cut_short` is what a process that did not end had said: it counts for nothing, and is kept to be looked at.
    """
    if not path.is_dir() or not (measured or cut_short):
        return None
    place = "".join(letter if letter.isalnum() else "-" for letter in on)[:LONGEST_PLACE]
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{place}"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))  # two may end in one second
    folder = next(one for one in (path / MEASUREMENTS / name for name in names) if not one.exists())
    try:
        save(measured, folder)
        if cut_short:
            (folder / CUT_SHORT).write_text("".join(f"{line}\n" for line in cut_short), encoding="utf-8")
    except OSError as error:
        raise ToolFailed(f"{folder}: the measurements cannot be kept: {error.strerror}") from error
    return folder


def compare(
    a: Path,
    b: Path,
    *,
    on: str = "local",
    workload: Workload | None = None,
    library: str | None = None,
    any_device: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Compare b with a: two saved measurements (.json), or the primary files of two artifacts, measured interleaved.

    Raises BadInput where the two were not taken alike, and what `bench` raises.
    """
    if a.suffix == b.suffix == ".json":
        return compared(load(a), load(b), paired=False)
    with open_artifact(a) as first, open_artifact(b) as second, open_device(on, library) as device:
        entries: list[Entry] = []
        for path, artifact in ((a, first), (b, second)):
            check_integrity(artifact.folder)
            require_architecture(device, artifact.manifest, any_device=any_device)
            if artifact.manifest.primary is None:
                raise BadInput(f"{path} has no primary file to compare: it was rejected")
            if artifact.manifest.compiled is not None:
                raise BadInput(f"{path}: its primary file runs on an Ethos-U, which edgeslim cannot time")
            (entry,) = entries_of(artifact.folder, artifact.manifest, artifact.manifest.primary)
            again = " (again)" if entries and a == b else ""  # one label is one candidate
            label = f"{path}: {entry.candidate.label}{again}"
            entries.append(replace(entry, candidate=replace(entry.candidate, label=label)))
        one, other = bench_entries(entries, device, workload or Workload(), progress=progress)
    return compared(one, other, paired=True)
