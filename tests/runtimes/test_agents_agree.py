"""The two agents give the same reason and the same exit code for the same fault, in messages that are read strictly."""

import json
import os
import re
import stat
import subprocess

import numpy as np
import pytest

from edgeslim.deploy.agent_session import read_message
from tests.support.agent_process import command, failure, only, times
from tests.support.c_agent_process import ENVIRONMENT, library, sanitized_agent, write_onnx, write_tflite

HEADER = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"
DATA = np.zeros((5, 3, 16, 16), np.float32).tobytes()
ONE = [("x", "float32", (1, 4))]


def run_both(runtime, *arguments):
    """Return the exit code, the messages and stderr of the C agent and of the Python agent."""
    results = []
    for agent in ([sanitized_agent(), "--library", library(runtime)], command()):
        words = [str(word) for word in (*agent, "--runtime", runtime, *arguments)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=ENVIRONMENT)
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr
        lines = done.stdout.splitlines()
        for number, line in enumerate(lines, start=1):
            read_message(line, number)
        messages = [json.loads(line) for line in lines]
        results.append((done.returncode, [one for one in messages if one["type"] != "heartbeat"], done.stderr))
    return results


def assert_both_fail(code, reason, *arguments):
    """Run both agents, compare how they fail, and return their messages."""
    told = []
    for agent, result in zip(("C", "Python"), run_both(*arguments), strict=True):
        assert result[0] == code, f"the {agent} agent: {result}"
        assert failure(result)[:2] == (code, reason), f"the {agent} agent: {failure(result)}"
        told.append(failure(result)[2])
    return told


def outputs_of_both(runtime, folder, model, *arguments):
    """Return what each agent saved of the model's first output."""
    saved = folder / "saved.npy"
    arrays = []
    for code, messages, stderr in run_both(runtime, "--model", model, "--outputs", saved, *arguments):
        assert code == 0, (messages, stderr)
        arrays.append(np.load(saved))
    return arrays


def npy(dtype="<f4", fortran="False", shape="(5, 3, 16, 16)", without=0):
    """Return a file whose header is short of its last bytes."""
    text = (HEADER % (dtype, fortran, shape)).encode()
    text = text[: len(text) - without]
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + DATA


