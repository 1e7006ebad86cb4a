import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

AGENT_FOLDER = Path(__file__).resolve().parents[2] / "runtimes" / "python"
RUNTIMES = ("onnxruntime", "openvino", "litert")
SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml", "litert": ".tflite"}


def run_agent(*arguments, agent=AGENT_FOLDER / "agent.py", **settings):
    """Return the exit code, the messages and stderr of one session."""
    command = [sys.executable, "-B", str(agent), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **settings)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def agent_module():
    specification = importlib.util.spec_from_file_location("agent", AGENT_FOLDER / "agent.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def options(runtime, models, folder, precision="fp32", inputs=None):
    np.save(folder / "x.npy", models.inputs[precision] if inputs is None else inputs)
    model = models.models[precision]
    return ["--runtime", runtime, "--model", model, "--inputs", folder / "x.npy", "--precision", precision]


def only(messages, kind):
    (message,) = [message for message in messages if message["type"] == kind]
    return message


def outputs_in_this_process(runtime, model, inputs):
    if runtime == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"x": row[None]})[0] for row in inputs])
    if runtime == "openvino":
        sys.modules.setdefault("openvino_telemetry", None)
        import openvino

        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.concatenate([compiled([row[None]])[0] for row in inputs])
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    outputs = []
    for row in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(outputs)


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


def test_every_raw_time_is_reported_and_both_limits_are_reached(tiny, tmp_path):
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    _, messages, _ = run_agent(*arguments, "--iterations", 37)
    times = [second for message in messages if message["type"] == "time" for second in message["seconds"]]
    assert len(times) == 37, "a time is missing or was invented"
    assert min(times) > 0, "a time is not positive"
    _, messages, _ = run_agent(*arguments, "--iterations", 1, "--min-duration-s", 1.2)
    batches = [message["seconds"] for message in messages if message["type"] == "time"]
    assert len(batches) >= 2, "long runs report as they go"
    assert sum(map(len, batches)) > 37, "the loop ended with the iterations and before the duration"


def test_the_timed_loop_uses_every_sample_in_turn():
    agent = agent_module()
    rows = agent.endless_rows(np.arange(3))
    assert [int(next(rows)[0]) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0], "the samples do not cycle"


