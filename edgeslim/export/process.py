"""Exporters and converters run in processes of their own: programs, and workers that a warm server forks."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from edgeslim.errors import ToolFailed
from edgeslim.formats import FORMATS, FormatName
from edgeslim.resources import HUGE_PAGES, python_command, python_path

TIMEOUT_S = 1800.0
Job = TypeVar("Job")
Result = TypeVar("Result")


def child_environment() -> dict[str, str]:
    """Return the environment of an exporter process: offline, without telemetry, and repeatable."""
    return {
        **dict([HUGE_PAGES]),
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "GLOG_minloglevel": "2",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",  # several work side by side
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": python_path(),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TRANSFORMERS_OFFLINE": "1",
    }


def run_tool(command: Sequence[str], log: Path, what: str, folder: Path | None = None) -> None:
    """Run a program in a process group of its own, in `folder`; what it says goes to `log`.

    Raises ToolFailed naming `what`, what happened and the log. The process dies with an interrupt here.
    """
    with log.open("w") as output:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=child_environment(),
            cwd=folder,
            start_new_session=True,
        )
        try:
            code = child.wait(TIMEOUT_S)
        except BaseException as error:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise _late(what, log) from error
            raise
    _require_success(code, log, what)


def run_worker(module: str, arguments: Sequence[str | Path], log: Path, what: str, name: str) -> None:
    """Run `main(*arguments)` of a module of edgeslim in a worker; what it says goes to `log`.

    The worker is forked by the server of `workers`, or, outside of that, by one for this job alone. `name` is what the
    process is called (15 characters). Raises ToolFailed naming `what`, what happened and the log; the worker dies with
    an interrupt here.
    """
    told = {
        "module": module,
        "arguments": [str(one.absolute() if isinstance(one, Path) else one) for one in arguments],
        "log": str(log.absolute()),
        "name": name,
    }
    log.write_bytes(b"")  # a full disk is met here, as what it is, and not in the worker
    server = _Server.current
    if server is not None:
        code = server.run(told, what, log)
    else:
        with workers(()) as alone:
            code = alone.run(told, what, log)
    _require_success(code, log, what)


@contextmanager
def workers(formats: Iterable[FormatName]) -> Iterator["_Server"]:
    """Have workers forked by one server, which imports once what they need for some formats."""
    before, server = _Server.current, _Server(formats)
    _Server.current = server
    try:
        yield server
    finally:
        _Server.current = before
        server.close()


def side_by_side(
    work: Callable[[Job], Result], jobs: Iterable[Job], most: int, stop: Callable[[], None]
) -> list[Result]:
    """Return what `work` makes of each job, `most` at a time.

    With an error or an interrupt, jobs that did not start never do, and `stop` ends what runs.
    """
    with ThreadPoolExecutor(max(most, 1)) as pool:
        running = [pool.submit(work, job) for job in jobs]
        try:
            return [one.result() for one in running]
        except BaseException:
            for one in running:
                one.cancel()
            stop()
            raise


def stop_workers() -> None:
    """End every worker that this process started."""
    for server in tuple(_Server.live):
        server.close()


class _Server:
    """A server.py, started for its first job: jobs go in, exit codes come out, several at a time.

    Not before: what it imports would disturb whatever is timed meanwhile.
    """

    current: "_Server | None" = None
    live: "set[_Server]" = set()  # noqa: RUF012 - of the class

    def __init__(self, formats: Iterable[FormatName]) -> None:
        wanted = list(formats)
        self._modules = ["torch", *(f"edgeslim.export.{name}" for name in wanted)] if wanted else []
        self._modules += [package for name in wanted for package in FORMATS[name].packages]
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._jobs: dict[int, Future[int]] = {}
        self._numbers, self._lock, self._closed = count(), threading.Lock(), False

    def run(self, job: Mapping[str, object], what: str, log: Path) -> int:
        """Return the exit code of a job."""
        done: Future[int] = Future()
        with self._lock:
            if self._closed:
                raise ToolFailed(f"{what}: the process that starts workers ended")
            process = self._process or self._start()
            number = next(self._numbers)
            self._jobs[number] = done
            try:
                if process.stdin is not None:
                    process.stdin.write(json.dumps({"id": number, **job}).encode() + b"\n")
                    process.stdin.flush()
            except OSError as error:
                raise ToolFailed(f"{what}: the process that starts workers ended") from error
        try:
            return done.result(TIMEOUT_S)
        except NotDone as error:
            self.close()
            raise _late(what, log) from error
        except BaseException:
            self.close()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(
            python_command("-m", "edgeslim.export.server", *self._modules),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        _Server.live.add(self)
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        return self._process

    def close(self) -> None:
        """End the server and all that it started; no job is taken after that."""
        with self._lock:
            self._closed = True
            process, listener = self._process, self._listener
        if process is None or listener is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        listener.join()
        _Server.live.discard(self)
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was still to be written has nobody to read it
                if pipe is not None:
                    pipe.close()

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        """Hand out answers; where they end, every job left has died with the server."""
        for line in process.stdout or ():
            answer = json.loads(line)
            self._jobs.pop(answer["id"]).set_result(answer["code"])
        code = process.wait()
        with self._lock:
            for job in self._jobs.values():
                job.set_result(code)
            self._jobs.clear()


def _late(what: str, log: Path) -> ToolFailed:
    return ToolFailed(f"{what} did not end within {TIMEOUT_S:.0f} s; its log: {log}")


def _require_success(code: int, log: Path, what: str) -> None:
    if code:
        raise ToolFailed(f"{what} {_ending(code, log)}; its log: {log}")


def _ending(code: int, log: Path) -> str:
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"failed: {lines[-1].strip() if lines else f'exit code {code}'}"


def keep_logs(message: str, work: Path, destination: Path) -> str:
    """Copy the logs of exporters and compiler beside the artifact, and return the message with their lasting path."""
    logs = destination.with_name(destination.name + ".logs")
    logs.mkdir(exist_ok=True)
    for log in work.glob("*.log"):
        shutil.copy(log, logs)
    return message.replace(str(work), str(logs))
