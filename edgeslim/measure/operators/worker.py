"""The process that times operators in one runtime: `worker.py JOB`, answers on stdout.

JOB is a JSON file {runtime, precision, threads, operators}; each line of the answer is {"type": "times", "seconds":
[...]} for the next batch of operators, or {"type": "error", "reason", "message"} and the exit code is 1.

ONNX Runtime and LiteRT are timed by the clock: in each of ROUNDS rounds, every second one backwards, each operator of
the batch runs for ROUND_S or longer; its figure is the median over the rounds of a round's median, less that of a model
that computes nothing in the same runtime. OpenVINO's own counters tell the time of each node (see `_counted`).
"""

import gc
import io
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from edgeslim.devices.machine import this_machine
from edgeslim.model.operator import Operator
from edgeslim.work_folders import work_folder

BATCH = 48  # operators whose times are lost together when the process is killed
ROUNDS = 7
ROUND_S = 0.0015
MOST_ITERATIONS = 300

REPLICAS = 3
COUNTED_INFERENCES = 40
COUNTED_S = 4.0  # of one batch; large operators get fewer inferences
COLD_INFERENCES = 3
SEGMENTS = 5

Call = Callable[[], object]


def main(job: Path) -> int:
    """Time what the job asks for, a line for each batch, and return the exit code."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print, in C too, is no answer
    told = json.loads(job.read_text(encoding="utf-8"))
    operators = [_operator(raw) for raw in told["operators"]]
    try:
        for first in range(0, len(operators), BATCH):
            seconds = _times_s(told["runtime"], operators[first : first + BATCH], told["precision"], told["threads"])
            channel.write(json.dumps({"type": "times", "seconds": seconds}) + "\n")
            channel.flush()
    except Exception as error:  # noqa: BLE001 - runtimes raise types of their own straight from Exception
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        channel.write(json.dumps({"type": "error", "reason": "runtime-failed", "message": message}) + "\n")
        channel.flush()
        return 1
    return 0


def _operator(raw: dict[str, Any]) -> Operator:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return Operator(**fields)


def _times_s(runtime: str, operators: Sequence[Operator], precision: str, threads: int) -> list[float]:
    if runtime == "openvino":
        return _counted(operators, precision, threads)
    prepare, empty = _onnxruntime(precision, threads) if runtime == "onnxruntime" else _litert(precision, threads)
    return _clocked([prepare(operator) for operator in operators], empty)


def _clocked(calls: Sequence[Call], empty: Call) -> list[float]:
    """Return the seconds of each call, less those of the empty one, and no less than 0."""
    every = [empty, *calls]
    counts = [_iterations(call) for call in every]
    rounds: list[list[float]] = [[] for _ in every]
    gc.disable()
    for number in range(ROUNDS):
        order = range(len(every))
        for index in order if number % 2 == 0 else reversed(order):
            rounds[index].append(statistics.median(_once_s(every[index]) for _ in range(counts[index])))
    gc.enable()
    base, *medians = [statistics.median(one) for one in rounds]
    return [max(median - base, 0.0) for median in medians]


def _once_s(call: Call) -> float:
    started = perf_counter_ns()
    call()
    return (perf_counter_ns() - started) / 1e9


def _iterations(call: Call) -> int:
    """Return how often to call in a round; the calls made here also warm up."""
    call()
    once_s = min(_once_s(call), _once_s(call))
    return max(1, min(MOST_ITERATIONS, math.ceil(ROUND_S / once_s)))


def _onnxruntime(precision: str, threads: int) -> tuple[Callable[[Operator], Call], Call]:
    """Return what makes an operator's call, and the empty call.

    The model is optimized once by ONNX Runtime; what remains without the changes of layout at its ends is run.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
    import onnx
    import onnxruntime

    from edgeslim.measure.operators import onnx as probe

    saturate = this_machine().sums_saturate

    def session(model: onnx.ModelProto, saved: Path | None = None) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        if saturate:  # as the agents run it
            options.add_session_config_entry("session.x64quantprecision", "1")
        if saved is None:  # it is the result of an optimization
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        else:
            options.optimized_model_filepath = str(saved)
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def bound(model: onnx.ModelProto, shapes: Sequence[tuple[int, ...]]) -> Call:
        opened = session(model)
        names = [tensor.name for tensor in opened.get_inputs()]
        dtypes = [onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input]
        arrays = [np.ones(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        output = opened.run(None, dict(zip(names, arrays, strict=True)))[0]
        binding = opened.io_binding()
        for name, array in zip(names, arrays, strict=True):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        binding.bind_ortvalue_output(
            opened.get_outputs()[0].name, onnxruntime.OrtValue.ortvalue_from_numpy(np.array(output))
        )
        return lambda: opened.run_with_iobinding(binding)

    def prepare(operator: Operator) -> Call:
        with work_folder() as folder:
            saved = folder / "optimized.onnx"
            session(probe.model_of(operator, precision), saved)
            model, shapes = probe.bare(onnx.load(saved))
        kernels = [node.op_type for node in model.graph.node]
        if precision == "int8" and (len(kernels) != 1 or not kernels[0].startswith("Q")):
            raise RuntimeError(f"{operator} does not run on integers; ONNX Runtime makes {', '.join(kernels)} of it")
        return bound(model, shapes)

    return prepare, bound(probe.empty_model(), [(1,)])


def _litert(precision: str, threads: int) -> tuple[Callable[[Operator], Call], Call]:
    """Return what makes an operator's call, and the empty call."""
    from ai_edge_litert.interpreter import Interpreter

    from edgeslim.measure.operators import tflite

    def loaded(content: bytes) -> Call:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        for tensor in interpreter.get_input_details():
            interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], tensor["dtype"]))
        invoke: Call = interpreter.invoke
        return invoke

    return lambda operator: loaded(tflite.model_of(operator, precision)), loaded(tflite.empty_model())


