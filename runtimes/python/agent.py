"""Run one model on this device and report, in JSON lines, what happened (../PROTOCOL.md).

Needs numpy, one runtime package, and beside this file that runtime's `runtime_NAME.py`, a module with

    PACKAGE, VERSION                      what is installed
    load(model, threads, precision)       -> ([(shape, dtype) of each input], run: array -> first output)
    graph(model, threads, precision, row) -> one dict for each node that the runtime executed
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import platform
import re
import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Emit = Callable[..., None]
    Run = Callable[[np.ndarray], np.ndarray]

PROTOCOL = 1
RUNTIMES = ("onnxruntime", "openvino", "litert")
EXIT_CODES = {
    "usage": 2,
    "missing-runtime": 10,
    "missing-file": 11,
    "unreadable-model": 12,
    "bad-input": 13,
    "out-of-memory": 14,
    "runtime-failed": 15,
    "write-failed": 16,
}
WARM_UP_LIMIT_S = 2.0
FLUSH_EVERY_S = 0.5

_OUT_OF_MEMORY = re.compile(r"bad.?alloc|out of memory|(failed|could not|cannot|unable) to? ?allocate", re.IGNORECASE)
_MULTIPLIES = re.compile(r"conv(?!ert)|mat_?mul|gemm|fully_?connected", re.IGNORECASE)


class AgentError(Exception):
    """A failure the protocol has a name for."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as the protocol's `usage` failure."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and leaving."""
        raise AgentError("usage", message)


def main(argv: list[str]) -> int:
    """Run the session that `argv` asks for and return the exit code."""
    emit = take_stdout()
    try:
        session(arguments(argv), emit)
    except AgentError as failure:
        emit("error", reason=failure.reason, message=str(failure))
        return EXIT_CODES[failure.reason]
    return 0


def take_stdout() -> Emit:
    """Keep stdout for messages alone: whatever libraries print, in Python or in C, goes to stderr from here on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(kind: str, **fields: Any) -> None:
        channel.write(json.dumps({"type": kind, **fields}) + "\n")
        channel.flush()

    return emit


