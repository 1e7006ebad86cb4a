"""Run models in fresh processes through the agent, and measure them."""

import hashlib
import importlib.metadata
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.bundled import bundled
from edgeslim.errors import BadInput, DeviceFailed, MissingPackage, near_misses
from edgeslim.machine import this_machine
from edgeslim.measurement import Measurement, Place, ProcessRun
from edgeslim.targets import Target
from edgeslim.targets.local import open_target

PROTOCOL = 1
FEWEST_ITERATIONS = 5
START_TIMEOUT_S = 300.0  # importing a runtime and compiling a large model on a slow board
SAMPLE_TIMEOUT_S = 5.0

# Runtime -> the extra that installs it, and the packages that hold it.
_RUNTIMES = {
    "onnxruntime": ("onnx", ("onnxruntime",)),
    "openvino": ("openvino", ("openvino",)),
    "litert": ("tflite", ("ai-edge-litert", "tflite-runtime")),
}
RUNTIMES = tuple(_RUNTIMES)

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Candidate:
    """One model file to measure; `precision` ("fp32" or "int8") is what it is meant to be."""

    label: str
    runtime: str
    model: Path
    precision: str


@validated_dataclass(frozen=True, config=_STRICT)
class GraphNode:
    """One node that a runtime executed, in the runtime's own words.

    `precision` is the dtype of the activation it works on ("fp32", "uint8"), `inputs` the dtypes of all its inputs,
    `origins` the model's nodes it was made from, where the runtime says so, and `executor` who ran it.
    """

    name: str
    op: str
    precision: str
    inputs: tuple[str, ...]
    origins: tuple[str, ...]
    executor: str


@validated_dataclass(frozen=True, config=_STRICT)
class Hello:
    """The first message: who speaks, and in which version of the protocol."""

    type: Literal["hello"]
    protocol: int
    agent: str
    runtime: str
    package: str | None
    runtime_version: str | None
    python: str
    machine: str


@validated_dataclass(frozen=True, config=_STRICT)
class OneTime:
    """Seconds of loading the model, or of the first inference."""

    type: Literal["init", "first"]
    seconds: float


@validated_dataclass(frozen=True, config=_STRICT)
class Times:
    """Raw times of inferences, in order."""

    type: Literal["time"]
    seconds: tuple[float, ...]


@validated_dataclass(frozen=True, config=_STRICT)
class Outputs:
    """The array of outputs that was saved on the device."""

    type: Literal["outputs"]
    path: str
    shape: tuple[int, ...]
    dtype: str


@validated_dataclass(frozen=True, config=_STRICT)
class Memory:
    """Resident sizes of the agent's process."""

    type: Literal["memory"]
    peak_rss_bytes: int
    rss_before_load_bytes: int


@validated_dataclass(frozen=True, config=_STRICT)
class Graph:
    """The nodes that were executed."""

    type: Literal["graph"]
    nodes: tuple[GraphNode, ...]


@validated_dataclass(frozen=True, config=_STRICT)
class Precision:
    """What was asked for and what ran."""

    type: Literal["precision"]
    requested: str
    actual: str


@validated_dataclass(frozen=True, config=_STRICT)
class Failed:
    """Why the agent gave up; the target raises with it when the process ends."""

    type: Literal["error"]
    reason: str
    message: str


@validated_dataclass(frozen=True, config=_STRICT)
class Done:
    """The last message of a session that succeeded."""

    type: Literal["done"]


Message = Hello | OneTime | Times | Outputs | Memory | Graph | Precision | Failed | Done
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


@dataclass(frozen=True)
class Session:
    """What one process of the agent reported; `graph` and `precision_actual` only where they were asked for."""

    runtime_version: str
    init_s: float
    first_s: float
    samples_s: tuple[float, ...]
    peak_rss_bytes: int
    rss_before_load_bytes: int
    graph: tuple[GraphNode, ...] | None
    precision_actual: str | None


