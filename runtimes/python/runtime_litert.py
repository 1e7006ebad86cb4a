"""LiteRT (TensorFlow Lite) on the CPU with its default XNNPACK delegate, for agent.py."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter

    PACKAGE = "ai-edge-litert"
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter  # the older package: 32-bit ARM has only this one

    PACKAGE = "tflite-runtime"

if TYPE_CHECKING:
    import argparse

    from model_inputs import Fit, Run, Wanted

VERSION = importlib.metadata.version(PACKAGE)

_TOO_OLD = re.compile(r"schema version \d+ not equal to supported version|old TFLite binary")
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "float64": "fp64"}


def load(options: argparse.Namespace, fit: Fit) -> Run:
    """Return the call that runs the model; each operator computes in the types of its tensors."""
    interpreter = _interpreter(str(options.model), options.threads, fit)
    inputs = [tensor["index"] for tensor in interpreter.get_input_details()]
    outputs = [tensor["index"] for tensor in interpreter.get_output_details()]

    def run(sample: list[np.ndarray]) -> list[np.ndarray]:
        for index, tensor in zip(inputs, sample, strict=True):
            interpreter.set_tensor(index, tensor)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def graph(options: argparse.Namespace, fit: Fit, sample: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return the model's operators with their tensors' types and who executes each, after one run on `sample`."""
    interpreter = _interpreter(str(options.model), options.threads, fit)
    for details, tensor in zip(interpreter.get_input_details(), sample, strict=True):
        interpreter.set_tensor(details["index"], tensor)
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


def too_old(model: str, text: str) -> str | None:
    """Return what LiteRT says where loading failed because of the version of the format or of an operator."""
    del model
    return text if _TOO_OLD.search(text) else None


def _interpreter(model: str, threads: int, fit: Fit) -> Any:
    interpreter = Interpreter(model_path=model, num_threads=threads)
    details = interpreter.get_input_details()
    for tensor, shape in zip(details, fit([_wanted(tensor) for tensor in details]), strict=True):
        if tuple(tensor["shape"]) != shape:  # an open dimension is 1 until it is set
            interpreter.resize_tensor_input(tensor["index"], shape, strict=True)
    interpreter.allocate_tensors()
    return interpreter


def _wanted(tensor: dict[str, Any]) -> Wanted:
    shape = tuple(None if size < 0 else int(size) for size in tensor["shape_signature"])
    return tensor["name"], shape, np.dtype(tensor["dtype"]).name


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
