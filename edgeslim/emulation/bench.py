"""Bench an artifact without its device: count what each file takes on the emulated core, estimate times from that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeslim.deploy.device import Candidate
from edgeslim.deploy.libraries import Libraries, libraries
from edgeslim.deploy.run_model import saving, sha256_of
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.emulation.core import TIME_LIMIT_S, Emulator, open_emulator
from edgeslim.emulation.estimator import EnergyEstimate, Estimate, estimate, estimate_energy, estimator_of, speedup
from edgeslim.emulation.inference import EmulatedInference
from edgeslim.errors import DeviceFailed, MissingPackage, Refused, ToolFailed
from edgeslim.measure.entries import Entry, golden_doubt, keep, measurable
from edgeslim.measure.placement import with_placement
from edgeslim.progress import ProgressCallback, StagedProgress, silent
from edgeslim.readable import Readable

SCHEME = "emulator"


class NoLibrary(ToolFailed):
    """A runtime cannot be had for the device's architecture; another one may."""


@dataclass(frozen=True)
class Skipped:
    """A file that could not be run on the emulated device: why, what to do about it, and if its profile knows of it."""

    label: str
    reason: str
    known: bool = False


@dataclass(frozen=True)
class EmulationReport(Readable, view="emulation:emulation_table"):
    """What emulation found, a file each; `folder` holds it too, None for an archive, which keeps nothing."""

    device: DeviceProfile
    simulations: tuple[EmulatedInference, ...]
    skipped: tuple[Skipped, ...]
    folder: Path | None


def emulate(
    path: str | Path,
    *,
    device: str | None = None,
    threads: int = 1,
    time_limit_s: float = TIME_LIMIT_S,
    progress: ProgressCallback = silent,
) -> EmulationReport:
    """Count what one inference of every file of an artifact takes on the emulated core of a device.

    `device` is a profile's name or file, by default the one the artifact was built for. The real runtime library of the
    device's architecture runs in the C agent under QEMU; golden vectors are replayed there first. `threads` is what
    times are estimated for. `time_limit_s` is for each process. A file that fails is skipped with the reason; where all
    are, DeviceFailed has every one. Raises BadInput, IntegrityFailed, ToolFailed, and Refused for a number of threads
    whose speed-up nobody knows.
    """
    path = Path(path)
    stages = StagedProgress(progress)
    stages.begin("emulating")
    with measurable(path) as (manifest, entries):
        profile = load_profile(device or manifest.compatible.device)
        if profile.estimator is not None:
            speedup(profile.estimator, threads)
        found: list[EmulatedInference] = []
        skipped: list[Skipped] = []
        with open_emulator(profile) as emulator:
            for number, entry in enumerate(entries):
                label = entry.candidate.label
                stages(label, number, len(entries))
                try:
                    found.append(simulated(entry, emulator, threads, time_limit_s))
                except (DeviceFailed, NoLibrary) as error:
                    skipped.append(skipped_for(error, entry, profile))
    require_some(found, skipped, profile)
    return EmulationReport(profile, tuple(found), tuple(skipped), keep(found, path, f"{SCHEME}-{profile.name}"))


def simulated(
    entry: Entry, emulator: Emulator, threads: int = 1, time_limit_s: float = TIME_LIMIT_S
) -> EmulatedInference:
    """Return what one inference of an artifact's file takes, after its golden vectors were replayed there."""
    inputs = entry.folder / entry.model.inputs[0].golden_inputs
    outputs = [emulator.work_path(f"output_{place}.npy") for place in range(len(entry.model.outputs))]
    _library(entry.candidate, emulator)
    emulator.run(entry.candidate, ["--inputs", str(inputs), *saving(outputs)], time_limit_s)
    seen = golden_doubt(entry, [np.load(file) for file in outputs], emulator.machine)
    one = count_inference(entry.candidate, inputs, emulator, threads, time_limit_s)
    return replace(one, golden_samples=len(entry.golden_inputs), seen=(*seen, *one.seen))


def count_inference(
    candidate: Candidate, inputs: Path, emulator: Emulator, threads: int = 1, time_limit_s: float = TIME_LIMIT_S
) -> EmulatedInference:
    """Return what one inference of a file takes on an emulated core, with warm caches; `inputs` is an .npy of samples.

    Raises NoLibrary where the runtime cannot be had for the core, DeviceFailed and ToolFailed as `Emulator.count` does.
    """
    library = _library(candidate, emulator)
    session, counts = emulator.inference(candidate, ["--inputs", str(inputs)], record=True, timeout_s=time_limit_s)
    profile = emulator.profile
    time, energy, reason = _estimated(counts, profile, candidate, threads)
    one = EmulatedInference(
        label=candidate.label,
        runtime=candidate.runtime,
        runtime_version=session.hello.runtime_version or library.version,
        library=library.main.name,
        model=candidate.model.name,
        model_sha256=sha256_of(candidate.model),
        precision_requested=candidate.precision,
        precision_actual=session.precision_actual or "not reported",
        executors=session.executors,
        device=profile.name,
        core=profile.cores[0].name,
        emulator=emulator.name,
        caches=emulator.caches,
        threads=threads,
        counts=counts,
        golden_samples=0,
        seen=(),
        estimate=time,
        energy=energy,
        no_estimate=reason,
    )
    return with_placement(one, None)


def _library(candidate: Candidate, emulator: Emulator) -> Libraries:
    try:
        return libraries(candidate.runtime, emulator.profile.architecture)
    except (MissingPackage, ToolFailed) as error:
        raise NoLibrary(error.sentence) from error


def _estimated(
    counts: dict[str, int], profile: DeviceProfile, candidate: Candidate, threads: int
) -> tuple[Estimate | None, EnergyEstimate | None, str | None]:
    """Return the time and energy that counts come to, or why no time is known."""
    try:
        time = estimate(counts, estimator_of(profile), candidate.runtime, candidate.precision, threads)
    except Refused as error:
        return None, None, error.sentence
    return time, estimate_energy(time, profile.power), None


def skipped_for(error: DeviceFailed | ToolFailed, entry: Entry, profile: DeviceProfile) -> Skipped:
    """Return why a file did not run, with what the profile knows of its precision in its runtime."""
    label = entry.candidate.label
    if isinstance(error, DeviceFailed) and error.status == "timeout":
        text = f"{error.message}\nemulation is some hundred times slower than the device: --time-limit gives it longer"
        return Skipped(label, text)
    known = profile.failure(entry.candidate.runtime, entry.candidate.precision)
    if known is not None and known.effect == "fails":
        return Skipped(label, f"{error.message}\nthe profile of {profile.name} knows of it: {known.text}", known=True)
    return Skipped(label, error.sentence)


def require_some(found: Sequence[object], skipped: Sequence[Skipped], profile: DeviceProfile) -> None:
    """Raise DeviceFailed with every reason where no file ran."""
    if not found:
        reasons = "\n".join(f"  - {one.label}: {one.reason}" for one in skipped)
        raise DeviceFailed(f"no file runs on an emulated {profile.name}:\n{reasons}")
