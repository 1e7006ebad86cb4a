"""How a program on a device ended: every way has its status, and the agent's own words come first."""

import json
import signal

import pytest

from edgeslim.deploy.exit_status import STDERR_TAIL_CHARACTERS, ended, timed_out
from edgeslim.deploy.memory_limit import NO_GROUP, OUT_OF_MEMORY
from edgeslim.errors import DEVICE_STATUSES

AGENT = ["/fake/edgeslim-agent", "--runtime", "litert"]


def end(returncode, last_line="", stderr="", *, out_of_memory=False):
    return ended(AGENT, returncode, last_line, stderr, out_of_memory=out_of_memory)


def error_line(reason, message="why"):
    return json.dumps({"type": "error", "reason": reason, "message": message})


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [
        ("usage", 2, "failed"),
        ("missing-runtime", 10, "no-runtime"),
        ("missing-file", 11, "failed"),
        ("unreadable-model", 12, "failed"),
        ("bad-input", 13, "failed"),
        ("out-of-memory", 14, "oom"),
        ("runtime-failed", 15, "failed"),
        ("write-failed", 16, "disk-full"),
        ("old-runtime", 17, "old-runtime"),
        ("wrong-library", 18, "no-runtime"),
        ("fallback", 19, "fallback"),
    ],
)
def test_the_agents_reason_gives_the_status_and_its_message_is_told(reason, code, status):
    error = end(code, error_line(reason, "the model needs version 9"))
    assert error.status == status, error
    assert error.message == f"edgeslim-agent: {reason}: the model needs version 9", "the agent's words were changed"
    assert error.next_step == DEVICE_STATUSES[status], "no next step"


def test_the_agents_word_counts_more_than_the_signal_that_ended_it():
    error = end(-signal.SIGKILL, error_line("out-of-memory", "8 GB were asked for"), out_of_memory=False)
    assert (error.status, "8 GB were asked for" in error.message) == ("oom", True), error


@pytest.mark.parametrize("returncode", [-signal.SIGSEGV, 128 + signal.SIGSEGV], ids=["of a child", "of a shell"])
def test_a_signal_is_named_whoever_reports_it(returncode):
    error = end(returncode)
    assert (error.status, error.message) == ("killed", "edgeslim-agent: killed by signal 11 (SIGSEGV)")


@pytest.mark.parametrize("returncode", [-signal.SIGKILL, 128 + signal.SIGKILL], ids=["of a child", "of a shell"])
def test_a_kill_is_out_of_memory_only_where_the_kernel_says_so(returncode):
    said, silent = end(returncode, out_of_memory=True), end(returncode)
    assert (said.status, "ran out of memory" in str(said)) == ("oom", True), said
    assert silent.status == "killed", "a kill was taken for a lack of memory"
    assert "the kernel does so when memory runs out" in str(silent), "the likely cause is not said"


@pytest.mark.parametrize(
    ("returncode", "words", "status"),
    [
        (OUT_OF_MEMORY, "the kernel killed it at the memory limit", "oom"),
        (NO_GROUP, "no control group can be made for the memory limit", "failed"),
        (126, "the device is of another architecture", "failed"),
        (127, "the device has no such program", "failed"),
        (1, "exit code 1", "failed"),
        (128, "exit code 128", "failed"),
        (255, "exit code 255", "failed"),
    ],
)
def test_an_exit_code_is_told_in_words(returncode, words, status):
    error = end(returncode)
    assert (error.status, words in error.message) == (status, True), error


@pytest.mark.parametrize(
    "line",
    ["", "no JSON", "[1, 2]", '{"type": "done"}', '{"type": "err', "9" * 5000, "[" * 100_000],
    ids=["nothing", "words", "a list", "a message", "a cut line", "a number without end", "brackets without end"],
)
def test_a_last_line_that_is_no_error_leaves_the_exit_code_to_speak(line):
    assert end(3, line).message == "edgeslim-agent: exit code 3"


def test_the_end_of_a_long_stderr_is_told_and_not_its_beginning():
    error = end(3, stderr="first\n" + "x" * STDERR_TAIL_CHARACTERS + "\nlast words\n")
    assert error.message.endswith("\n  last words"), "the last words were lost"
    assert "Its stderr ended with:" in error.message, "whose words they are is not said"
    assert "first" not in error.message, "it was not shortened"


def test_an_empty_stderr_is_not_mentioned():
    assert "stderr" not in end(3, stderr=" \n").message


def test_a_program_whose_time_was_over_has_the_status_timeout_and_its_stderr():
    error = timed_out(AGENT, 2.5, "loading\n")
    assert error.status == "timeout"
    assert error.message == "edgeslim-agent: not finished after 2.5 s\nIts stderr ended with:\n  loading"


def test_a_python_program_has_the_name_of_its_script():
    error = ended(["/usr/bin/python3", "-B", "/fake/agent.py", "--seed", "0"], 1, "", "", out_of_memory=False)
    assert error.message == "agent.py: exit code 1", "every Python program would be called python3"