def run_model(runtime: str, model: Path, inputs: np.ndarray | Path, *, precision: str, threads: int = 1) -> np.ndarray:
    """Run every sample of `inputs` (axis 0, each as a batch of one) in a fresh process and return the first outputs.

    `inputs` may be an .npy file, which is read row by row and may exceed the memory.
    The result has the samples on axis 0 and the model's own output dtype. Raises MissingPackage when the runtime is not
    installed and DeviceFailed with the agent's reason.
    """
    with open_target() as target, tempfile.TemporaryDirectory() as folder:
        remote_inputs = target.push(inputs) if isinstance(inputs, Path) else _push_inputs(target, inputs, Path(folder))
        count = len(np.load(inputs, mmap_mode="r")) if isinstance(inputs, Path) else len(inputs)
        remote_outputs = remote_inputs + ".outputs.npy"
        _session(
            target,
            Candidate(model.name, runtime, model, precision),
            remote_inputs,
            threads=threads,
            wishes=["--outputs", remote_outputs],
            timeout_s=START_TIMEOUT_S + SAMPLE_TIMEOUT_S * count,
        )
        outputs = Path(folder) / "outputs.npy"
        target.pull(remote_outputs, outputs)
        return np.asarray(np.load(outputs, allow_pickle=False))


def execution_graph(runtime: str, model: Path, inputs: np.ndarray, precision: str) -> list[GraphNode]:
    """Return the nodes that `runtime` executes for the first sample of `inputs` (batch on axis 0), by its own record.

    Raises as `run_model` does.
    """
    with open_target() as target, tempfile.TemporaryDirectory() as folder:
        remote_inputs = _push_inputs(target, inputs[:1], Path(folder))
        session = _session(
            target, Candidate(model.name, runtime, model, precision), remote_inputs, threads=1, wishes=["--graph"]
        )
        return list(session.graph or ())


def measure(
    candidates: Sequence[Candidate],
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    threads: int = 1,
    processes: int = 9,
    min_duration_s: float = 0.3,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Measurement]:
    """Measure the candidates on this machine, each in `processes` fresh processes, interleaved.

    A round runs one process of every candidate and every second round goes backwards, so that what slows the machine
    meets all alike. What really runs is asked before, in a process of its own. `inputs` has the samples on axis 0: one
    array for all, or one for each runtime where layouts differ. `progress(label, done, total)` is called after each
    process. Raises BadInput, MissingPackage, DeviceFailed and InvalidMeasurement; then nothing is returned.
    """
    timing = ["--iterations", str(FEWEST_ITERATIONS), "--min-duration-s", str(min_duration_s)]
    runs: dict[Candidate, list[Session]] = {candidate: [] for candidate in candidates}
    total, done = len(runs) * processes, 0
    with open_target() as target, tempfile.TemporaryDirectory() as folder:
        arrays = inputs if isinstance(inputs, Mapping) else {one.runtime: inputs for one in runs}
        remote = {runtime: _push_inputs(target, array, Path(folder), runtime) for runtime, array in arrays.items()}
        records = {one: _session(target, one, remote[one.runtime], threads=threads, wishes=["--graph"]) for one in runs}
        for number in range(processes):
            for candidate in runs if number % 2 == 0 else reversed(runs):
                runs[candidate].append(
                    _session(target, candidate, remote[candidate.runtime], threads=threads, wishes=timing)
                )
                done += 1
                if progress is not None:
                    progress(candidate.label, done, total)
    return [_measurement(candidate, threads, records[candidate], runs[candidate]) for candidate in candidates]


def runtime_available(runtime: str) -> str | None:
    """Return the installed version of `runtime`, or None, without importing it; BadInput for an unknown name."""
    for package in _known(runtime)[1]:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def read_session(lines: Iterable[str]) -> Session:
    """Read an agent's messages; DeviceFailed names the first line that breaks PROTOCOL.md, or what is missing."""
    messages: dict[str, Message] = {}
    samples_s: list[float] = []
    for number, line in enumerate(lines, start=1):
        message = _message(line, number)
        if number == 1 and (not isinstance(message, Hello) or message.protocol != PROTOCOL):
            raise DeviceFailed(f"agent's line 1: `hello` in protocol {PROTOCOL} was expected, not {line[:200]}")
        if isinstance(message, Times):
            samples_s.extend(message.seconds)
        messages[message.type] = message
    return _assemble(messages, tuple(samples_s))