@pytest.mark.parametrize(
    "content",
    [
        npy(shape="(4611686018427387904, 3, 16, 16)"),
        npy(shape="(99999999999999999999999, 3, 16, 16)"),
        npy(shape="(-5, 3, 16, 16)"),
        npy(shape="(5 3 16 16)"),
        npy(shape="(0, 3, 16, 16)"),
        npy(shape="()"),
        npy(shape="(" + "1, " * 100 + ")"),
        npy(dtype=">f4"),
        npy(dtype="|O"),
        npy(dtype="<x9"),
        npy(fortran="True"),
        npy(without=5),
        npy(without=60),
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_an_array_with_a_header_that_cannot_be_is_bad_input(content, tiny, tmp_path):
    (tmp_path / "x.npy").write_bytes(content)
    model = tiny("onnxruntime").models["fp32"]
    for message in assert_both_fail(13, "bad-input", "onnxruntime", "--model", model, "--inputs", tmp_path / "x.npy"):
        assert message, "there is no message"


def test_a_folder_a_pipe_and_a_name_too_long_are_missing_files(tiny, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    model = tiny("onnxruntime").models["fp32"]
    for path in (tmp_path, tmp_path / "pipe", tmp_path / ("a" * 5000)):
        for words in (["--model", path, "--seed", 1], ["--model", model, "--inputs", path]):
            for message in assert_both_fail(11, "missing-file", "onnxruntime", *words):
                assert str(path) in message, "the message does not name the file"


@pytest.mark.parametrize(
    "words",
    [
        ["--iter", "5"],
        ["--iterations", "+5"],
        ["--iterations", str(2**63)],
        ["--threads", "10000"],
        ["--streams", "2000"],
        ["--affinity", "0,1023"],
        ["--affinity", "0-3000000000"],
        ["--min-duration-s", "0x1"],
        ["--max-duration-s", "1e300"],
        ["--no-fallback"],
        ["--no-fallback", "--provider", "CPUExecutionProvider"],
        ["--prov", "CPUExecutionProvider"],
    ],
)
def test_a_word_that_cannot_be_is_a_usage_error(words, tiny):
    model = tiny("onnxruntime").models["fp32"]
    assert_both_fail(2, "usage", "onnxruntime", "--model", model, "--seed", 1, *words)


@pytest.mark.parametrize(
    "words",
    [
        ["--sample", "/proc/uptime", "--period-s", "1e-320"],
        ["--sample", "/proc/uptime", "--period-s", "1", "--max-duration-s", "1e300"],
        ["--sample-command", "echo 'two", "--period-s", "1"],
    ],
)
def test_a_word_of_sampling_that_cannot_be_is_a_usage_error(words):
    for agent in ([sanitized_agent()], command()):
        done = subprocess.run([*agent, *words], capture_output=True, text=True, check=False, timeout=20)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert failure((done.returncode, said, ""))[:2] == (2, "usage"), said


@pytest.mark.parametrize("runtime", ["openvino", "litert"])
@pytest.mark.parametrize("words", [["--provider", "CPUExecutionProvider"], ["--no-fallback"]])
def test_only_onnx_runtime_has_providers(runtime, words, tiny):
    session = ["--model", tiny(runtime).models["fp32"], "--seed", 1, *words]
    for message in assert_both_fail(2, "usage", runtime, *session):
        assert message == f"{words[0]} has a meaning only with --runtime onnxruntime", "it names something else"


def test_a_provider_that_the_build_lacks_is_named_with_those_there_are(tiny):
    import onnxruntime

    there = ", ".join(onnxruntime.get_available_providers())
    session = ["--model", tiny("onnxruntime").models["fp32"], "--seed", 1]
    for words in (["TensorrtExecutionProvider", "--no-fallback"], ["NoSuchProvider"]):
        told = assert_both_fail(10, "missing-runtime", "onnxruntime", *session, "--provider", *words)
        assert told == [f"this build of ONNX Runtime has no {words[0]}; it has {there}"] * 2, told


def test_the_cpu_may_be_asked_for_by_name(tiny):
    session = ["--model", tiny("onnxruntime").models["fp32"], "--seed", 1, "--provider", "CPUExecutionProvider"]
    for code, messages, stderr in run_both("onnxruntime", *session, "--graph"):
        assert code == 0, (messages, stderr)
        ran = {node["executor"] for node in only(messages, "graph")["nodes"]}
        assert ran == {"CPUExecutionProvider"}, "another one ran"


def test_a_provider_that_leaves_nodes_to_the_cpu_is_refused_only_without_fallback(tiny):
    import onnxruntime

    wanted = "AzureExecutionProvider"  # in the wheels for CPUs, and no node of a network is ever its own
    if wanted not in onnxruntime.get_available_providers():
        pytest.skip(f"this build of ONNX Runtime has no {wanted}")
    session = ["--model", tiny("onnxruntime").models["fp32"], "--seed", 1, "--provider", wanted]
    for code, messages, stderr in run_both("onnxruntime", *session, "--graph"):
        assert code == 0, (messages, stderr)
        assert {node["executor"] for node in only(messages, "graph")["nodes"]} == {"CPUExecutionProvider"}
    for message in assert_both_fail(19, "fallback", "onnxruntime", *session, "--no-fallback"):
        assert f"{wanted} leaves nodes of it to the CPU; --graph without --no-fallback tells which" in message


def test_outputs_never_take_the_place_of_what_is_no_file(tiny, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    session = ["--model", tiny("onnxruntime").models["fp32"], "--seed", 1, "--outputs", tmp_path / "pipe"]
    assert_both_fail(16, "write-failed", "onnxruntime", *session)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode), "the pipe was replaced"


def test_a_name_that_is_no_text_is_told_in_valid_json(tiny, tmp_path):
    name = tmp_path / os.fsdecode(b'"y"\n\\\xc3\xa9 \xff.npy')
    model = tiny("onnxruntime").models["fp32"]
    for code, messages, stderr in run_both("onnxruntime", "--model", model, "--seed", 1, "--outputs", name):
        assert code == 0, (messages, stderr)
        assert only(messages, "outputs")["path"].endswith('/"y"\n\\é \ufffd.npy'), "the name is spelled otherwise"


def test_an_output_that_no_array_holds_is_bad_input_where_it_is_to_be_saved(tmp_path):
    from onnx import TensorProto, helper, load, save

    text = write_onnx(
        tmp_path / "text.onnx", [("Cast", ["x"], ["y"], {"to": TensorProto.STRING})], ONE, [("y", "object", (1, 4))]
    )
    half = write_onnx(tmp_path / "half.onnx", [("Cast", ["x"], ["y"], {"to": TensorProto.BFLOAT16})], ONE, ONE)
    model = load(half)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.BFLOAT16, (1, 4)))
    save(model, half)
    for runtime, path in (("onnxruntime", text), ("openvino", half)):
        session = ["--model", path, "--seed", 1]
        assert [code for code, _, _ in run_both(runtime, *session)] == [0, 0], "it can run, if it is not saved"
        assert_both_fail(13, "bad-input", runtime, *session, "--outputs", tmp_path / "y.npy")


def test_outputs_that_do_not_go_into_one_array_are_a_failure_of_the_run(tmp_path):
    model = write_onnx(
        tmp_path / "m.onnx", [("NonZero", ["x"], ["y"])], [("x", "int32", (1, 2))], [("y", "int64", (2, None))]
    )
    np.save(tmp_path / "x.npy", np.array([[0, 1], [1, 1]], np.int32))
    files = ["--inputs", tmp_path / "x.npy", "--outputs", tmp_path / "y.npy"]
    for message in assert_both_fail(15, "runtime-failed", "onnxruntime", "--model", model, *files):
        assert "unlike those before it" in message, "the message does not say what is wrong"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_value_without_axes_goes_in_and_comes_out(runtime, tmp_path):
    model = write_onnx(
        tmp_path / "m.onnx", [("Add", ["x", "x"], ["y"])], [("x", "float32", ())], [("y", "float32", ())]
    )
    np.save(tmp_path / "x.npy", np.array([1, 2.5], np.float32))
    for saved in outputs_of_both(runtime, tmp_path, model, "--inputs", tmp_path / "x.npy"):
        np.testing.assert_array_equal(saved, np.array([2, 5], np.float32), err_msg="a value is lost")


def test_a_tensor_that_litert_gives_out_twice_is_saved_twice(tmp_path):
    model = write_tflite(tmp_path / "m.tflite", outputs=(2, 2))
    x, again = np.array([[1, 2, 3]], np.float32), tmp_path / "again.npy"
    np.save(tmp_path / "x.npy", x)
    files = ["--inputs", tmp_path / "x.npy", "--outputs", again]
    for saved in outputs_of_both("litert", tmp_path, model, *files):
        np.testing.assert_array_equal(saved, (x + x) % x, err_msg="the value is another one")
        np.testing.assert_array_equal(saved, np.load(again), err_msg="one tensor has two values")


def test_a_model_newer_than_the_runtime_is_told_by_both(tiny, tmp_path):
    whole = tiny("openvino").models["fp32"]
    (tmp_path / "new.bin").write_bytes(whole.with_suffix(".bin").read_bytes())
    (tmp_path / "new.xml").write_text(re.sub(r'(<net [^>]*version=")\d+', r"\g<1>99", whole.read_text()))
    for message in assert_both_fail(17, "old-runtime", "openvino", "--model", tmp_path / "new.xml", "--seed", 1):
        assert "up to version 11; the model has 99" in message, "the versions are missing"
    newer = write_tflite(tmp_path / "new.tflite", last_operator=5000)
    for message in assert_both_fail(17, "old-runtime", "litert", "--model", newer, "--seed", 1):
        assert "5000" in message, "the operator is missing"


def test_an_input_larger_than_any_memory_is_out_of_memory(tmp_path):
    nodes = [("ReduceMax", ["x"], ["y"], {"axes": [0, 1], "keepdims": 1})]
    model = write_onnx(tmp_path / "m.onnx", nodes, [("x", "float32", (2**40, 2**40))], [("y", "float32", (1, 1))])
    assert_both_fail(14, "out-of-memory", "onnxruntime", "--model", model, "--seed", 1)


def test_however_short_the_time_one_inference_is_timed(tiny):
    session = ["--model", tiny("onnxruntime").models["fp32"], "--seed", 1, "--iterations", 5]
    for code, messages, stderr in run_both("onnxruntime", *session, "--max-duration-s", 1e-9, "--warmup", 0):
        assert code == 0, (messages, stderr)
        assert len(times(messages)) == only(messages, "window")["inferences"] == 1, "there is no time, or more than one"


@pytest.mark.parametrize("agent", ["c", "python"])
def test_a_command_to_sample_finds_no_stdin_and_gets_its_quoted_words_whole(agent, tmp_path):
    (tmp_path / "words.sh").write_text('printf "<%s>" "$@"; cat\n')
    words = f"""sh {tmp_path}/words.sh 'two "words"'\t"it's"\n  a'b'c\\# '' """
    words = ["--sample-command", words, "--period-s", "5", "--max-duration-s", "0.1"]
    program = [str(sanitized_agent())] if agent == "c" else command()
    with subprocess.Popen([*program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        said = [json.loads(line) for line in running.stdout]  # while its stdin is open
        running.stdin.close()
    expected = """<two "words"><it's><abc\\#><>"""
    assert only(said, "sample")["values"] == [expected], "the words are divided otherwise"


@pytest.mark.parametrize("agent", ["c", "python"])
def test_a_pipe_or_a_large_file_among_the_samples_is_not_waited_for_nor_read(agent, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"a" * 65536)
    files = ["--sample", str(tmp_path / "pipe"), "--sample", str(tmp_path / "large")]
    program = [str(sanitized_agent())] if agent == "c" else command()
    done = subprocess.run(
        [*program, *files, "--period-s", "30", "--max-duration-s", "0.1"],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    pipe, large = only([json.loads(line) for line in done.stdout.splitlines()], "sample")["values"]
    assert pipe in ("", None), "nobody wrote to the pipe"
    assert large is None, "a large file was told"


@pytest.mark.parametrize("agent", ["c", "python"])
def test_a_process_that_began_without_its_standard_files_keeps_its_log_clean(agent, tiny, tmp_path):
    # LiteRT prints on stderr that it has a delegate.
    program = [str(sanitized_agent()), "--library", str(library("litert"))] if agent == "c" else command()
    model = tiny("litert").models["fp32"]
    session = ["--runtime", "litert", "--model", str(model), "--seed", "1", "--log", str(tmp_path / "log")]
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *program, *session]
    assert subprocess.run(shell, check=False, env=ENVIRONMENT, timeout=60).returncode == 0, "it did not work on"
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    kinds = [one["type"] for one in logged if one["type"] != "heartbeat"]
    assert kinds == ["hello", "init", "first", "memory", "done"], "the session is not whole"
