"""Does it fit? Every file of an artifact run on an emulated machine with the device's core and a given memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.artifact.records import text_of
from edgeslim.deploy.device import Device
from edgeslim.deploy.run_model import saving, sha256_of
from edgeslim.deploy.targets.ssh import open_target
from edgeslim.devices.machine import MEMINFO, available_bytes
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.emulation.bench import SCHEME, Skipped, require_some, skipped_for
from edgeslim.emulation.core import TIME_LIMIT_S, require_emulation
from edgeslim.emulation.virtual_machine import REMOTE, require_ram, running_machine
from edgeslim.errors import DeviceFailed, ToolFailed
from edgeslim.measure.entries import Entry, golden_doubt, keep, measurable
from edgeslim.measure.harness import fetched
from edgeslim.measure.measurement import Caution, Kind
from edgeslim.measure.placement import placement_doubts
from edgeslim.progress import ProgressCallback, StagedProgress, silent
from edgeslim.readable import Readable
from edgeslim.units import show_memory
from edgeslim.work_folders import work_folder

FORMAT: Literal["edgeslim-fit/1"] = "edgeslim-fit/1"
RUNS = ("--warmup", "0", "--iterations", "5", "--graph")  # after the golden vectors, in the same process

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@validated_dataclass(frozen=True, config=_STRICT)
class MemoryFit:
    """Whether one model runs in one runtime in a machine's memory, with its processor and memory emulated.

    The sizes are simulated: a real Linux counted them, on emulated hardware; they are None where the kernel ended the
    process because memory ran out, and `reason` has its words. `ram_bytes` is the whole memory, `available_bytes` what
    the system left of it; `golden_samples` golden vectors were replayed. `precision_actual` and `executors` are by the
    runtime's own record. Times under an emulator mean nothing, so there is none.
    """

    label: str
    runtime: str
    runtime_version: str | None
    library: str
    model: str
    model_sha256: str
    precision_requested: str
    precision_actual: str | None
    executors: dict[str, int]
    device: str
    core: str
    threads: int
    ram_bytes: int
    available_bytes: int
    fits: bool
    reason: str | None
    peak_rss_bytes: int | None
    runtime_rss_bytes: int | None
    arena_bytes: int | None
    golden_samples: int
    seen: tuple[Caution, ...]
    kind: Literal["simulated"] = "simulated"
    format: Literal["edgeslim-fit/1"] = FORMAT

    def failing(self, kinds: tuple[Kind, ...]) -> list[Caution]:
        """Return the cautions of some kinds."""
        return [caution for caution in self.seen if caution.kind in kinds]

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return text_of(_ADAPTER, self)


_ADAPTER = TypeAdapter(MemoryFit)


@dataclass(frozen=True)
class FitReport(Readable, view="emulation:fit_table"):
    """What was found, a file each, and which files could not be asked; `folder` holds it too, None for an archive."""

    device: DeviceProfile
    found: tuple[MemoryFit, ...]
    skipped: tuple[Skipped, ...]
    folder: Path | None


def fits(
    path: str | Path,
    ram_bytes: int,
    *,
    device: str | None = None,
    threads: int = 1,
    time_limit_s: float = TIME_LIMIT_S,
    progress: ProgressCallback = silent,
) -> FitReport:
    """Run every file of an artifact on an emulated machine with so much memory, and say which of them fit.

    `device` is a profile's name or file, by default the one the artifact was built for. Each file is deployed over ssh
    with its runtime, replays its golden vectors and runs on in one process, which the kernel ends if memory runs out:
    that is a result, and the others go on. What fails in another way is skipped with the reason; where all are,
    DeviceFailed has every one. `time_limit_s` is for each process. Raises BadInput, IntegrityFailed and
    ToolFailed.
    """
    path = Path(path)
    require_ram(ram_bytes)
    stages = StagedProgress(progress)
    stages.begin(f"running with {show_memory(ram_bytes)} of memory")
    with measurable(path) as (manifest, entries):
        profile = load_profile(device or manifest.compatible.device)
        found: list[MemoryFit] = []
        skipped: list[Skipped] = []
        with open_machine(profile, ram_bytes) as opened:
            free_bytes = available_bytes(opened.target.look([MEMINFO]))
            for number, entry in enumerate(entries):
                stages(entry.candidate.label, number, len(entries))
                try:
                    found.append(_fit(entry, opened, profile, (ram_bytes, free_bytes), threads, time_limit_s))
                except (DeviceFailed, ToolFailed) as error:
                    skipped.append(skipped_for(error, entry, profile))
    require_some(found, skipped, profile)
    return FitReport(profile, tuple(found), tuple(skipped), keep(found, path, f"{SCHEME}-{profile.name}-{ram_bytes}"))


@contextmanager
def open_machine(profile: DeviceProfile, ram_bytes: int) -> Iterator[Device]:
    """Boot a machine with a device's core and so much memory, and yield it as a device; it ends with the context."""
    emulation = require_emulation(profile)
    with (
        running_machine(emulation.qemu_cpu, ram_bytes) as machine,
        open_target(
            machine.address, config=machine.ssh_config, root=REMOTE, called=f"{SCHEME}:{profile.name}"
        ) as target,
    ):
        yield Device(target)


def _fit(
    entry: Entry, device: Device, profile: DeviceProfile, memory: tuple[int, int], threads: int, time_limit_s: float
) -> MemoryFit:
    """Run one file; `memory` is the whole and what is available, in bytes."""
    candidate, target = entry.candidate, device.target
    deployed = device.deployed(candidate.runtime)
    if deployed.agent != "c":
        raise ToolFailed(f"the machine has no Python, so only the C agent runs there: {deployed.agent}")
    made = [target.work_path(f"output_{place}.npy") for place in range(len(entry.model.outputs))]
    inputs = target.push(entry.folder / entry.model.inputs[0].golden_inputs)
    wishes = ["--threads", str(threads), "--inputs", inputs, *saving(made), *RUNS]
    session, reason, seen = None, None, list[Caution]()
    try:
        session = device.run(candidate, wishes, time_limit_s)
    except DeviceFailed as error:
        if error.status != "oom":
            raise
        reason = error.message.splitlines()[0]  # what the agent wrote to stderr before it says nothing of it
    else:
        with work_folder() as folder:
            seen = golden_doubt(entry, fetched(target, made, folder), device.machine)
        seen += placement_doubts(candidate.precision, session.precision_actual or "not reported", session.executors)
    return MemoryFit(
        label=candidate.label,
        runtime=candidate.runtime,
        runtime_version=(session.hello.runtime_version if session else None) or deployed.version,
        library=deployed.library,
        model=candidate.model.name,
        model_sha256=sha256_of(candidate.model),
        precision_requested=candidate.precision,
        precision_actual=session.precision_actual if session else None,
        executors=session.executors if session else {},
        device=profile.name,
        core=profile.cores[0].name,
        threads=threads,
        ram_bytes=memory[0],
        available_bytes=memory[1],
        fits=session is not None,
        reason=reason,
        peak_rss_bytes=session.memory.peak_rss_bytes if session else None,
        runtime_rss_bytes=session.memory.rss_before_load_bytes if session else None,
        arena_bytes=session.memory.arena_bytes if session else None,
        golden_samples=len(entry.golden_inputs) if session else 0,
        seen=tuple(seen),
    )
