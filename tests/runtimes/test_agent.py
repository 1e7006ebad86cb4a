"""What the Python agent computes, reports and refuses, with every runtime that is installed."""

import json
import os

import numpy as np
import pytest

from tests.support.agent_process import copy_agent, failure, only, options, run_agent
from tests.support.c_agent_process import ROOT, RUNTIMES, outputs_in_this_process

SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml", "litert": ".tflite"}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_saved_outputs_equal_those_of_the_runtime_used_directly(runtime, precision, tiny, tmp_path):
    models = tiny(runtime)
    saved = tmp_path / "y.npy"
    code, messages, stderr = run_agent(*options(runtime, models, tmp_path, precision), "--outputs", saved)
    assert code == 0, stderr
    outputs = np.load(saved)
    expected = outputs_in_this_process(runtime, models.models[precision], models.inputs[precision])
    np.testing.assert_array_equal(outputs, expected, err_msg="the agent computed something else")
    assert only(messages, "outputs")["shape"] == list(models.outputs_shape), "the reported shape is not the saved one"
    assert not list(tmp_path.glob("*.part")), "a half-written file was left"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_convolutions_are_reported_integer_in_an_int8_model_and_float_in_an_fp32_model(runtime, tiny, tmp_path):
    models = tiny(runtime)
    seen = {}
    for precision in ("fp32", "int8"):
        code, messages, stderr = run_agent(*options(runtime, models, tmp_path, precision), "--graph")
        assert code == 0, stderr
        nodes = only(messages, "graph")["nodes"]
        convolutions = [node for node in nodes if "CONV" in node["op"].upper()]
        assert len(convolutions) == 1, f"one convolution was expected among {[node['op'] for node in nodes]}"
        seen[precision] = convolutions[0]["precision"]
        assert only(messages, "precision")["actual"] == seen[precision], "the summary differs from the nodes"
    assert seen["fp32"] == "fp32", "a float convolution is not reported as one"
    assert seen["int8"] in ("int8", "uint8"), "an integer convolution is not reported as one"


