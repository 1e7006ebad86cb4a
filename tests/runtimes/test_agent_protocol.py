"""How the Python agent conducts a session, whatever the runtime: times, streams, log, signs of life, failures."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from tests.support.agent_process import command, copy_agent, failure, fake_agent, only, part_of_agent, run_agent, times


def test_every_raw_time_is_reported_and_both_limits_are_reached(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    _, messages, _ = run_agent(*arguments, "--iterations", 37, agent=agent)
    assert len(times(messages)) == only(messages, "window")["inferences"] == 37, "a time is missing or was invented"
    assert min(times(messages)) > 0, "a time is not positive"
    _, messages, _ = run_agent(*arguments, "--iterations", 1, "--min-duration-s", 1.2, agent=agent)
    window = only(messages, "window")
    assert len([message for message in messages if message["type"] == "time"]) >= 2, "long runs report as they go"
    assert len(times(messages)) == window["inferences"] > 37, "the loop ended with the iterations, before the duration"
    assert window["ended_s"] - window["began_s"] >= 1.2


def test_the_longest_duration_ends_the_loop_before_its_limits_are_reached(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    limits = ["--iterations", 10**12, "--min-duration-s", 500, "--max-duration-s", 0.2]
    code, messages, stderr = run_agent(*arguments, *limits, agent=agent)
    assert code == 0, stderr
    assert len(times(messages)) == only(messages, "window")["inferences"] > 0


def test_without_iterations_or_duration_nothing_is_timed_beyond_the_first_inference(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    _, messages, _ = run_agent(*arguments, "--max-duration-s", 5, "--streams", 2, agent=agent)
    assert [message["type"] for message in messages] == ["hello", "init", "first", "memory", "done"]


def test_the_window_holds_the_whole_loop_on_the_devices_clocks(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    before, before_unix = time.monotonic(), time.time()
    _, messages, _ = run_agent(*arguments, "--iterations", 50, agent=agent)
    window = only(messages, "window")
    assert before < window["began_s"] < window["ended_s"] < time.monotonic()
    assert before_unix < window["began_unix_s"] < time.time()
    assert window["ended_s"] - window["began_s"] >= sum(times(messages)), "inferences lie outside of the window"


def test_the_timed_loop_uses_every_sample_in_turn():
    samples = part_of_agent("model_inputs").Samples((np.arange(3),), (1,), 3)
    rows = samples.endless()
    assert [int(next(rows)[0][0]) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0], "the samples do not cycle"


def test_an_explicit_warm_up_runs_exactly_that_often_and_an_automatic_one_ends():
    warm_up = part_of_agent("measure_times").warm_up
    calls = []
    warm_up(calls.append, iter(range(10**9)), 4)
    assert len(calls) == 4, "the count was not kept"
    warm_up(calls.append, iter(range(10**9)), None)
    assert len(calls) >= 10, "automatic warm-up needs two groups of three to compare"


def test_streams_run_copies_of_the_model_side_by_side(tmp_path):
    agent, arguments = fake_agent(
        tmp_path,
        "both = threading.Barrier(2, timeout=20)\n"
        "calls = []\n"
        "def load(options, fit):\n"
        "    fit([('x', (1, 2), 'float32')])\n"
        "    print('loaded', file=sys.stderr)\n"
        "    def run(sample):\n"
        "        calls.append(run)\n"
        "        if len(calls) > 1: both.wait()\n"  # all but the first inference wait for one beside them
        "    return run\n",
    )
    code, messages, stderr = run_agent(
        *arguments, "--streams", 2, "--warmup", 1, "--iterations", 6, "--min-duration-s", 0, agent=agent
    )
    assert code == 0, stderr
    assert stderr.count("loaded") == 2, "each stream has a copy of its own"
    assert len(times(messages)) == only(messages, "window")["inferences"] == 6, "all streams together reach the limit"


def test_a_stream_that_fails_ends_the_session_and_not_only_itself(tmp_path):
    agent, arguments = fake_agent(
        tmp_path,
        "copies = []\n"
        "def load(options, fit):\n"
        "    fit([('x', (1, 2), 'float32')])\n"
        "    copies.append(1)\n"
        "    second = len(copies) == 2\n"
        "    def run(sample):\n"
        "        if second: raise RuntimeError('the second copy is broken')\n"
        "    return run\n",
    )
    result = run_agent(*arguments, "--streams", 2, "--warmup", 0, "--min-duration-s", 50, agent=agent)
    assert failure(result) == (15, "runtime-failed", "the second copy is broken")


@pytest.mark.parametrize("words", ["cannot allocate 5 bytes", "Failed to allocate memory", "std::bad_alloc"])
def test_what_a_runtime_says_of_memory_that_ran_out_is_understood(words, tmp_path):
    agent, arguments = fake_agent(tmp_path, f"def load(*call):\n    raise RuntimeError({words!r})\n")
    code, reason, message = failure(run_agent(*arguments, agent=agent))
    assert (code, reason) == (14, "out-of-memory"), message


def test_a_heartbeat_comes_only_after_five_seconds_of_silence(tmp_path):
    slow = "fast = load\ndef load(*call):\n    time.sleep(6.5)\n    return fast(*call)\n"
    agent, arguments = fake_agent(tmp_path, slow)
    before = time.monotonic()
    code, messages, stderr = run_agent(*arguments, "--iterations", 3, agent=agent)
    assert code == 0, stderr
    kinds = [message["type"] for message in messages]
    assert kinds == ["hello", "heartbeat", "init", "first", "time", "window", "memory", "done"]
    assert messages[1]["at_s"] - before >= 5


def test_the_log_holds_every_message_that_stdout_had(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    log = tmp_path / "session.jsonl"
    log.write_text("an old session\n" * 100)
    _, messages, _ = run_agent(*arguments, "--iterations", 3, "--graph", "--log", log, agent=agent)
    assert [json.loads(line) for line in log.read_text().splitlines()] == messages
    assert messages[-1]["type"] == "done"


@pytest.mark.parametrize("logged", [True, False])
def test_only_with_a_log_the_agent_works_on_when_nobody_listens_and_its_terminal_is_gone(logged, tmp_path):
    agent, arguments = fake_agent(tmp_path)
    log = tmp_path / "session.jsonl"
    wishes = ["--min-duration-s", "1.5", *(["--log", log] if logged else [])]
    with subprocess.Popen(
        command(*arguments, *wishes, agent=agent), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as running:
        for _ in range(3):
            running.stdout.readline()
        running.stdout.close()
        if logged:
            running.send_signal(signal.SIGHUP)
        code = running.wait(timeout=30)
    if logged:
        messages = [json.loads(line) for line in log.read_text().splitlines()]
        assert (code, messages[-1]["type"]) == (0, "done")
        assert len(times(messages)) == only(messages, "window")["inferences"], "a time was lost"
    else:
        assert code == 1, "without a log, its work is in vain"


def test_every_message_reaches_the_log_before_stdout(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    log = tmp_path / "session.jsonl"
    with subprocess.Popen(
        command(*arguments, "--min-duration-s", "1.2", "--log", log, agent=agent), stdout=subprocess.PIPE
    ) as running:
        for number, line in enumerate(running.stdout):
            assert log.read_bytes().splitlines(keepends=True)[number] == line, "it is not in the log yet"
    assert running.returncode == 0


@pytest.mark.parametrize("log", ["/dev/full", "no_folder/session.jsonl"])
def test_a_log_that_cannot_be_written_is_write_failed(log, tmp_path):
    agent, arguments = fake_agent(tmp_path)
    code, reason, message = failure(run_agent(*arguments, "--log", tmp_path / log, agent=agent))
    assert (code, reason) == (16, "write-failed"), message


def test_an_agent_killed_by_a_signal_sends_no_done(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    with subprocess.Popen(
        command(*arguments, "--min-duration-s", "60", agent=agent), stdout=subprocess.PIPE, text=True
    ) as running:
        seen = [json.loads(running.stdout.readline())["type"] for _ in range(3)]
        running.send_signal(signal.SIGKILL)
        rest = [json.loads(line)["type"] for line in running.stdout]
    assert seen == ["hello", "init", "first"], "messages must come as they happen"
    assert "done" not in rest, "a killed agent cannot be done"


def test_what_libraries_print_on_stdout_goes_to_stderr(tmp_path):
    agent, arguments = fake_agent(
        tmp_path,
        "import ctypes\n"
        "print('chatter from python')\n"
        "def load(options, fit):\n"
        "    fit([('x', (1, 2), 'float32')])\n"
        "    libc = ctypes.CDLL(None)\n"
        "    libc.puts(b'chatter from C')\n"
        "    libc.fflush(None)\n"
        "    os.system('echo chatter from a child')\n"
        "    return lambda sample: sample\n",
    )
    (tmp_path / "numpy.py").write_text(
        "import importlib.machinery as m, sys\n"
        "print('chatter from numpy')\n"
        "spec = m.PathFinder.find_spec('numpy', [p for p in sys.path if 'site-packages' in p])\n"
        "sys.modules['numpy'] = module = __import__('importlib.util').util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
    )
    code, messages, stderr = run_agent(*arguments, agent=agent)
    assert code == 0, stderr
    assert [message["type"] for message in messages] == ["hello", "init", "first", "memory", "done"], "chatter leaked"
    assert stderr.count("chatter") == 4, "chatter was lost instead of moved"


def test_the_process_asks_to_be_the_first_to_go_when_memory_runs_out(tmp_path):
    agent, arguments = fake_agent(tmp_path, "VERSION = open('/proc/self/oom_score_adj').read().strip()\n")
    _, messages, _ = run_agent(*arguments, agent=agent)
    assert only(messages, "hello")["runtime_version"] == "1000"


def test_every_thread_keeps_to_its_cpus_from_before_the_runtime_is_loaded(tmp_path):
    last = max(os.sched_getaffinity(0))
    agent, arguments = fake_agent(
        tmp_path,
        "from pathlib import Path\n"
        "np.ones((300, 300), np.float32) @ np.ones((300, 300), np.float32)\n"
        "tasks = [t.read_text() for t in Path('/proc/self/task').glob('*/status')]\n"
        "lists = {t.partition('Cpus_allowed_list:')[2].splitlines()[0].strip() for t in tasks}\n"
        "VERSION = ' and '.join(sorted(lists))\n",
    )
    _, messages, _ = run_agent(*arguments, "--affinity", f"{last}-{last}", agent=agent)
    assert only(messages, "hello")["runtime_version"] == str(last)


def test_a_cpu_that_does_not_exist_is_a_usage_error(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    first = min(os.sched_getaffinity(0))
    for cpus in (f"{first},1023", "1023"):
        code, reason, message = failure(run_agent(*arguments, "--affinity", cpus, agent=agent))
        assert (code, reason) == (2, "usage")
        assert "CPU 1023 " in message, "the message does not name the CPU"


def test_a_runtime_or_numpy_that_is_not_there_is_missing(tmp_path):
    agent, arguments = fake_agent(tmp_path)
    (agent / "runtime_litert.py").write_text("raise ModuleNotFoundError('No module named litert')")
    code, messages, _ = run_agent(*arguments, agent=agent)
    assert [message["type"] for message in messages] == ["hello", "error"], "hello must come first, then the error"
    assert messages[0]["package"] is messages[0]["runtime_version"] is None, "there is no version of what is not there"
    assert (code, messages[-1]["reason"]) == (10, "missing-runtime"), messages[-1]
    (agent / "numpy.py").write_text("raise ModuleNotFoundError('No module named numpy')")
    code, messages, _ = run_agent(*arguments, agent=agent)
    assert [message["type"] for message in messages] == ["hello", "error"]
    assert (code, messages[-1]["reason"]) == (10, "missing-runtime"), messages[-1]
    assert "numpy" in messages[-1]["message"]


RUNNING = ["--runtime", "litert", "--model", "m", "--inputs", "x.npy"]
SAMPLING = ["--sample", "/proc/uptime", "--period-s", "1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--runtime", "caffe", "--model", "m", "--seed", "1"], "caffe"),
        (["--runtime", "litert", "--model", "m"], "--inputs --seed"),
        ([*RUNNING, "--seed", "1"], "not allowed with"),
        ([*RUNNING, "--library", "libLiteRt.so"], "only the C agent takes a library"),
        ([*RUNNING, "--threads", "0"], "1 to 1024"),
        ([*RUNNING, "--streams", "-1"], "1 to 1024"),
        ([*RUNNING, "--affinity", "0,,2"], "no list of CPUs"),
        ([*RUNNING, "--affinity", "3-1"], "names no CPU"),
        ([*RUNNING, "--max-duration-s", "0"], "more than 0 seconds"),
        ([*RUNNING, "--min-duration-s", "nan"], "no number of seconds"),
        ([*RUNNING, "--period-s", "1"], "--period-s"),
        ([*RUNNING[:4], "--seed", str(2**64)], "0 to 18446744073709551615"),
        ([*SAMPLING, "--model", "m"], "--model"),
        (SAMPLING[:2], "--period-s"),
        ([*SAMPLING, "--sample-command", ""], "a program's name was expected"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments, words):
    code, reason, message = failure(run_agent(*arguments))
    assert (code, reason) == (2, "usage")
    assert words in message


def test_small_files_and_a_command_are_read_in_a_steady_rhythm(tmp_path):
    file = tmp_path / "power1_input"
    file.write_text("1\n\n")
    code, messages, stderr = run_agent(
        *("--sample", file, "--sample", tmp_path / "nowhere", "--sample-command", "printf '%s\n' 'two words'"),
        *("--period-s", 0.1, "--max-duration-s", 0.95),
        agent=copy_agent(tmp_path),
    )
    assert code == 0, stderr
    samples = messages[1:-1]
    assert [message["type"] for message in messages] == ["hello", *["sample"] * len(samples), "done"]
    assert {(messages[0]["runtime"], messages[0]["package"], messages[0]["runtime_version"])} == {("none", None, None)}
    assert 2 <= len(samples) <= 10, "it says more than one sample a period"
    assert {tuple(sample["values"]) for sample in samples} == {("1\n", None, "two words")}
    beats = [(sample["at_s"] - samples[0]["at_s"]) / 0.1 for sample in samples]
    assert beats == sorted(beats)
    assert len({round(beat - 0.3) for beat in beats}) == len(beats), "two samples share one beat"


def test_a_command_that_fails_or_is_not_there_is_a_null():
    for program in ("false", "no-such-program"):
        _, messages, _ = run_agent("--sample-command", program, "--period-s", 5, "--max-duration-s", 0.1)
        assert only(messages, "sample")["values"] == [None]


def test_sampling_ends_at_once_when_nobody_listens_any_more():
    arguments = ["--sample", "/proc/uptime", "--period-s", "300"]
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE) as running:
        kinds = [json.loads(running.stdout.readline())["type"] for _ in range(2)]
        running.stdout.close()
        assert running.wait(timeout=30) == 0
    assert kinds == ["hello", "sample"]
