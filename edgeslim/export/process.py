"""Exporters and converters run in processes of their own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeslim.errors import ToolFailed
from edgeslim.resources import in_package

TIMEOUT_S = 1800.0


def child_environment() -> dict[str, str]:
    """Return the environment of an exporter process: offline, without telemetry, and repeatable."""
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "GLOG_minloglevel": "2",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "JAX_PLATFORMS": "cpu",
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join([str(in_package().parent), *sys.path[1:]]),
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
                raise ToolFailed(f"{what} did not end within {TIMEOUT_S:.0f} s; its log: {log}") from error
            raise
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
