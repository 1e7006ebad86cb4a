"""Run models in fresh processes through an agent on a device, and measure them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from edgeslim.deploy.agent_session import Session
from edgeslim.deploy.device import Candidate, CutShort, Device
from edgeslim.deploy.installed import require_runtime
from edgeslim.deploy.run_model import SAMPLE_TIMEOUT_S, START_TIMEOUT_S, saved_as_npy, saving, sha256_of
from edgeslim.deploy.targets import Target
from edgeslim.deploy.targets.local import open_target
from edgeslim.devices.machine import Machine
from edgeslim.errors import DeviceFailed, InvalidMeasurement
from edgeslim.measure import conditions
from edgeslim.measure.energy import Window, disturbed, energy
from edgeslim.measure.measurement import Caution, Measurement, Place, Power, ProcessRun
from edgeslim.measure.meters.find import Metering
from edgeslim.measure.sampling import Sampler, sampling
from edgeslim.progress import Tell, silent
from edgeslim.work_folders import work_folder

FEWEST_ITERATIONS = 5
CONTROL_S = 1.0


@dataclass(frozen=True)
class Workload:
    """How models are run: `streams` copies of `threads` threads each, for so long, in so many fresh processes.

    Without `streams` there is one, or offline one for each core of the device. Without `warmup` the agent warms up
    until the times are steady. `cool_down_s` is the pause before each process.
    """

    scenario: Literal["single-stream", "offline", "sustained"] = "single-stream"
    threads: int = 1
    streams: int | None = None
    affinity: str | None = None
    processes: int = 9
    min_duration_s: float = 0.3
    max_duration_s: float | None = None
    warmup: int | None = None
    cool_down_s: float = 0.0
    memory_limit_bytes: int | None = None

    @property
    def setting(self) -> list[str]:
        """The agent's options that hold for every process."""
        affinity = [] if self.affinity is None else ["--affinity", self.affinity]
        return ["--threads", str(self.threads), *affinity]

    @property
    def timing(self) -> list[str]:
        """The agent's options of a timed process."""
        most = [] if self.max_duration_s is None else ["--max-duration-s", str(self.max_duration_s)]
        warmup = [] if self.warmup is None else ["--warmup", str(self.warmup)]
        least = ["--iterations", str(FEWEST_ITERATIONS), "--min-duration-s", str(self.min_duration_s)]
        return [*self.setting, "--streams", str(self.streams or 1), *least, *most, *warmup]

    def on(self, machine: Machine) -> "Workload":
        """Return the same with the number of streams for a machine."""
        return replace(self, streams=self.streams or (machine.cores if self.scenario == "offline" else 1))

    @property
    def timeout_s(self) -> float:
        """How long one process may take."""
        return START_TIMEOUT_S + 2 * max(self.min_duration_s, self.max_duration_s or 0)


class Unfinished(DeviceFailed):
    """The device was lost before the last process; `measurements` holds what was complete, marked partial.

    `lines` is what the process that was cut short had written, where it could be fetched.
    """

    def __init__(self, cause: DeviceFailed, measurements: Sequence[Measurement]) -> None:
        super().__init__(cause.message, cause.status)
        self.measurements = tuple(measurements)
        self.lines: tuple[str, ...] = cause.lines if isinstance(cause, CutShort | Unfinished) else ()


def outputs_on(
    device: Device, candidate: Candidate, inputs: np.ndarray, workload: Workload, count: int
) -> list[np.ndarray]:
    """Run every sample of `inputs` on a device, with the agent that is measured there; return `count` outputs."""
    with work_folder() as folder:
        remote = device.target.push(saved_as_npy(inputs, folder, "inputs"))
        made = [device.target.work_path(f"output_{place}.npy") for place in range(count)]
        wishes = [*workload.setting, "--inputs", remote, *saving(made)]
        device.run(candidate, wishes, START_TIMEOUT_S + SAMPLE_TIMEOUT_S * len(inputs))
        return fetched(device.target, made, folder)


