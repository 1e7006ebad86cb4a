"""OpenVINO on the CPU, for agent.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Importing openvino reports the import to its maker when this package can be loaded; None makes it look absent.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # this is how Python marks a module as absent
import openvino  # noqa: E402  must come after the line above

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from model_inputs import Fit, Run, Wanted

PACKAGE = "openvino"
VERSION = openvino.__version__.split("-")[0]

_DTYPES = {
    "boolean": "bool",
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
_PRECISIONS = {
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "uint8",
    "i32": "int32",
    "i64": "int64",
}
NEWEST_IR = 11  # since OpenVINO 2022.1; a release that takes a later one does not fail on it
_IR_VERSION = re.compile(rb'<net\b[^>]*\bversion="(\d+)"')
_NOT_EXECUTED = ("Input", "Output", "Const")


def load(options: argparse.Namespace, fit: Fit) -> Run:
    """Return the call that runs the model; float parts, of an INT8 model too, are pinned to f32."""
    compiled = _compile(str(options.model), options.threads, fit)
    request = compiled.create_infer_request()
    # OpenVINO gives bf16 out as numpy's float16 with the same bits, which is another number.
    known = [port.get_element_type().get_type_name() in _DTYPES for port in compiled.outputs]

    def run(sample: list[np.ndarray]) -> list[np.ndarray | None]:
        results = request.infer(sample, share_inputs=True)
        return [results[index] if held else None for index, held in enumerate(known)]

    return run


def graph(options: argparse.Namespace, fit: Fit, sample: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return the nodes of the graph that OpenVINO compiled for execution, after running it once on `sample`."""
    compiled = _compile(str(options.model), options.threads, fit)
    compiled.create_infer_request().infer(sample)
    nodes = []
    for operation in compiled.get_runtime_model().get_ordered_ops():
        facts = {key: str(value.astype(str)) for key, value in operation.get_rt_info().items()}
        if facts["layerType"] not in _NOT_EXECUTED:
            nodes.append(_node(operation, facts))
    return nodes


def too_old(model: str, text: str) -> str | None:
    """Return the versions where loading failed because the file is of a later IR or uses a later set of operators."""
    if "unsupported opset" in text:
        known = [int(name.removeprefix("opset")) for name in dir(openvino) if re.fullmatch(r"opset\d+", name)]
        return f"{text[text.index('Cannot create') :]}; it takes sets up to opset{max(known)}"
    with Path(model).open("rb") as file:
        found = _IR_VERSION.search(file.read(4096))
    version = 0 if found is None else int(found[1])
    if version <= NEWEST_IR:
        return None
    return f"it takes the IR up to version {NEWEST_IR}; the model has {version}"


def _compile(model: str, threads: int, fit: Fit) -> Any:
    core = openvino.Core()
    network = core.read_model(model)
    shapes = fit([_wanted(port) for port in network.inputs])
    if network.is_dynamic():
        network.reshape(dict(zip(network.inputs, shapes, strict=True)))
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    return core.compile_model(network, "CPU", options)


def _wanted(port: Any) -> Wanted:
    if port.partial_shape.rank.is_dynamic:
        raise ValueError(f"input `{port.get_node().get_friendly_name()}`: a known number of axes was expected")
    shape = tuple(size.get_length() if size.is_static else None for size in port.partial_shape)
    dtype = port.element_type.get_type_name()
    return port.get_node().get_friendly_name(), shape, _DTYPES.get(dtype, dtype)


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
