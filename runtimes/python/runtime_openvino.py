"""OpenVINO on the CPU, for agent.py."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

# Importing openvino reports the import to its maker when this package can be loaded; None makes it look absent.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # this is how Python marks a module as absent
import openvino  # noqa: E402  must come after the line above

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "openvino"
VERSION = openvino.__version__.split("-")[0]

_PRECISIONS = {
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "uint8",
    "i32": "int32",
    "i64": "int64",
}
_NOT_EXECUTED = ("Input", "Output", "Const")


def load(
    model: str, threads: int, precision: str
) -> tuple[list[tuple[tuple[int | None, ...], np.dtype[Any]]], Callable[[np.ndarray], np.ndarray]]:
    """Return the model's inputs and the call that runs it.

    `precision` changes nothing: float parts, of an INT8 model too, are pinned to f32, and integer parts stay integer.
    """
    del precision
    compiled = _compile(model, threads)
    request = compiled.create_infer_request()

    def run(row: np.ndarray) -> np.ndarray:
        output: np.ndarray = request.infer([row], share_inputs=True)[0]
        return output

    return [(_shape(port), np.dtype(port.element_type.to_dtype())) for port in compiled.inputs], run


def graph(model: str, threads: int, precision: str, row: np.ndarray) -> list[dict[str, Any]]:
    """Return the nodes of the graph that OpenVINO compiled for execution, after running it once on `row`."""
    del precision
    compiled = _compile(model, threads)
    compiled.create_infer_request().infer([row])
    nodes = []
    for operation in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: str(value.astype(str)) for key, value in operation.get_rt_info().items()}
        if facts["layerType"] not in _NOT_EXECUTED:
            nodes.append(_node(operation, facts))
    return nodes


def _compile(model: str, threads: int) -> Any:
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    return openvino.Core().compile_model(model, "CPU", options)


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(size.get_length() if size.is_static else None for size in port.partial_shape)


def _node(operation: Any, facts: dict[str, str]) -> dict[str, Any]:
    inputs = [
        _PRECISIONS.get(kind, kind) for kind in (port.get_element_type().get_type_name() for port in operation.inputs())
    ]
    return {
        "name": operation.get_friendly_name(),
        "op": facts["layerType"],
        "precision": _PRECISIONS.get(facts["runtimePrecision"], facts["runtimePrecision"]),
        "inputs": inputs,
        "origins": [name for name in facts["originalLayersNames"].split(",") if name],
        "executor": facts["primitiveType"],
    }
