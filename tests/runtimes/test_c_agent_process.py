"""How the native agent conducts a session, under the sanitizers: times, streams, log, signs of life, sampling."""

import itertools
import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.agent_process import failure, only, times
from tests.support.c_agent_process import (
    ENVIRONMENT,
    HEARTBEAT_S,
    onnx_session,
    run_agent,
    sanitized_agent,
    session,
    write_onnx,
)

NOISY = """
#include <stdio.h>
__attribute__((constructor)) void speak(void) { puts("chatter"); fflush(NULL); }
"""


@pytest.fixture
def agent():
    return sanitized_agent()


def test_every_raw_time_is_reported_and_limits_end_the_loop(agent, tiny, tmp_path):
    arguments = session("onnxruntime", tiny("onnxruntime"), tmp_path)
    for limits, most in (
        (["--iterations", 37], 37),
        (["--iterations", 64, "--streams", 3], 64),
        (["--iterations", 10**12, "--min-duration-s", 500, "--max-duration-s", 1.2, "--warmup", 2], None),
    ):
        code, messages, stderr = run_agent(agent, *arguments, *limits)
        assert code == 0, stderr
        window = only(messages, "window")
        assert len(times(messages)) == window["inferences"], "a time is missing or was invented"
        assert min(times(messages)) > 0, "a time is not positive"
        assert most in (None, window["inferences"])
        if most is None:
            assert sum(message["type"] == "time" for message in messages) >= 2, "long runs report as they go"
            # It ends with the last inference; after that only a report of times can have come.
            assert window["ended_s"] - window["began_s"] > 1.0, "the loop ended before its time"
    code, messages, _ = run_agent(agent, *arguments, "--max-duration-s", 5)
    assert [message["type"] for message in messages] == ["hello", "init", "first", "memory", "done"]


def test_a_process_runs_where_it_may_and_volunteers_for_the_oom_killer(agent, tiny, tmp_path):
    arguments = [*session("onnxruntime", tiny("onnxruntime"), tmp_path), "--min-duration-s", 60, "--affinity", "0"]
    with subprocess.Popen([agent, *map(str, arguments)], stdout=subprocess.PIPE, text=True) as child:
        for _ in range(3):
            child.stdout.readline()
        status = Path(f"/proc/{child.pid}/status").read_text()
        score = Path(f"/proc/{child.pid}/oom_score_adj").read_text()
        child.kill()
    assert "Cpus_allowed_list:\t0\n" in status
    assert score.strip() == "1000"


def test_the_log_holds_the_whole_session_when_stdout_and_the_terminal_are_gone(agent, tiny, tmp_path):
    log = tmp_path / "log"
    arguments = [*session("onnxruntime", tiny("onnxruntime"), tmp_path), "--log", log, "--min-duration-s", 1.5]
    with subprocess.Popen([agent, *map(str, arguments)], stdout=subprocess.PIPE, text=True) as child:
        heard = [json.loads(child.stdout.readline()) for _ in range(3)]
        child.stdout.close()
        child.send_signal(signal.SIGHUP)
        code = child.wait(timeout=60)
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert (code, logged[-1]["type"]) == (0, "done")
    assert logged[: len(heard)] == heard
    assert len(times(logged)) == only(logged, "window")["inferences"] > 0