def _counted(operators: Sequence[Operator], precision: str, threads: int) -> list[float]:
    """Return the seconds of each operator by OpenVINO's counters, the least of REPLICAS replicas.

    All operators stand side by side in one model, so every inference runs each once, between others as in a network.
    A clock around single operators would see conversions at both ends, 1.6 to 3.1 times the operator's own time.
    A counter holds the mean over all inferences so far, in whole microseconds, and each inference is cut down to whole
    microseconds before: both cuts take half a microsecond on average, which is added here; what remains is an
    uncertainty of half a microsecond. The first inferences prepare kernels; their share is taken out. An interruption
    only adds time: hence the least.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # OpenVINO falls back to a stub
    import openvino

    from edgeslim.measure.operators import onnx as probe

    options = {
        "PERF_COUNT": "YES",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    operators = [operators[0], *operators]  # the first in an inference is slower, by microseconds; it is dropped below
    model = core.read_model(io.BytesIO(probe.side_by_side(operators, precision).SerializeToString()))
    compiled = core.compile_model(model, "CPU", options)
    stored = compiled.export_model()  # a replica made from it has kernels and memory of its own, at a third of the time
    requests, owners = [], []
    for replica in range(REPLICAS):
        compiled = compiled if replica == 0 else core.import_model(stored, "CPU", options)
        owners.append(_owners(compiled, operators, precision))
        request = compiled.create_infer_request()
        for port in compiled.inputs:
            request.set_tensor(port, openvino.Tensor(np.ones(tuple(port.shape), np.float32)))
        requests.append(request)
    return _from_counters(requests, owners, len(operators))[1:]


def _owners(compiled: Any, operators: Sequence[Operator], precision: str) -> dict[str, int]:
    """Return which operator each executed node of interest belongs to; RuntimeError where one is not as demanded."""
    from edgeslim.measure.operators.onnx import marker

    found: dict[str, int] = {}
    indices = {f"{marker(index)}probe": index for index in range(len(operators))}
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: str(value.astype(str)) for key, value in node.get_rt_info().items()}
        origins = [origin.split("probe")[0] + "probe" for origin in facts["originalLayersNames"].split(",")]
        index = next((indices[origin] for origin in origins if origin in indices), None)
        if index is None or facts["layerType"] in ("Const", "Input", "Output", "Reorder"):
            continue
        found[node.get_friendly_name()] = index
        operator = operators[index]
        if precision == "int8" and operator.kind != "mul" and facts["runtimePrecision"] not in ("u8", "i8"):
            raise RuntimeError(f"{operator} does not run on integers; OpenVINO runs it in {facts['runtimePrecision']}")
    missing = set(range(len(operators))) - set(found.values())
    if missing:
        raise RuntimeError(f"OpenVINO executes no node for {operators[min(missing)]}")
    return found


def _from_counters(requests: Sequence[Any], owners: Sequence[dict[str, int]], count: int) -> list[float]:
    """Return the seconds of `count` operators: for each request a sum over the operator's nodes, then the least."""
    for request in requests:
        for _ in range(COLD_INFERENCES):
            request.infer()
    marks = [COLD_INFERENCES]
    readings = [[_counters_us(*one)] for one in zip(requests, owners, strict=True)]
    round_s = sum(_once_s(request.infer) for request in requests)
    done = COLD_INFERENCES + 1
    step = max(1, min(COUNTED_INFERENCES, int(COUNTED_S / round_s)) // SEGMENTS)
    for segment in range(1, SEGMENTS + 1):
        marks.append(COLD_INFERENCES + segment * step)
        for number in range(done, marks[-1]):
            for request in requests if number % 2 else reversed(requests):
                request.infer()
        done = marks[-1]
        for reading, *one in zip(readings, requests, owners, strict=True):
            reading.append(_counters_us(*one))
    least = [math.inf] * count
    for reading, owner in zip(readings, owners, strict=True):
        sums = [0.0] * count
        for name, index in owner.items():
            sums[index] += _steady_us(marks, [counters[name] for counters in reading])
        least = [min(pair) for pair in zip(least, sums, strict=True)]
    return [max(figure, 0.0) / 1e6 for figure in least]


def _steady_us(marks: Sequence[int], means_us: Sequence[float]) -> float:
    """Return the time of one inference after the first mark, from a counter's means up to each mark.

    The mean over all segments is the sharpest figure; where it exceeds the segments' median by more than their own
    doubt, something interrupted a segment, and the median stands.
    """
    # A counter holds floor(sum / inferences) of whole microseconds; the middle of what the sum may be stands for it.
    sums = [mean * mark + (mark - 1) / 2 for mark, mean in zip(marks, means_us, strict=True)]
    lengths = [after - before for before, after in pairwise(marks)]
    segments = [(after - before) / length for (before, after), length in zip(pairwise(sums), lengths, strict=True)]
    doubt = (marks[-2] + marks[-1]) / 2 / lengths[-1]
    whole, typical = (sums[-1] - sums[0]) / sum(lengths), statistics.median(segments)
    return (whole if whole <= typical + doubt else typical) + 0.5


def _counters_us(request: Any, owner: dict[str, int]) -> dict[str, float]:
    return {
        node.node_name: node.real_time.total_seconds() * 1e6
        for node in request.get_profiling_info()
        if node.node_name in owner
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