def test_an_explicit_warm_up_runs_exactly_that_often_and_an_automatic_one_ends():
    agent = agent_module()
    calls = []
    agent.warm_up(calls.append, agent.endless_rows(np.arange(3)), 4)
    assert len(calls) == 4, "the count was not kept"
    agent.warm_up(calls.append, agent.endless_rows(np.arange(3)), None)
    assert len(calls) >= 10, "automatic warm-up needs two groups of three to compare"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_truncated_model_is_unreadable(runtime, tiny, tmp_path):
    models = tiny(runtime)
    arguments = options(runtime, models, tmp_path)
    whole = models.models["fp32"].read_bytes()
    arguments[3] = tmp_path / f"half{SUFFIXES[runtime]}"
    arguments[3].write_bytes(whole[: len(whole) // 2])
    code, messages, _ = run_agent(*arguments)
    assert (code, messages[-1]["reason"]) == (12, "unreadable-model"), messages[-1]
    assert "half" in messages[-1]["message"], "the message does not name the file"


def test_an_openvino_model_without_its_weights_is_unreadable(tiny, tmp_path):
    models = tiny("openvino")
    arguments = options("openvino", models, tmp_path)
    arguments[3] = tmp_path / "alone.xml"
    arguments[3].write_bytes(models.models["fp32"].read_bytes())
    code, messages, _ = run_agent(*arguments)
    assert (code, messages[-1]["reason"]) == (12, "unreadable-model"), messages[-1]


def test_missing_files_are_named(tiny, tmp_path):
    models = tiny("onnxruntime")
    for position in (3, 5):
        arguments = options("onnxruntime", models, tmp_path)
        arguments[position] = tmp_path / "nowhere"
        code, messages, _ = run_agent(*arguments)
        assert (code, messages[-1]["reason"]) == (11, "missing-file"), messages[-1]
        assert "nowhere" in messages[-1]["message"], "the message does not name the file"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_inputs_of_a_wrong_shape_or_type_are_bad_input(runtime, tiny, tmp_path):
    models = tiny(runtime)
    good = models.inputs["fp32"]
    for bad, word in ((good[:, :, :, :-1], "shape"), (good.astype(np.float64), "float64")):
        code, messages, _ = run_agent(*options(runtime, models, tmp_path, inputs=bad))
        assert (code, messages[-1]["reason"]) == (13, "bad-input"), messages[-1]
        assert word in messages[-1]["message"], "the message does not say what is wrong"


def test_inputs_that_are_no_array_are_bad_input(tiny, tmp_path):
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    for content in (b"not an array", b"", (tmp_path / "x.npy").read_bytes()[:200]):
        (tmp_path / "x.npy").write_bytes(content)
        code, messages, _ = run_agent(*arguments)
        assert (code, messages[-1]["reason"]) == (13, "bad-input"), messages[-1]


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
    code, messages, _ = run_agent(*arguments)
    assert (code, messages[-1]["reason"]) == (14, "out-of-memory"), messages[-1]


def test_a_runtime_that_is_not_installed_is_named_after_hello(tiny, tmp_path):
    for name in ("agent.py", "runtime_onnxruntime.py"):
        (tmp_path / name).write_bytes((AGENT_FOLDER / name).read_bytes())
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('No module named onnxruntime')")
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    code, messages, _ = run_agent(*arguments, agent=tmp_path / "agent.py")
    assert [message["type"] for message in messages] == ["hello", "error"], "hello must come first, then the error"
    assert messages[0]["runtime_version"] is None, "there is no version of what is not installed"
    assert (code, messages[-1]["reason"]) == (10, "missing-runtime"), messages[-1]


def test_outputs_that_cannot_be_written_are_write_failed(tiny, tmp_path):
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    code, messages, _ = run_agent(*arguments, "--outputs", tmp_path / "no_folder" / "y.npy")
    assert (code, messages[-1]["reason"]) == (16, "write-failed"), messages[-1]


def test_a_wrong_command_line_is_a_usage_error():
    code, messages, _ = run_agent("--runtime", "caffe")
    assert (code, messages[-1]["reason"]) == (2, "usage"), messages


def test_what_libraries_print_on_stdout_goes_to_stderr(tmp_path):
    (tmp_path / "agent.py").write_bytes((AGENT_FOLDER / "agent.py").read_bytes())
    (tmp_path / "runtime_litert.py").write_text(
        "import ctypes, os, sys\n"
        "import numpy as np\n"
        "PACKAGE, VERSION = 'noisy', '1'\n"
        "print('chatter from python')\n"
        "def load(model, threads, precision):\n"
        "    libc = ctypes.CDLL(None)\n"
        "    libc.puts(b'chatter from C')\n"
        "    libc.fflush(None)\n"
        "    os.system('echo chatter from a child')\n"
        "    return [((1,), np.dtype('float64'))], lambda row: row\n"
    )
    np.save(tmp_path / "x.npy", np.ones(2))
    arguments = ["--runtime", "litert", "--model", tmp_path / "x.npy", "--inputs", tmp_path / "x.npy"]
    code, messages, stderr = run_agent(*arguments, agent=tmp_path / "agent.py")
    assert code == 0, stderr
    assert [message["type"] for message in messages] == ["hello", "init", "first", "memory", "done"], "chatter leaked"
    assert stderr.count("chatter") == 3, "chatter was lost instead of moved"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_memory_grows_with_the_model_and_versions_are_reported(runtime, tiny, tmp_path):
    _, messages, _ = run_agent(*options(runtime, tiny(runtime), tmp_path))
    memory, hello = only(messages, "memory"), only(messages, "hello")
    assert memory["peak_rss_bytes"] > memory["rss_before_load_bytes"] > 2**20, "the sizes are implausible"
    assert hello["runtime_version"], "the version is missing"


def test_a_session_has_the_messages_and_fields_of_the_golden_session(tiny, tmp_path):
    golden = [json.loads(line) for line in (AGENT_FOLDER / "golden_session.jsonl").read_text().splitlines()]
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path, "int8")
    wishes = ["--iterations", 5, "--outputs", tmp_path / "y.npy", "--graph"]
    _, messages, _ = run_agent(*arguments, *wishes)
    assert shape_of(messages) == shape_of(golden), "the agent and the golden session disagree"


def shape_of(messages):
    """Return the types in order, repeated `time` messages as one, each with its fields."""
    shapes = [(message["type"], sorted(message)) for message in messages]
    return [one for index, one in enumerate(shapes) if index == 0 or one != shapes[index - 1]]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_deployed_agent_needs_nothing_of_edgeslim_nor_of_the_network(runtime, tiny, tmp_path):
    for name in ("agent.py", f"runtime_{runtime}.py"):
        (tmp_path / name).write_bytes((AGENT_FOLDER / name).read_bytes())
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
    code, _, stderr = run_agent(*arguments, "--graph", agent=tmp_path / "agent.py", cwd=tmp_path, env=environment)
    assert code == 0, f"99: it used the network; 98: it imported edgeslim or telemetry\n{stderr}"


def test_an_agent_killed_by_a_signal_sends_no_done(tiny, tmp_path):
    arguments = options("onnxruntime", tiny("onnxruntime"), tmp_path)
    command = [sys.executable, "-B", str(AGENT_FOLDER / "agent.py"), *map(str, arguments), "--min-duration-s", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        seen = [json.loads(agent.stdout.readline())["type"] for _ in range(3)]
        agent.send_signal(signal.SIGKILL)
        rest = [json.loads(line)["type"] for line in agent.stdout]
    assert seen == ["hello", "init", "first"], "messages must come as they happen"
    assert "done" not in rest, "a killed agent cannot be done"
