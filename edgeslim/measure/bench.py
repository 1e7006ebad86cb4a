"""Measure artifacts where they can be measured, and keep what was measured beside them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeslim.artifact.archive import Artifact, check_integrity, open_artifact
from edgeslim.artifact.manifest import Manifest
from edgeslim.deploy.device import Device, open_device
from edgeslim.errors import BadInput, DeviceFailed
from edgeslim.measure.artifact_changes import compare_manifests
from edgeslim.measure.comparison import METRICS, Comparison
from edgeslim.measure.comparison import compare as compared
from edgeslim.measure.entries import Entry, entries_of, golden_doubt, keep, measurable
from edgeslim.measure.harness import Unfinished, Workload, measure, outputs_on
from edgeslim.measure.measurement import Caution, Measurement, load
from edgeslim.measure.meters.find import Metering, find_meter
from edgeslim.measure.placement import with_placement
from edgeslim.progress import ProgressCallback, StagedProgress, Tell, silent
from edgeslim.readable import Readable

METERED_S, METERED_PAUSE_S = 10.0, 5.0  # the shortest window and pause of which an energy is believed


class CutOff(Unfinished):
    """A bench whose device was lost; what was complete before is in `report`, and in its folder if it could be kept."""

    def __init__(self, cause: Unfinished, folder: Path | None, manifest: Manifest) -> None:
        super().__init__(cause, cause.measurements)
        self.report = BenchReport(tuple(cause.measurements), folder, manifest)
        if folder is not None:
            self.message += f"\nwhat was complete before is kept in {folder}, marked partial"


@dataclass(frozen=True)
class BenchReport(Readable, view="measurements:bench_view"):
    """What a bench measured, a file each, of the artifact with that manifest.

    `folder` holds every raw time; None for an archive, which keeps nothing.
    """

    measurements: tuple[Measurement, ...]
    folder: Path | None
    manifest: Manifest


def bench(
    path: str | Path,
    *,
    on: str = "local",
    workload: Workload | None = None,
    library: str | None = None,
    meter: str | None = None,
    require_accelerator: str | None = None,
    any_device: bool = False,
    progress: ProgressCallback = silent,
) -> BenchReport:
    """Measure every file of an artifact on a device, fp32 beside INT8, in interleaved fresh processes.

    `on`: "local" (this machine), "ssh://user@host:port" or "fake:FOLDER". Each file's golden vectors are replayed there
    first, and a wrong answer is a caution of the measurement. `library` names a runtime's library on the device;
    `meter`: "auto", one of METERS or "csv:FILE"; `require_accelerator`: what must have executed every node,
    in the runtime's own word for it; `any_device`: also on a device of another architecture than the artifact was built
    for. Raw times are saved in a folder of their own in the artifact's `measurements/` (an archive is only
    read). Raises BadInput, IntegrityFailed, and DeviceFailed; CutOff, a kind of it, has what was complete before.
    """
    path = Path(path)
    workload = workload or Workload()
    stages = StagedProgress(progress)
    stages.begin("measuring")
    with measurable(path) as (manifest, entries), open_device(on, library) as device:
        require_architecture(device, manifest, any_device=any_device)
        metering = _metering(device, meter)
        if metering is not None:
            workload = metered(workload)
        try:
            measured = bench_entries(entries, device, workload, metering, stages, require_accelerator)
        except Unfinished as error:
            raise CutOff(error, keep(error.measurements, path, on, error.lines), manifest) from error
    return BenchReport(tuple(measured), keep(measured, path, on), manifest)


def bench_entries(
    entries: Sequence[Entry],
    device: Device,
    workload: Workload,
    metering: Metering | None = None,
    progress: Tell = silent,
    require_accelerator: str | None = None,
) -> list[Measurement]:
    """Measure files on a device, after their golden vectors were replayed there; wrong answers and placement are said.

    Raises what `measure` does.
    """
    faults = {}
    for number, entry in enumerate(entries):
        progress("replaying golden vectors", number, len(entries))
        faults[entry.candidate.label] = _golden_caution(entry, device, workload)

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


def _metering(device: Device, name: str | None) -> Metering | None:
    return None if name is None else find_meter(device, name)


def _golden_caution(entry: Entry, device: Device, workload: Workload) -> list[Caution]:
    outputs = outputs_on(device, entry.candidate, entry.golden_inputs, workload, len(entry.model.outputs))
    return golden_doubt(entry, outputs, device.machine)


def compare(
    a: str | Path,
    b: str | Path,
    *,
    on: str = "local",
    workload: Workload | None = None,
    library: str | None = None,
    any_device: bool = False,
    progress: ProgressCallback = silent,
) -> Comparison:
    """Compare b with a: two saved measurements (.json), or the primary files of two artifacts, measured interleaved.

    Of artifacts their sizes, scores and verdicts too. A primary file that runs on an accelerator which edgeslim cannot
    time is compared by these alone, and no device is asked. Raises BadInput where the two were not taken alike, and
    what `bench` raises.
    """
    a, b = Path(a), Path(b)
    if a.suffix == b.suffix == ".json":
        return compared(load(a), load(b), paired=False)
    stages = StagedProgress(progress)
    stages.begin("comparing")
    with open_artifact(a) as first, open_artifact(b) as second:
        sides = {f"{a}": first, f"{b}{' (again)' if a == b else ''}": second}  # one label is one candidate
        untimed = []
        for name, artifact in sides.items():
            check_integrity(artifact.folder)
            if artifact.manifest.answering is None:
                raise BadInput(f"{name} has no primary file to compare: it was rejected")
            if artifact.manifest.answering.path != artifact.manifest.primary:
                untimed.append(f"{name}: its primary file runs on the device's accelerator, which edgeslim cannot time")
        said = compare_manifests(first.manifest, second.manifest)
        if untimed:
            one, other = (f"{name}: {artifact.manifest.primary}" for name, artifact in sides.items())
            return Comparison(one, other, False, {}, dict.fromkeys(METRICS, "; ".join(untimed)), (), said)
        with open_device(on, library) as device:
            for artifact in sides.values():
                require_architecture(device, artifact.manifest, any_device=any_device)
            entries = [_primary_entry(name, artifact) for name, artifact in sides.items()]
            before, after = bench_entries(entries, device, workload or Workload(), progress=stages)
    return replace(compared(before, after, paired=True), artifacts=said)


def _primary_entry(name: str, artifact: Artifact) -> Entry:
    """Return the file of an artifact that the device should run, named after the artifact."""
    (entry,) = entries_of(artifact.folder, artifact.manifest, artifact.manifest.primary)
    return replace(entry, candidate=replace(entry.candidate, label=f"{name}: {entry.candidate.label}"))