def fetched(target: Target, made: Sequence[str], folder: Path) -> list[np.ndarray]:
    """Return the arrays that an agent saved at some places of a target, brought into a folder here."""
    found = []
    for place, remote in enumerate(made):
        file = folder / f"output_{place}.npy"
        target.pull(remote, file)
        found.append(np.asarray(np.load(file, allow_pickle=False)))
    return found


def measure(
    candidates: Sequence[Candidate],
    inputs: np.ndarray | Mapping[str, np.ndarray | Sequence[np.ndarray]],
    workload: Workload = Workload(),
    *,
    device: Device | None = None,
    metering: Metering | None = None,
    progress: Tell = silent,
) -> list[Measurement]:
    """Measure the candidates on a device (this machine by default), each in fresh processes, interleaved.

    A round runs one process of every candidate and every second round goes backwards, so that what slows the machine
    meets all alike. What really runs is asked before, in a process of its own. `inputs` has the samples on axis 0: one
    array for all, or one for each runtime or label where they differ, or an array for each of a model's inputs.
    `progress(doing, done, total)` is called after each process. Raises BadInput, MissingPackage, InvalidMeasurement
    and DeviceFailed; Unfinished, a kind of it, holds the complete processes of a device that was lost.
    """
    for one in candidates:
        require_runtime(one.runtime)
    with ExitStack() as stack:
        if device is None:
            device = Device(stack.enter_context(open_target()))
        folder = Path(stack.enter_context(work_folder()))
        arrays = inputs if isinstance(inputs, Mapping) else {one.runtime: inputs for one in candidates}
        fed = {
            name: [
                word
                for place, array in enumerate([given] if isinstance(given, np.ndarray) else given)
                for word in ("--inputs", device.target.push(saved_as_npy(array, folder, f"inputs_{number}_{place}")))
            ]
            for number, (name, given) in enumerate(arrays.items())
        }
        workload = workload.on(device.machine)
        return _Rounds(device, tuple(candidates), fed, workload, metering, progress).measured()


