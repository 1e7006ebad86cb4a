"""What the native agent computes, reports and refuses, with every runtime that is installed, under the sanitizers."""

import json

import numpy as np
import pytest

from tests.support.agent_process import failure, only, options
from tests.support.agent_process import run_agent as run_python_agent
from tests.support.c_agent_process import (
    ROOT,
    RUNTIMES,
    compiled,
    library,
    onnx_session,
    outputs_in_this_process,
    run_agent,
    sanitized_agent,
    session,
    write_onnx,
    write_tflite,
)

GENERATOR_DTYPES = ("float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "uint64", "bool")


@pytest.fixture
def agent():
    return sanitized_agent()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_saved_outputs_equal_those_of_the_runtime_used_directly(runtime, precision, agent, tiny, tmp_path):
    models = tiny(runtime)
    saved = tmp_path / "y.npy"
    code, messages, stderr = run_agent(agent, *session(runtime, models, tmp_path, precision), "--outputs", saved)
    assert code == 0, stderr
    expected = outputs_in_this_process(runtime, models.models[precision], models.inputs[precision])
    # Bit by bit: the Python packages carry the same kernels.
    np.testing.assert_array_equal(np.load(saved), expected, err_msg="the agent computed something else")
    told = only(messages, "outputs")
    assert (told["shape"], told["dtype"]) == (list(models.outputs_shape), str(expected.dtype))
    assert not list(tmp_path.glob("*.part")), "a half-written file was left"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_precision_that_ran_is_the_one_the_python_agent_reports(runtime, precision, agent, tiny, tmp_path):
    arguments = options(runtime, tiny(runtime), tmp_path, precision)
    code, messages, stderr = run_agent(agent, *arguments, "--library", library(runtime), "--graph")
    assert code == 0, stderr
    _, of_python, stderr = run_python_agent(*arguments, "--graph")
    mine, other = (only(one, "precision")["actual"] for one in (messages, of_python))
    if runtime == "openvino":  # a kernel's name says I8 for both kinds of 8 bits
        other = other.replace("uint8", "int8")
    assert mine == other, stderr
    executors = {node["executor"] for node in only(messages, "graph")["nodes"]}
    if runtime != "openvino":
        assert executors == {node["executor"] for node in only(of_python, "graph")["nodes"]}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_whole_session_has_the_messages_and_keys_of_the_protocol(runtime, agent, tiny, tmp_path):
    golden = [json.loads(line) for line in (ROOT / "golden_session.jsonl").read_text().splitlines()]
    arguments = session(runtime, tiny(runtime), tmp_path, "int8")
    wishes = ["--iterations", 5, "--outputs", tmp_path / "y.npy", "--graph", "--streams", 2, "--threads", 2]
    code, messages, stderr = run_agent(agent, *arguments, *wishes)
    assert code == 0, stderr
    keys = {message["type"]: set(message) for message in golden}
    for message in messages:
        assert set(message) == keys[message["type"]], message["type"]
    order = list(dict.fromkeys(message["type"] for message in messages))
    assert order == [one for one in dict.fromkeys(message["type"] for message in golden) if one != "heartbeat"]
    for node in only(messages, "graph")["nodes"]:
        assert set(node) == {"name", "op", "precision", "inputs", "origins", "executor"}
    hello, memory = only(messages, "hello"), only(messages, "memory")
    assert (hello["protocol"], hello["agent"], hello["library"]) == (2, "c", str(library(runtime)))
    assert hello["runtime_version"][0].isdigit(), "the version is missing"
    assert memory["peak_rss_bytes"] > memory["rss_before_load_bytes"] > 2**20, "the sizes are implausible"
    assert (memory["arena_bytes"] is None) == (runtime != "onnxruntime"), "only ONNX Runtime tells"


def test_a_model_has_several_inputs_and_outputs_of_any_rank_and_dtype(agent, tmp_path):
    inputs = [("x", "float32", (1, 2, 3)), ("k", "int64", (2,)), ("s", "float64", ())]
    outputs = [("y", "float32", (1, 2, 3)), ("m", "int64", (2,)), ("t", "float64", ())]
    nodes = [("Add", ["x", "x"], ["y"]), ("Mul", ["k", "k"], ["m"]), ("Add", ["s", "one"], ["t"])]
    arguments = onnx_session(write_onnx(tmp_path / "m.onnx", nodes, inputs, outputs, one=np.float64(1)))
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    k = np.arange(8, dtype=np.int64) - 2**40
    s = np.linspace(0, 1, 4)
    for arrays in ((x, k, s), (x[:, None], k.reshape(4, 2), s)):  # samples along axis 0, and along one more in front
        words = [*arguments]
        for name, array in zip("xks", arrays, strict=True):
            np.save(tmp_path / f"{name}.npy", array)
            words += ["--inputs", tmp_path / f"{name}.npy", "--outputs", tmp_path / f"{name}_out.npy"]
        code, messages, stderr = run_agent(agent, *words)
        assert code == 0, (messages, stderr)
        for name, expected in (("x", x + x), ("k", k * k), ("s", s + 1)):
            result = np.load(tmp_path / f"{name}_out.npy")
            np.testing.assert_array_equal(result, expected)
            assert result.dtype == expected.dtype


def test_open_sizes_are_filled_in_by_the_array_and_outputs_are_joined_along_axis_0(agent, tmp_path):
    model = write_onnx(
        tmp_path / "m.onnx", [("NonZero", ["x"], ["n"]), ("Transpose", ["n"], ["y"], {"perm": [1, 0]})],
        [("x", "int32", ("batch", "width"))], [("y", "int64", (None, 2))],
    )  # fmt: skip
    x = np.array([[0, 1, 2, 0], [0, 0, 0, 0], [3, 0, 0, 4]], np.int32)
    np.save(tmp_path / "x.npy", x)
    files = ["--inputs", tmp_path / "x.npy", "--outputs", tmp_path / "y.npy"]
    code, messages, stderr = run_agent(agent, *onnx_session(model), *files)
    assert code == 0, (messages, stderr)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), [[0, 1], [0, 2], [0, 0], [0, 3]])


