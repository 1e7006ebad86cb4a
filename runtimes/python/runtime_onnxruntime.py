"""ONNX Runtime on the CPU, for agent.py."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "onnxruntime"
VERSION = onnxruntime.__version__

_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}
_PRECISIONS = {"float": "fp32", "double": "fp64", "float16": "fp16", "bfloat16": "bf16"}


def load(
    model: str, threads: int, precision: str
) -> tuple[list[tuple[tuple[int | None, ...], np.dtype[Any]]], Callable[[np.ndarray], np.ndarray]]:
    """Return the model's inputs and the call that runs it.

    `precision` changes nothing: the CPU provider computes each node in the type the file gives it.
    """
    del precision
    session = onnxruntime.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    first_output = [session.get_outputs()[0].name]

    def run(row: np.ndarray) -> np.ndarray:
        output: np.ndarray = session.run(first_output, {names[0]: row})[0]
        return output

    return [(_shape(tensor), _dtype(tensor)) for tensor in session.get_inputs()], run


def graph(model: str, threads: int, precision: str, row: np.ndarray) -> list[dict[str, Any]]:
    """Return the nodes that ran for `row`, read from the profile that ONNX Runtime writes of it."""
    del precision
    options = _options(threads)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: row})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    suffix = "_kernel_time"
    return [
        _node(event["name"][: -len(suffix)], event["args"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(suffix)
    ]


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    return options


def _shape(tensor: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in tensor.shape)


def _dtype(tensor: Any) -> np.dtype[Any]:
    name = tensor.type[len("tensor(") : -1]
    dtype: np.dtype[Any] = np.dtype(_DTYPES.get(name, name))
    return dtype


def _node(name: str, record: dict[str, Any]) -> dict[str, Any]:
    inputs = _precisions(record["input_type_shape"])
    return {
        "name": name,
        "op": record["op_name"],
        "precision": (inputs or _precisions(record["output_type_shape"]))[0],
        "inputs": inputs,
        "origins": [],
        "executor": record["provider"],
    }


def _precisions(type_shapes: list[dict[str, Any]]) -> list[str]:
    return [_PRECISIONS.get(dtype, dtype) for entry in type_shapes for dtype in entry]
