"""The process that has imported what workers need, and forks one for each job: `python -P -m edgeslim.export.server`.

A job is a line of JSON on stdin: {"id", "module", "arguments", "log", "name"}; the answer, on the stdout that it was
started with, is {"id", "code"}, the exit code as `subprocess` has it. Nothing is converted in this process, so that a
job starts where a fresh interpreter would that has imported the same. It ends with its parent, its workers with it.
"""

import ctypes
import importlib
import json
import os
import selectors
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Any, NoReturn

from edgeslim.with_parent import end_with

PR_SET_NAME = 15
LONGEST_LINE = 1 << 16


def main(preload: list[str]) -> None:
    """Import what is named, then answer jobs until stdin ends, as it does when the parent has."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print while they are imported is no answer
    for name in preload:
        with suppress(Exception):  # the job that needs it says what is wrong
            importlib.import_module(name)
    warnings.simplefilter("ignore")  # that forking beside threads is risky: none was started to compute
    jobs: dict[int, tuple[str, int]] = {}
    with selectors.DefaultSelector() as waiting:
        waiting.register(0, selectors.EVENT_READ)
        unread = b""
        while True:
            for key, _ in waiting.select():
                if key.fd == 0:
                    more = os.read(0, LONGEST_LINE)
                    if not more:
                        os.killpg(0, signal.SIGKILL)
                    *lines, unread = (unread + more).split(b"\n")
                    for line in lines:
                        job = json.loads(line)
                        pid, alive = _fork(job)
                        jobs[alive] = job["id"], pid
                        waiting.register(alive, selectors.EVENT_READ)
                else:
                    waiting.unregister(key.fd)
                    os.close(key.fd)
                    identity, pid = jobs.pop(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    os.write(answers, json.dumps({"id": identity, "code": code}).encode() + b"\n")


def _fork(job: dict[str, Any]) -> tuple[int, int]:
    """Start a job; return its process and a pipe that ends with it."""
    reading, writing = os.pipe()
    server, pid = os.getpid(), os.fork()
    if pid == 0:
        _work(job, server)
    os.close(writing)
    return pid, reading


def _work(job: dict[str, Any], server: int) -> NoReturn:
    """Be the worker of one job: its `main` with its arguments, what it says in its log."""
    end_with(server)  # whose one thread it is that counts, and not that of whoever asked for the job
    ctypes.CDLL(None).prctl(PR_SET_NAME, job["name"].encode()[:15], 0, 0, 0)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for wanted, held in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(wanted, held)
    code = 1
    try:
        warnings.resetwarnings()
        importlib.import_module(job["module"]).main(*job["arguments"])
        code = 0
    except BaseException:  # noqa: BLE001 - as an interpreter does with whatever ends it
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