def test_the_executor_names_onnxruntime_kernels_litert_delegate_and_openvino_primitive(tiny, tmp_path):
    expected = {"onnxruntime": "CPUExecutionProvider", "litert": "XNNPACK"}
    for runtime, executor in expected.items():
        _, messages, _ = run_agent(*options(runtime, tiny(runtime), tmp_path), "--graph")
        executors = {node["executor"] for node in only(messages, "graph")["nodes"]}
        assert executors == {executor}, f"{runtime} reports other executors"
    _, messages, _ = run_agent(*options("openvino", tiny("openvino"), tmp_path, "int8"), "--graph")
    (conv,) = [node for node in only(messages, "graph")["nodes"] if node["op"] == "Convolution"]
    assert "i8" in conv["executor"].lower(), "the integer convolution's kernel is not an integer one"
    assert "conv" in conv["origins"], "OpenVINO's own record of the original node is lost"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_truncated_model_is_unreadable(runtime, tiny, tmp_path):
    models = tiny(runtime)
    arguments = options(runtime, models, tmp_path)
    whole = models.models["fp32"].read_bytes()
    arguments[3] = tmp_path / f"half{SUFFIXES[runtime]}"
    arguments[3].write_bytes(whole[: len(whole) // 2])
    code, reason, message = failure(run_agent(*arguments))
    assert (code, reason) == (12, "unreadable-model"), message
    assert "half" in message, "the message does not name the file"


def test_an_openvino_model_without_its_weights_is_unreadable(tiny, tmp_path):
    models = tiny("openvino")
    arguments = options("openvino", models, tmp_path)
    arguments[3] = tmp_path / "alone.xml"
    arguments[3].write_bytes(models.models["fp32"].read_bytes())
    code, reason, message = failure(run_agent(*arguments))
    assert (code, reason) == (12, "unreadable-model"), message


def test_missing_files_are_named(tiny, tmp_path):
    models = tiny("onnxruntime")
    for position in (3, 5):
        arguments = options("onnxruntime", models, tmp_path)
        arguments[position] = tmp_path / "nowhere"
        code, reason, message = failure(run_agent(*arguments))
        assert (code, reason) == (11, "missing-file"), message
        assert "nowhere" in message, "the message does not name the file"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_inputs_of_a_wrong_shape_or_type_are_bad_input(runtime, tiny, tmp_path):
    models = tiny(runtime)
    good = models.inputs["fp32"]
    for bad, word in ((good[:, :, :, :-1], "shape"), (good.astype(np.float64), "float64")):
        code, reason, message = failure(run_agent(*options(runtime, models, tmp_path, inputs=bad)))
        assert (code, reason) == (13, "bad-input"), message
        assert word in message, "the message does not say what is wrong"


def test_inputs_that_are_no_array_are_bad_input(tiny, tmp_path):
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    for content in (b"not an array", b"", (tmp_path / "x.npy").read_bytes()[:200]):
        (tmp_path / "x.npy").write_bytes(content)
        code, reason, message = failure(run_agent(*arguments))
        assert (code, reason) == (13, "bad-input"), message


def test_a_model_that_needs_more_memory_than_there_is_fails_as_out_of_memory(tiny, tmp_path):
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    from onnx import TensorProto, helper, numpy_helper, save

    sizes = numpy_helper.from_array(np.array([2**20, 3, 2**10, 2**20]), "sizes")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["m"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Expand", ["m", "sizes"], ["y"]),
        ],
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [sizes],
    )
    arguments[3] = tmp_path / "huge.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), arguments[3])
    code, reason, message = failure(run_agent(*arguments))
    assert (code, reason) == (14, "out-of-memory"), message


def test_outputs_that_cannot_be_written_are_write_failed(tiny, tmp_path):
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    code, reason, message = failure(run_agent(*arguments, "--outputs", tmp_path / "no_folder" / "y.npy"))
    assert (code, reason) == (16, "write-failed"), message


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_memory_grows_with_the_model_and_versions_are_reported(runtime, tiny, tmp_path):
    _, messages, _ = run_agent(*options(runtime, tiny(runtime), tmp_path))
    memory, hello = only(messages, "memory"), only(messages, "hello")
    assert memory["peak_rss_bytes"] > memory["rss_before_load_bytes"] > 2**20, "the sizes are implausible"
    assert hello["runtime_version"], "the version is missing"


def test_a_session_has_the_messages_and_fields_of_the_golden_session(tiny, tmp_path):
    golden = [json.loads(line) for line in (ROOT / "golden_session.jsonl").read_text().splitlines()]
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path, "int8")
    wishes = ["--iterations", 5, "--outputs", tmp_path / "y.npy", "--graph"]
    _, messages, _ = run_agent(*arguments, *wishes)
    assert shape_of(messages) == shape_of(golden), "the agent and the golden session disagree"


def shape_of(messages):
    """Return the types in order, repeated `time` messages as one, each with its fields, without the heart's beats."""
    shapes = [(message["type"], sorted(message)) for message in messages if message["type"] != "heartbeat"]
    return [one for index, one in enumerate(shapes) if index == 0 or one != shapes[index - 1]]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_deployed_agent_needs_nothing_of_edgeslim_nor_of_the_network(runtime, tiny, tmp_path):
    copy_agent(tmp_path, runtime)
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "def refuse(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname'):\n"
        "        os._exit(99)\n"
        "def look_back():\n"
        "    if sys.modules.get('openvino_telemetry') or sys.modules.get('edgeslim'):\n"
        "        os._exit(98)\n"
        "sys.addaudithook(refuse)\n"
        "atexit.register(look_back)\n"
    )
    arguments = options(runtime, tiny(runtime), tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code, _, stderr = run_agent(*arguments, "--graph", agent=tmp_path, cwd=tmp_path, env=environment)
    assert code == 0, f"99: it used the network; 98: it imported edgeslim or telemetry\n{stderr}"