def test_litert_tells_who_ran_an_operator_and_fills_open_sizes(agent, tmp_path):
    model = ["--runtime", "litert", "--library", library("litert"), "--model", write_tflite(tmp_path / "m.tflite")]
    x = np.array([[1, 2, 3], [4, 5, 6.5]], np.float32)
    np.save(tmp_path / "x.npy", x)
    files = ["--inputs", tmp_path / "x.npy", "--outputs", tmp_path / "y.npy", "--graph"]
    code, messages, stderr = run_agent(agent, *model, *files)
    assert code == 0, (messages, stderr)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), (x + x) % x)
    nodes = [(node["op"], node["name"], node["executor"]) for node in only(messages, "graph")["nodes"]]
    assert nodes == [("ADD", "sum", "XNNPACK"), ("FLOOR_MOD", "y", "built-in")]


def test_outputs_that_cannot_be_joined_leave_no_file(agent, tmp_path):
    model = write_onnx(
        tmp_path / "m.onnx", [("NonZero", ["x"], ["y"])], [("x", "int32", (1, 2))], [("y", "int64", (2, None))]
    )
    np.save(tmp_path / "x.npy", np.array([[0, 1], [1, 1]], np.int32))
    files = ["--inputs", tmp_path / "x.npy", "--outputs", tmp_path / "y.npy"]
    code, reason, message = failure(run_agent(agent, *onnx_session(model), *files))
    assert (code, reason) == (15, "runtime-failed"), message
    assert {file.name for file in tmp_path.iterdir()} == {"m.onnx", "x.npy"}, "a part of the outputs was left"