def test_the_heart_beats_while_one_inference_takes_long(agent, tmp_path):
    side = 700
    matrix = np.full((side, side), 1 / side, np.float32)
    nodes = [("MatMul", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(60)]
    model = write_onnx(
        tmp_path / "m.onnx", nodes, [("v0", "float32", (side, side))], [("v60", "float32", (side, side))], w=matrix
    )
    arguments = [agent, *map(str, onnx_session(model, "--seed", 1, "--iterations", 3, "--warmup", 0))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    beats = [message["at_s"] for message in messages if message["type"] == "heartbeat"]
    assert beats, f"it was silent for inferences of {times(messages)} s"
    assert all(later - earlier >= HEARTBEAT_S for earlier, later in itertools.pairwise(beats)), "it beats too often"
    assert messages[0]["type"] == "hello", "nothing comes before hello"
    assert messages[-1]["type"] == "done", "nothing comes after done"


def test_what_a_library_prints_goes_to_stderr(agent, tiny, tmp_path):
    source = tmp_path / "noisy.c"
    source.write_text(NOISY)
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", tmp_path / "noisy.so"], check=True)
    arguments = session("onnxruntime", tiny("onnxruntime"), tmp_path)
    arguments[arguments.index("--library") + 1] = tmp_path / "noisy.so"
    code, messages, stderr = run_agent(agent, *arguments)
    assert [message["type"] for message in messages] == ["hello", "error"], "chatter leaked"
    assert (code, "chatter" in stderr) == (18, True), "chatter was lost instead of moved"


def test_a_name_that_json_cannot_hold_is_spelled_so_that_it_can(agent, tiny, tmp_path):
    arguments = session("onnxruntime", tiny("onnxruntime"), tmp_path)
    arguments[3] = os.fsdecode(b'/a "quoted"\n\\name \xc3\xa9 \xff.onnx')
    assert '/a "quoted"\n\\name é �.onnx' in failure(run_agent(agent, *arguments))[2]


def test_a_library_of_another_kind_is_wrong_and_not_missing(agent, tiny, tmp_path):
    source, built = tmp_path / "noisy.c", tmp_path / "noisy.so"
    source.write_text(NOISY)
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", built], check=True)
    whole = built.read_bytes()
    (tmp_path / "foreign.so").write_bytes(whole[:18] + b"\xff\xfe" + whole[20:])  # the number of no architecture
    (tmp_path / "half.so").write_bytes(whole[: len(whole) // 2])
    arguments = session("onnxruntime", tiny("onnxruntime"), tmp_path)
    for library, words in (("foreign.so", "another architecture"), ("half.so", "cut short"), ("", "directory")):
        arguments[arguments.index("--library") + 1] = tmp_path / library
        code, reason, message = failure(run_agent(agent, *arguments))
        assert (code, reason) == (18, "wrong-library"), message
        assert words in message, "the message does not say what is wrong"


def test_a_log_that_is_full_before_hello_ends_the_session_and_not_in_a_deadlock(agent, tiny, tmp_path):
    arguments = session("onnxruntime", tiny("onnxruntime"), tmp_path)
    arguments[arguments.index("--library") + 1] = tmp_path / "none.so"
    code, reason, message = failure(run_agent(agent, *arguments, "--log", "/dev/full"))
    assert (code, reason) == (16, "write-failed"), message


def test_a_log_that_gets_full_holds_whole_lines_and_stdout_the_reason(agent, tiny, tmp_path):
    def limit_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    log = tmp_path / "log"
    arguments = session("onnxruntime", tiny("onnxruntime"), tmp_path)
    result = run_agent(agent, *arguments, "--log", log, "--iterations", 2000, preexec_fn=limit_files)
    assert failure(result)[:2] == (16, "write-failed"), failure(result)
    logged = log.read_text()
    assert logged.endswith("\n"), "the log ends in the middle of a line"
    assert all(json.loads(line) for line in logged.splitlines()), "a line of the log is cut"


def test_a_command_to_sample_that_closes_stdout_is_not_waited_for_without_end(agent, tmp_path):
    (tmp_path / "silent.sh").write_text("exec >&-; exec sleep 60")
    command = ["--sample-command", f"sh {tmp_path}/silent.sh", "--period-s", 30, "--max-duration-s", 0.1]
    (sample,) = sampled(agent, *command)
    assert sample["values"] == [None], "a program that does not end has no value"


def sampled(agent, *arguments):
    code, messages, stderr = run_agent(agent, *arguments)
    assert code == 0, (messages, stderr)
    assert [message["type"] for message in messages[:1] + messages[-1:]] == ["hello", "done"]
    assert messages[0]["runtime"] == "none"
    samples = messages[1:-1]
    assert {frozenset(sample) for sample in samples} == {frozenset({"type", "at_s", "unix_s", "values"})}
    return samples


def test_samples_hold_what_the_files_and_the_command_said(agent, tmp_path):
    (tmp_path / "watts").write_text("12.5\n")
    (tmp_path / "lines").write_bytes(b"a\nb\xff\n\n")
    files = [word for name in ("watts", "lines", "none") for word in ("--sample", tmp_path / name)]
    limits = ["--period-s", 10, "--max-duration-s", 0.1]
    for command, value in (("echo two  words", "two words"), ("false", None), (tmp_path / "no-program", None)):
        (sample,) = sampled(agent, *files, "--sample-command", command, *limits)
        assert sample["values"] == ["12.5", "a\nb\ufffd\n", None, value]


def test_samples_come_in_a_steady_rhythm_and_follow_a_file_that_changes(agent, tmp_path):
    before, before_unix = time.monotonic(), time.time()
    (tmp_path / "uj").write_text("0\n")
    count = f"expr $(cat {tmp_path}/uj) + 1 > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/uj"
    (tmp_path / "count.sh").write_text(count)
    command = ["--sample-command", f"sh {tmp_path}/count.sh", "--period-s", 0.1, "--max-duration-s", 0.95]
    samples = sampled(agent, "--sample", tmp_path / "uj", *command)
    assert [sample["values"] for sample in samples] == [[str(n), ""] for n in range(len(samples))]
    assert 2 < len(samples) <= 10, "ten periods of 0.1 s begin in 0.95 s; a busy machine may miss some"
    moments = [sample["at_s"] for sample in samples]
    assert before < moments[0] < moments[-1] < time.monotonic()
    assert all(before_unix < sample["unix_s"] < time.time() for sample in samples)


def test_sampling_ends_when_nobody_listens(agent, tmp_path):
    arguments = [agent, "--sample", str(tmp_path / "watts"), "--period-s", "1000"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        child.stdout.close()
        child.wait(timeout=30)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "--period-s"),
        (["--period-s", 0], "--period-s"),
        (["--period-s", 1, "--model", "m"], "--model has no meaning"),
        (["--period-s", 1, "--sample-command", " "], "a program's name"),
    ],
)
def test_sampling_is_refused_without_a_period_and_with_a_model(more, words, agent):
    code, reason, message = failure(run_agent(agent, "--sample", "/proc/uptime", *more))
    assert (code, reason, words in message) == (2, "usage", True), message
