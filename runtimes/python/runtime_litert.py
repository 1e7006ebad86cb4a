"""LiteRT (TensorFlow Lite) on the CPU with its default XNNPACK delegate, for agent.py."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter

    PACKAGE = "ai-edge-litert"
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter  # the older package: 32-bit ARM has only this one

    PACKAGE = "tflite-runtime"

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = importlib.metadata.version(PACKAGE)

_PRECISIONS = {"float32": "fp32", "float16": "fp16", "float64": "fp64"}


def load(
    model: str, threads: int, precision: str
) -> tuple[list[tuple[tuple[int | None, ...], np.dtype[Any]]], Callable[[np.ndarray], np.ndarray]]:
    """Return the model's inputs and the call that runs it.

    `precision` changes nothing: each operator computes in the types of its tensors.
    """
    del precision
    interpreter = _interpreter(model, threads)
    wanted = [(_shape(tensor), np.dtype(tensor["dtype"])) for tensor in interpreter.get_input_details()]
    first_input = interpreter.get_input_details()[0]["index"]
    first_output = interpreter.get_output_details()[0]["index"]

    def run(row: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(first_input, row)
        interpreter.invoke()
        output: np.ndarray = interpreter.get_tensor(first_output)
        return output

    return wanted, run


def graph(model: str, threads: int, precision: str, row: np.ndarray) -> list[dict[str, Any]]:
    """Return the model's operators with their tensors' types and who executes each, after one run on `row`."""
    del precision
    interpreter = _interpreter(model, threads)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row)
    interpreter.invoke()
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()  # the only door to the operators in this package
    delegates = [operator for operator in operators if operator["op_name"] == "DELEGATE"]
    originals = [operator for operator in operators if operator["op_name"] != "DELEGATE"]
    delegated = _delegated(originals, delegates)
    return [
        _node(operator, names[operator["outputs"][0]], delegated=operator["index"] in delegated)
        for operator in originals
    ]


def _interpreter(model: str, threads: int) -> Any:
    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _shape(tensor: dict[str, Any]) -> tuple[int | None, ...]:
    return tuple(int(size) for size in tensor["shape"])


def _delegated(originals: list[dict[str, Any]], delegates: list[dict[str, Any]]) -> set[int]:
    """Return the indices of the operators inside a delegated part.

    The interpreter lists the original operators and after them one DELEGATE for each part taken, with the tensors that
    enter and leave it: whatever lies on the way back from what leaves to what enters belongs to the part.
    """
    producer = {int(tensor): operator for operator in originals for tensor in operator["outputs"]}
    inside: set[int] = set()
    for delegate in delegates:
        entering = {int(tensor) for tensor in delegate["inputs"]}
        pending = [int(tensor) for tensor in delegate["outputs"]]
        while pending:
            tensor = pending.pop()
            operator = producer.get(tensor)
            if tensor in entering or operator is None or operator["index"] in inside:
                continue
            inside.add(operator["index"])
            pending.extend(int(source) for source in operator["inputs"])
    return inside


def _node(operator: dict[str, Any], name: str, *, delegated: bool) -> dict[str, Any]:
    inputs = [_precision(dtype) for dtype in operator["operand_types"]]
    results = [_precision(dtype) for dtype in operator["result_types"]]
    return {
        "name": name,
        "op": operator["op_name"],
        "precision": (inputs or results)[0],
        "inputs": inputs,
        "origins": [name],
        # No delegate is loaded here, so the default one is the only one there can be.
        "executor": "XNNPACK" if delegated else "built-in",
    }


def _precision(dtype: Any) -> str:
    name: str = np.dtype(dtype).name
    return _PRECISIONS.get(name, name)