def drawn(state, count):
    """Return the next state and `count` draws of the splitmix64 generator."""
    with np.errstate(over="ignore"):
        states = np.uint64(state) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (states ^ states >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return states[-1], z ^ z >> np.uint64(31)


def test_a_seed_gives_the_values_that_the_protocol_describes(agent, tmp_path):
    names = {dtype: f"x_{dtype}" for dtype in GENERATOR_DTYPES}
    sides = [[(f"{side}_{dtype}", dtype, ("batch", 500)) for dtype in names] for side in "xy"]
    nodes = [("Identity", [f"x_{dtype}"], [f"y_{dtype}"]) for dtype in names]
    words = onnx_session(write_onnx(tmp_path / "m.onnx", nodes, *sides), "--seed", 2**64 - 5)
    for dtype in names:
        words += ["--outputs", tmp_path / f"{dtype}.npy"]
    code, messages, stderr = run_agent(agent, *words)
    assert code == 0, (messages, stderr)
    state = 2**64 - 5
    for dtype in names:
        state, z = drawn(state, 500)
        real = (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1
        integer = z & np.uint64(1) if dtype == "bool" else z
        expected = (real if "float" in dtype else integer).astype(dtype)
        np.testing.assert_array_equal(np.load(tmp_path / f"{dtype}.npy"), expected[None], err_msg=dtype)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_cut_short_anywhere_is_unreadable_and_never_crashes_the_agent(runtime, agent, tiny, tmp_path):
    arguments = session(runtime, tiny(runtime), tmp_path, "int8")
    whole = arguments[3].read_bytes()
    arguments[3] = tmp_path / f"cut{arguments[3].suffix}"
    for length in (0, 7, len(whole) // 4, len(whole) // 2, len(whole) - 40):
        arguments[3].write_bytes(whole[:length])
        code, reason, message = failure(run_agent(agent, *arguments))
        assert (code, reason) == (12, "unreadable-model"), (length, message)
        assert arguments[3].name in message, "the message does not name the file"


def newer_models(folder, tiny):
    """Yield a runtime, a model that is newer than it, and words that must be in the reason."""
    one = [("x", "float32", (1,))], [("y", "float32", (1,))]
    nodes = [("Relu", ["x"], ["y"])]
    yield "onnxruntime", write_onnx(folder / "ir.onnx", nodes, *one, ir_version=99), "IR version: 99, max supported"
    yield "onnxruntime", write_onnx(folder / "opset.onnx", nodes, *one, opset=99), "Opset 99"
    text = tiny("openvino").models["fp32"].read_text()
    (folder / "new.bin").write_bytes(tiny("openvino").models["fp32"].with_suffix(".bin").read_bytes())
    (folder / "new.xml").write_text(
        text.replace('type="Convolution" version="opset1"', 'type="Convolution" version="opset99"')
    )
    yield "openvino", folder / "new.xml", "opset99"
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = tiny("litert").models["fp32"].read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    model.operatorCodes[0].version = 99
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "new.tflite").write_bytes(builder.Output())
    yield "litert", folder / "new.tflite", "version '99'"


def test_a_model_newer_than_the_runtime_is_told_with_its_version(agent, tiny, tmp_path):
    for runtime, model, words in newer_models(tmp_path, tiny):
        arguments = ["--runtime", runtime, "--library", library(runtime), "--model", model, "--seed", 1]
        code, reason, message = failure(run_agent(agent, *arguments))
        assert (code, reason, words in message) == (17, "old-runtime", True), message


def test_what_is_missing_or_wrong_is_named_by_its_reason(agent, tiny, tmp_path):
    models = tiny("onnxruntime")
    good = session("onnxruntime", models, tmp_path)
    (tmp_path / "text.so").write_text("no library")
    (tmp_path / "text.npy").write_text("no array, but longer than a header")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    np.save(tmp_path / "double.npy", models.inputs["fp32"].astype(np.float64))
    np.save(tmp_path / "narrow.npy", models.inputs["fp32"][..., :-1])
    for option, value, code, reason, words in (
        ("--library", tmp_path / "none.so", 10, "missing-runtime", "none.so"),
        ("--library", tmp_path / "text.so", 18, "wrong-library", "text.so"),
        ("--library", "libm.so.6", 18, "wrong-library", "has no OrtGetApiBase"),
        ("--model", tmp_path / "none.onnx", 11, "missing-file", "none.onnx"),
        ("--inputs", tmp_path / "none.npy", 11, "missing-file", "none.npy"),
        ("--inputs", tmp_path / "text.npy", 13, "bad-input", "no .npy array"),
        ("--inputs", tmp_path / "cut.npy", 13, "bad-input", "cut short"),
        ("--inputs", tmp_path / "double.npy", 13, "bad-input", "float64"),
        ("--inputs", tmp_path / "narrow.npy", 13, "bad-input", "[5, 3, 16, 15]"),
        ("--outputs", tmp_path / "none" / "y.npy", 16, "write-failed", "y.npy"),
        ("--log", tmp_path / "none" / "log", 16, "write-failed", "log"),
        ("--threads", 0, 2, "usage", "--threads 0"),
        ("--seed", 1, 2, "usage", "either --inputs or --seed"),
        ("--affinity", "0,x", 2, "usage", "0,2-3"),
        ("--period-s", 1, 2, "usage", "--sample"),
    ):
        words_of_it = [*good]
        if option in good:
            words_of_it[good.index(option) + 1] = value
        else:
            words_of_it += [option, value]
        result = run_agent(agent, *words_of_it)
        assert failure(result)[:2] == (code, reason), (option, value, failure(result))
        assert words in failure(result)[2], (option, value, failure(result))
        kinds = [message["type"] for message in result[1]]
        assert kinds[-1] == "error", kinds
        assert set(result[1][-1]) == {"type", "reason", "message"}
        assert (kinds[0] == "hello") == (reason != "usage" and option != "--log"), "hello comes first"


def test_a_model_that_needs_more_memory_than_there_is_fails_as_out_of_memory(tmp_path):
    agent = compiled(tmp_path / "agent", "-O2")  # as it is shipped: AddressSanitizer ends a program that asks too much
    model = write_onnx(
        tmp_path / "m.onnx", [("Expand", ["x", "sizes"], ["y"])],
        [("x", "float32", (1, 1))], [("y", "float32", (2**24, 2**24))], sizes=np.array([2**24, 2**24]),
    )  # fmt: skip
    code, reason, message = failure(run_agent(agent, *onnx_session(model), "--seed", 1))
    assert (code, reason) == (14, "out-of-memory"), message


def test_both_agents_take_an_fp16_model_and_say_in_what_it_ran(agent, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[onnx]'")
    half, kind = onnx.TensorProto.FLOAT16, onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float16) * np.float16(0.5), "w")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [kind("x", half, [1, 4])], [kind("y", half, [1, 4])], [weight])
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "half.onnx")
    inputs = np.arange(8, dtype=np.float16).reshape(2, 4)
    np.save(tmp_path / "x.npy", inputs)
    wishes = ["--runtime", "onnxruntime", "--model", tmp_path / "half.onnx", "--inputs", tmp_path / "x.npy"]
    wishes += ["--precision", "fp16", "--graph", "--outputs", tmp_path / "y.npy"]
    for code, messages, stderr in (
        run_agent(agent, *wishes, "--library", library("onnxruntime")),
        run_python_agent(*wishes),
    ):
        assert code == 0, stderr
        assert only(messages, "precision")["requested"] == "fp16", "the agent says that something else was asked for"
        saved = np.load(tmp_path / "y.npy")
        assert (saved.dtype, saved.tolist()) == (np.float16, (inputs / 2).tolist()), "the outputs are others"