def arguments(argv: list[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser(description="Run one model on this device; the messages on stdout are described in PROTOCOL.md.")
    parser.add_argument("--runtime", required=True, choices=RUNTIMES)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--inputs", required=True, type=Path)
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="what the model is")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--outputs", type=Path, help="run every sample once and save the first output here")
    parser.add_argument("--iterations", type=int, default=0, help="time at least this many inferences")
    parser.add_argument("--min-duration-s", type=float, default=0.0, help="and for at least this long")
    parser.add_argument("--warmup", type=int, help="untimed inferences before; absent: until the times are steady")
    parser.add_argument("--graph", action="store_true", help="report which nodes the runtime executed")
    options = parser.parse_args(argv)
    if options.threads < 1:
        parser.error(f"--threads {options.threads}: at least 1 was expected")
    return options


def session(options: argparse.Namespace, emit: Emit) -> None:
    """Load, run, time and report, in the order of the protocol."""
    runtime = import_runtime(options.runtime, emit)
    for path in (options.model, options.inputs):
        if not path.is_file():
            raise AgentError("missing-file", f"{path} does not exist")
    inputs = open_inputs(options.inputs)
    call = (str(options.model), options.threads, options.precision)
    rss_before_load_bytes = memory_bytes("VmRSS")

    started = perf_counter()
    with failing_as("unreadable-model", f"{options.model}: "):
        wanted, run = runtime.load(*call)
    emit("init", seconds=perf_counter() - started)
    check_inputs(inputs, wanted)

    rows = endless_rows(inputs)
    with failing_as("runtime-failed"):
        emit("first", seconds=timed(run, next(rows)))
        if options.iterations > 0 or options.min_duration_s > 0:
            warm_up(run, rows, options.warmup)
            timed_loop(run, rows, options.iterations, options.min_duration_s, emit)
        if options.outputs is not None:
            emit("outputs", path=str(options.outputs), **save_outputs(run, inputs, options.outputs))
    emit("memory", peak_rss_bytes=memory_bytes("VmHWM"), rss_before_load_bytes=rss_before_load_bytes)
    if options.graph:
        with failing_as("runtime-failed"):
            nodes = runtime.graph(*call, next(rows))
        emit("graph", nodes=nodes)
        emit("precision", requested=options.precision, actual=precision_of(nodes))
    emit("done")


def import_runtime(name: str, emit: Emit) -> Any:
    """Import the runtime's module and say hello; `missing-runtime` if its package cannot be imported."""
    hello = {"agent": "python", "runtime": name, "python": platform.python_version(), "machine": platform.machine()}
    try:
        runtime = importlib.import_module("runtime_" + name)
    except ImportError as error:
        emit("hello", protocol=PROTOCOL, package=None, runtime_version=None, **hello)
        raise AgentError("missing-runtime", f"{name} cannot be imported: {error}") from error
    emit("hello", protocol=PROTOCOL, package=runtime.PACKAGE, runtime_version=runtime.VERSION, **hello)
    return runtime


@contextlib.contextmanager
def failing_as(reason: str, where: str = "") -> Iterator[None]:
    """Turn whatever a runtime raises into a failure of the protocol."""
    try:
        yield
    except AgentError:
        raise
    except ImportError as error:  # some runtimes import their binary parts only now
        raise AgentError("missing-runtime", str(error)) from error
    except MemoryError as error:
        raise AgentError("out-of-memory", f"{where}memory ran out") from error
    except Exception as error:  # runtimes raise types of their own straight from Exception
        text = " ".join(str(error).split())
        raise AgentError("out-of-memory" if _OUT_OF_MEMORY.search(text) else reason, where + text) from error


def open_inputs(path: Path) -> np.ndarray:
    """Return the samples as a memory-mapped array with at least one row."""
    try:
        inputs: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise AgentError("bad-input", f"{path} is no readable .npy array: {error}") from error
    if not isinstance(inputs, np.ndarray) or inputs.ndim == 0 or len(inputs) == 0:
        raise AgentError("bad-input", f"{path}: an array with at least one sample on axis 0 was expected")
    return inputs


def check_inputs(inputs: np.ndarray, wanted: list[tuple[tuple[int | None, ...], np.dtype[Any]]]) -> None:
    """Compare the samples with the one input the model must have; `None` in its shape fits any size."""
    if len(wanted) != 1:
        raise AgentError("bad-input", f"the model has {len(wanted)} inputs; exactly one was expected")
    shape, dtype = wanted[0]
    row = (1, *inputs.shape[1:])
    fits = len(row) == len(shape) and all(size in (None, row[axis]) for axis, size in enumerate(shape))
    if not fits:
        raise AgentError("bad-input", f"a sample has shape {list(row)}; the model takes {list(shape)}")
    if inputs.dtype != dtype:
        raise AgentError("bad-input", f"the samples are {inputs.dtype}; the model takes {dtype}")


def endless_rows(inputs: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the samples one by one, over and over, each copied out of the file so that no run waits for the disk."""
    while True:
        for index in range(len(inputs)):
            yield np.array(inputs[index : index + 1])


def timed(run: Run, row: np.ndarray) -> float:
    """Return the seconds of one inference."""
    started = perf_counter()
    run(row)
    return perf_counter() - started


def warm_up(run: Run, rows: Iterator[np.ndarray], count: int | None) -> None:
    """Run `count` inferences; without a count, groups of three until one is less than 5 % faster than the last."""
    if count is not None:
        for _ in range(count):
            run(next(rows))
        return
    deadline = perf_counter() + WARM_UP_LIMIT_S
    before = float("inf")
    while perf_counter() < deadline:
        now = statistics.median(timed(run, next(rows)) for _ in range(3))
        if now > 0.95 * before:
            return
        before = now


def timed_loop(run: Run, rows: Iterator[np.ndarray], iterations: int, min_duration_s: float, emit: Emit) -> None:
    """Time inferences until both limits are reached, and report every one."""
    gc.collect()
    gc.disable()
    count = 0
    batch: list[float] = []
    started = reported = perf_counter()
    while count < iterations or perf_counter() - started < min_duration_s:
        batch.append(timed(run, next(rows)))
        count += 1
        if perf_counter() - reported > FLUSH_EVERY_S:
            emit("time", seconds=batch)
            batch = []
            reported = perf_counter()
    if batch:
        emit("time", seconds=batch)
    gc.enable()


def save_outputs(run: Run, inputs: np.ndarray, path: Path) -> dict[str, Any]:
    """Write the first output of every sample, stacked on axis 0, and return its shape and dtype."""
    part = path.with_name(path.name + ".part")
    output = run(np.array(inputs[:1]))
    if output.ndim == 0 or output.shape[0] != 1:
        raise AgentError(
            "bad-input", f"the first output has shape {list(output.shape)}; batch 1 on axis 0 was expected"
        )
    shape, dtype = (len(inputs), *output.shape[1:]), output.dtype
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    try:
        with part.open("wb") as file:
            np.lib.format.write_array_header_2_0(file, header)
            file.write(output.tobytes())
            for index in range(1, len(inputs)):
                file.write(run(np.array(inputs[index : index + 1])).tobytes())
        part.replace(path)
    except OSError as error:
        raise AgentError("write-failed", f"{path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return {"shape": shape, "dtype": str(dtype)}


def memory_bytes(field: str) -> int:
    """Return VmHWM (the highest resident size so far) or VmRSS (the present one) of this process."""
    # getrusage would do for VmHWM, were its figure not inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def precision_of(nodes: list[dict[str, Any]]) -> str:
    """Return the precisions in which convolutions and matrix products ran (all nodes, if there are none of these)."""
    multiplying = [node for node in nodes if _MULTIPLIES.search(node["op"])]
    return "+".join(sorted({node["precision"] for node in multiplying or nodes}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