def _message(line: str, number: int) -> Message:
    try:
        return _MESSAGE.validate_json(line)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DeviceFailed(f"agent's line {number} is no message ({where}: {fault['msg']}): {line[:200]}") from error


def _assemble(messages: Mapping[str, Message], samples_s: tuple[float, ...]) -> Session:
    match messages.get("error"):
        case Failed(reason=reason, message=message):
            raise DeviceFailed(f"agent: {reason}: {message}")
    match [messages.get(kind) for kind in ("hello", "init", "first", "memory", "done")]:
        case [Hello(runtime_version=str(version)), OneTime() as init, OneTime() as first, Memory() as memory, Done()]:
            pass
        case _:
            raise DeviceFailed(f"agent: the session is incomplete; it holds only {', '.join(messages) or 'nothing'}")
    graph, precision = messages.get("graph"), messages.get("precision")
    return Session(
        runtime_version=version,
        init_s=init.seconds,
        first_s=first.seconds,
        samples_s=samples_s,
        peak_rss_bytes=memory.peak_rss_bytes,
        rss_before_load_bytes=memory.rss_before_load_bytes,
        graph=graph.nodes if isinstance(graph, Graph) else None,
        precision_actual=precision.actual if isinstance(precision, Precision) else None,
    )


def _session(
    target: Target,
    candidate: Candidate,
    remote_inputs: str,
    *,
    threads: int,
    wishes: Sequence[str],
    timeout_s: float = START_TIMEOUT_S,
) -> Session:
    """Run one process of the agent on `target` and return what it reported."""
    if runtime_available(candidate.runtime) is None:
        extra, packages = _known(candidate.runtime)
        raise MissingPackage(packages[0], extra)
    agent_folder = bundled("runtimes") / "python"
    agent = target.push(agent_folder / "agent.py")
    target.push(agent_folder / f"runtime_{candidate.runtime}.py")
    model, *_ = [target.push(file) for file in _files(candidate.model)]
    command = [sys.executable, "-B", agent, "--runtime", candidate.runtime, "--model", model]
    options = ["--inputs", remote_inputs, "--precision", candidate.precision, "--threads", str(threads)]
    return read_session(target.run([*command, *options, *wishes], timeout_s))


def _push_inputs(target: Target, inputs: np.ndarray, folder: Path, name: str = "inputs") -> str:
    file = folder / f"{name}.npy"
    np.save(file, np.ascontiguousarray(inputs))
    return target.push(file)


def _measurement(candidate: Candidate, threads: int, record: Session, runs: Sequence[Session]) -> Measurement:
    machine = this_machine()
    return Measurement(
        label=candidate.label,
        runtime=candidate.runtime,
        runtime_version=record.runtime_version,
        model=candidate.model.name,
        model_sha256=_sha256(candidate.model),
        precision_requested=candidate.precision,
        precision_actual=record.precision_actual or "not reported",
        threads=threads,
        kind="measured",
        place=Place(
            name=machine.board or machine.cpu_model,
            architecture=machine.architecture,
            cpu_model=machine.cpu_model,
            kernel=machine.kernel,
            governor=machine.governor,
        ),
        processes=tuple(ProcessRun(run.init_s, run.first_s, run.samples_s, run.peak_rss_bytes) for run in runs),
    )


def _files(model: Path) -> list[Path]:
    """Return the files of a model, the one to load first; OpenVINO keeps the weights in a .bin beside the .xml."""
    return [model, model.with_suffix(".bin")] if model.suffix == ".xml" else [model]


def _sha256(model: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(model):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _known(runtime: str) -> tuple[str, tuple[str, ...]]:
    if runtime not in _RUNTIMES:
        raise BadInput(f"unknown runtime `{runtime}`{near_misses(runtime, _RUNTIMES)}; known: {', '.join(_RUNTIMES)}")
    return _RUNTIMES[runtime]
