"""ONNX Runtime, on the CPU or on another execution provider, for agent.py."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
import onnxruntime
from command_line import CPU_PROVIDER
from messages import AgentError

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from model_inputs import Fit, Run, Wanted

PACKAGE = "onnxruntime"
VERSION = onnxruntime.__version__
OLDEST_WITH_PROVIDERS = (1, 16)  # the first that knows how to refuse a fallback to the CPU

_DTYPES = {"float": "float32", "double": "float64"}
_PRECISIONS = {"float": "fp32", "double": "fp64", "float16": "fp16", "bfloat16": "bf16"}
_NOT_LOADED = re.compile(r"Please install|cannot open shared object|Failed to load (shared )?library", re.IGNORECASE)
_TOO_OLD = re.compile(r"(Unsupported model IR version|Opset \d+ is under development).*")


def load(options: argparse.Namespace, fit: Fit) -> Run:
    """Return the call that runs the model, in the type the file gives each node."""
    session = _session(options, _settings(options, no_fallback=options.no_fallback))
    inputs = session.get_inputs()
    fit([_wanted(tensor) for tensor in inputs])
    names = [tensor.name for tensor in inputs]

    def run(sample: list[np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, dict(zip(names, sample, strict=True)))
        return outputs

    return run


def graph(options: argparse.Namespace, fit: Fit, sample: list[np.ndarray]) -> list[dict[str, Any]]:
    """Return the nodes that ran for `sample`, read from the profile that ONNX Runtime writes of it."""
    del fit  # a session takes any shape that the model does
    settings = _settings(options, no_fallback=options.no_fallback)
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(options, settings)
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


def _session(options: argparse.Namespace, settings: Any) -> Any:
    """Return a session on the provider that is asked for, whose place no other one takes unseen."""
    wanted = options.provider
    if wanted != CPU_PROVIDER:
        _require(wanted)
    try:
        return _made(options, settings)
    except Exception as error:  # ONNX Runtime's own types come straight from Exception
        text = " ".join(str(error).split())
        if wanted != CPU_PROVIDER and _NOT_LOADED.search(text):
            raise AgentError("missing-runtime", f"{wanted}: {text}") from error
        if options.no_fallback and "fallback to CPU EP" in text:
            _made(options, _settings(options, no_fallback=False))  # a provider that cannot be loaded leaves all nodes
            hint = "--graph without --no-fallback tells which"
            raise AgentError("fallback", f"{options.model}: {wanted} leaves nodes of it to the CPU; {hint}") from error
        raise


def _made(options: argparse.Namespace, settings: Any) -> Any:
    wanted = options.provider
    # Left to itself, a session that fails is made again on the CPU, and one that runs is too when a node fails.
    session = onnxruntime.InferenceSession(str(options.model), settings, providers=[wanted], enable_fallback=0)
    session.disable_fallback()  # of older packages, which know no other way
    if wanted not in session.get_providers():
        raise AgentError("missing-runtime", f"{wanted}: ONNX Runtime could not load it; its own words are on stderr")
    return session


def _require(wanted: str) -> None:
    if tuple(int(part) for part in VERSION.split(".")[:2]) < OLDEST_WITH_PROVIDERS:
        oldest = ".".join(map(str, OLDEST_WITH_PROVIDERS))
        raise AgentError(
            "old-runtime", f"ONNX Runtime is too old to be asked for {wanted}; {oldest} or newer was expected"
        )
    has = onnxruntime.get_available_providers()
    if wanted not in has:
        raise AgentError("missing-runtime", f"this build of ONNX Runtime has no {wanted}; it has {', '.join(has)}")


def _settings(options: argparse.Namespace, *, no_fallback: bool) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Where sums do not saturate the wider ones would only take twice as long.
    if sums_saturate(platform.machine(), Path("/proc/cpuinfo")):
        settings.add_session_config_entry("session.x64quantprecision", "1")
    if no_fallback:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings


def sums_saturate(machine: str, cpuinfo: Path) -> bool:
    """Tell whether sums of uint8 x int8 products saturate: on x86-64 they do, unless its flags name VNNI."""
    if machine not in ("x86_64", "AMD64"):
        return False
    try:
        flags = cpuinfo.read_text("utf-8").split()
    except OSError:
        return True
    return "avx512_vnni" not in flags and "avx_vnni" not in flags


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