@dataclass
class _Rounds:
    """The rounds of one call of `measure`, and what they have gathered so far."""

    device: Device
    candidates: tuple[Candidate, ...]
    fed: Mapping[str, Sequence[str]]  # the options that feed a candidate, by its label or its runtime
    workload: Workload
    metering: Metering | None
    progress: Tell
    records: dict[Candidate, Session] = field(default_factory=dict)
    runs: dict[Candidate, list[Session]] = field(default_factory=dict)
    controls: dict[Candidate, list[Session]] = field(default_factory=dict)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    samplers: list[Sampler] = field(default_factory=list)
    cautions: dict[str, Caution] = field(default_factory=dict)

    def measured(self) -> list[Measurement]:
        """Run all rounds and return a measurement for each candidate."""
        for one in self.candidates:
            self.runs[one], self.controls[one] = [], []
            self.records[one] = self._process(one, [*self.workload.setting, "--graph"])
        first = self._look()
        try:
            for number in range(self.workload.processes):
                self._round(self.candidates if number % 2 == 0 else self.candidates[::-1])
                for caution in conditions.cautions(first, self._look()):
                    self.cautions.setdefault(caution.kind, caution)
        except DeviceFailed as error:
            text = f"{error.status} after {min(map(len, self.runs.values()))} of {self.workload.processes} rounds"
            self.cautions["partial"] = Caution("partial", text, error.next_step)
            kept = [self._measurement(one) for one in self.candidates if self.runs[one]]
            raise Unfinished(error, kept) from error
        return [self._measurement(one) for one in self.candidates]

    def _round(self, order: Sequence[Candidate]) -> None:
        """Run one process of every candidate, and where a meter samples, one without it for each."""
        with self._sampling(order[0]) as sampler:
            for one in order:
                self._rest(sampler)
                self.runs[one].append(self._process(one, self.workload.timing))
                done = sum(map(len, self.runs.values()))
                self.progress(f"timing {one.label}", done, len(self.candidates) * self.workload.processes)
            if sampler is not None:
                self._rest(sampler)
        if self.metering is not None:
            control = replace(self.workload, min_duration_s=CONTROL_S)
            for one in order:
                self.controls[one].append(self._process(one, control.timing))

    @contextmanager
    def _sampling(self, one: Candidate) -> Iterator[Sampler | None]:
        if self.metering is None:
            with nullcontext():
                yield None
            return
        agent = self.device.deployed(one.runtime).program
        with sampling(self.device.target, agent, self.metering.what) as sampler:
            self.samplers.append(sampler)
            yield sampler

    def _rest(self, sampler: Sampler | None) -> None:
        if sampler is not None:
            self.pauses.append(sampler.pause(self.workload.cool_down_s))
        elif self.workload.cool_down_s:
            time.sleep(self.workload.cool_down_s)

    def _process(self, one: Candidate, wishes: Sequence[str]) -> Session:
        fed = self.fed[one.label if one.label in self.fed else one.runtime]
        return self.device.run(one, [*fed, *wishes], self.workload.timeout_s, self.workload.memory_limit_bytes)

    def _look(self) -> conditions.Conditions:
        return conditions.Conditions.of(self.device.target.look(conditions.PATTERNS))

    def _measurement(self, one: Candidate) -> Measurement:
        record, deployed, machine = self.records[one], self.device.deployed(one.runtime), self.device.machine
        power, doubts = self._power(one)
        return Measurement(
            label=one.label,
            runtime=one.runtime,
            runtime_version=record.hello.runtime_version or deployed.version or "not reported",
            agent=deployed.agent,
            library=deployed.library,
            model=one.model.name,
            model_sha256=sha256_of(one.model),
            precision_requested=one.precision,
            precision_actual=record.precision_actual or "not reported",
            executors=record.executors,
            scenario=self.workload.scenario,
            threads=self.workload.threads,
            streams=self.workload.streams or 1,
            affinity=self.workload.affinity,
            memory_limit_bytes=self.workload.memory_limit_bytes,
            kind="measured",
            place=Place(
                target=self.device.target.address,
                name=machine.board or machine.cpu_model,
                architecture=machine.architecture,
                cpu_model=machine.cpu_model,
                kernel=machine.kernel,
                governor=machine.governor,
                boot_id=machine.boot_id,
            ),
            processes=tuple(_process_run(run) for run in self.runs[one]),
            seen=(*self.cautions.values(), *doubts),
            power=power,
        )

    def _power(self, one: Candidate) -> tuple[Power | None, list[Caution]]:
        """Return what one candidate's windows drew, and whether the sampling slowed it."""
        if self.metering is None:
            return None, []
        how = self.metering
        windows = {of: [_window(run) for run in runs] for of, runs in self.runs.items()}
        at_work = [(window.began_s, window.ended_s) for of in windows.values() for window in of]
        medians, controls = ([_opening_s(run) for run in runs] for runs in (self.runs[one], self.controls[one]))
        try:
            readings = [reading for sampler in self.samplers for reading in sampler.readings]
            watts = how.watts(readings, at_work)
            power = energy(watts, windows[one], self.pauses, how.name, how.scope)
            doubt = disturbed(medians, controls)
        except InvalidMeasurement as error:
            return None, [Caution("power", error.message, "the latencies stand; the energy was not measured")]
        return power, [doubt] if doubt else []


def _window(session: Session) -> Window:
    if session.window is None:
        raise DeviceFailed("agent: a timed session without its window", "protocol")
    return Window(session.window.began_s, session.window.ended_s, session.window.inferences)


def _opening_s(session: Session) -> float:
    """Return the median time of a loop's first CONTROL_S: a later one may be slower because the device is warm."""
    times_s = np.array(session.samples_s)
    return float(np.median(times_s[: 1 + int(np.searchsorted(np.cumsum(times_s), CONTROL_S))]))


def _process_run(session: Session) -> ProcessRun:
    window = _window(session)
    return ProcessRun(
        init_s=session.init_s,
        first_s=session.first_s,
        samples_s=session.samples_s,
        peak_rss_bytes=session.memory.peak_rss_bytes,
        window_s=window.ended_s - window.began_s,
        runtime_rss_bytes=session.memory.rss_before_load_bytes,
        arena_bytes=session.memory.arena_bytes,
    )
