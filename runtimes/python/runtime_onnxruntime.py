"""ONNX Runtime on the CPU, for agent.py."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
import onnxruntime

if TYPE_CHECKING:
    import numpy as np
    from model_inputs import Fit, Run, Wanted

PACKAGE = "onnxruntime"
VERSION = onnxruntime.__version__

_DTYPES = {"float": "float32", "double": "float64"}
_PRECISIONS = {"float": "fp32", "double": "fp64", "float16": "fp16", "bfloat16": "bf16"}
_TOO_OLD = re.compile(r"(Unsupported model IR version|Opset \d+ is under development).*")


def load(model: str, threads: int, fit: Fit) -> Run:
    """Return the call that runs the model, in the type the file gives each node."""
    session = onnxruntime.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    fit([_wanted(tensor) for tensor in inputs])
    names = [tensor.name for tensor in inputs]

    def run(sample: list[np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, dict(zip(names, sample, strict=True)))
        return outputs

    return run


def graph(model: str, threads: int, fit: Fit, sample: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return the nodes that ran for `sample`, read from the profile that ONNX Runtime writes of it."""
    del fit  # a session takes any shape that the model does
    options = _options(threads)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [tensor.name for tensor in session.get_inputs()]
        session.run(None, dict(zip(names, sample, strict=True)))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    suffix = "_kernel_time"
    return [
        _node(event["name"][: -len(suffix)], event["args"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(suffix)
    ]


def too_old(model: str, text: str) -> str | None:
    """Return what ONNX Runtime says of versions, the file's and its own, where loading failed for them."""
    del model
    found = _TOO_OLD.search(text)
    return None if found is None else found[0]


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # On x86 without VNNI sums of uint8 x int8 would saturate.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _wanted(tensor: Any) -> Wanted:
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    dtype = tensor.type[len("tensor(") : -1]
    return tensor.name, shape, _DTYPES.get(dtype, dtype)


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
