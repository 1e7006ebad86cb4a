"""Compiles the native agent and runs it as the harness does, with real runtimes and small models."""

import functools
import json
import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.support import REPOSITORY
from tests.support.agent_process import options
from tests.support.installed import skip_without

ROOT = REPOSITORY / "runtimes"
SOURCES = sorted((ROOT / "agent").glob("*.c"))
RUNTIMES = ("onnxruntime", "openvino", "litert")
LIBRARIES = {
    "onnxruntime": ("onnxruntime", "capi/libonnxruntime.so.*"),
    "openvino": ("openvino", "libs/libopenvino_c.so*"),
    "litert": ("ai_edge_litert", "libLiteRt.so"),
}
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
HEARTBEAT_S, COMMAND_LIMIT_S = 0.05, 2.0  # in the build for tests
BUILT = tempfile.TemporaryDirectory(prefix="edgeslim-agent-")
# oneTBB, which OpenVINO brings, loads a part of itself in a way that AddressSanitizer refuses unless it is told so.
# What libtbb holds for an observer is still there where a process ends while its threads do: no leak of the agent's.
LEAKS_OF_OTHERS = Path(BUILT.name) / "leaks.txt"
LEAKS_OF_OTHERS.write_text("leak:libtbb.so\n")
ENVIRONMENT = {
    **os.environ,
    "TBB_ENABLE_SANITIZERS": "1",
    "LSAN_OPTIONS": f"suppressions={LEAKS_OF_OTHERS}:print_suppressions=0",
}


def compiled(program, *flags):
    """Return the agent, compiled with warnings as errors."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler is installed; apt-get install gcc")
    command = ["cc", *WARNINGS, *flags, *map(str, SOURCES), "-o", str(program), "-lm", "-lpthread", "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


@functools.cache
def sanitized_agent():
    """Return the agent with the sanitizers for addresses, leaks and undefined behaviour, and a fast heart."""
    limits = (f"-DHEARTBEAT_S={HEARTBEAT_S}", f"-DCOMMAND_LIMIT_S={COMMAND_LIMIT_S}")
    return compiled(Path(BUILT.name) / "agent", *SANITIZERS, *limits)


def library(runtime):
    """Return the shared library inside the runtime's Python package."""
    skip_without(runtime)
    package, pattern = LIBRARIES[runtime]
    (found,) = Path(find_spec(package).origin).parent.glob(pattern)
    return found


def run_agent(agent, *arguments, **settings):
    """Return the exit code, the messages without the heart's beats, and stderr of one session."""
    done = subprocess.run(
        [agent, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, env=ENVIRONMENT, **settings,
    )  # fmt: skip
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert "Sanitizer" not in done.stderr, done.stderr
    assert "runtime error" not in done.stderr, done.stderr
    return done.returncode, [message for message in messages if message["type"] != "heartbeat"], done.stderr


def session(runtime, models, folder, precision="fp32", inputs=None):
    """Return the arguments of a session with one of the tiny models."""
    return [*options(runtime, models, folder, precision, inputs), "--library", library(runtime)]


def outputs_in_this_process(runtime, model, inputs):
    """Return the outputs that the runtime computes when it is used directly."""
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        used = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return np.concatenate([used.run(None, {"x": row[None]})[0] for row in inputs])
    if runtime == "openvino":
        import openvino

        used = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.concatenate([used([row[None]])[0] for row in inputs])
    from ai_edge_litert.interpreter import Interpreter

    used = Interpreter(str(model))
    used.allocate_tensors()
    outputs = []
    for row in inputs:
        used.set_tensor(used.get_input_details()[0]["index"], row[None])
        used.invoke()
        outputs.append(used.get_tensor(used.get_output_details()[0]["index"]))
    return np.concatenate(outputs)


def write_onnx(path, nodes, inputs, outputs, opset=17, ir_version=9, **constants):
    """Write a small ONNX model; inputs and outputs are (name, numpy dtype, shape)."""
    from onnx import helper, numpy_helper, save

    values = [
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(d)), s) for n, d, s in side]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "graph", *values, [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version), path)
    return path


def write_tflite(path, outputs=(2,), last_operator=None):
    """Write y = mod(x + x, x) for x of open sizes: XNNPACK takes the sum, and has no remainder.

    `outputs` are numbers of x, x + x and y; another number of a built-in operator may take mod's place.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def made(kind, **fields):
        one = kind()
        for name, value in fields.items():
            setattr(one, name, value)
        return one

    tensors = [
        made(schema.TensorT, name=name, shape=[1, 1], shapeSignature=[-1, -1], hasRank=True)
        for name in ("x", "sum", "y")
    ]
    add = {"builtinOptionsType": schema.BuiltinOptions.AddOptions, "builtinOptions": schema.AddOptionsT()}
    graph = made(
        schema.SubGraphT, tensors=tensors, inputs=[0], outputs=list(outputs),
        operators=[
            made(schema.OperatorT, opcodeIndex=0, inputs=[0, 0], outputs=[1], **add),
            made(schema.OperatorT, opcodeIndex=1, inputs=[1, 0], outputs=[2]),
        ],
    )  # fmt: skip
    codes = [
        made(schema.OperatorCodeT, builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1)
        for code in (schema.BuiltinOperator.ADD, last_operator or schema.BuiltinOperator.FLOOR_MOD)
    ]
    model = made(schema.ModelT, version=3, operatorCodes=codes, subgraphs=[graph], buffers=[schema.BufferT()])
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def onnx_session(model, *more):
    return ["--runtime", "onnxruntime", "--library", library("onnxruntime"), "--model", model, *more]
