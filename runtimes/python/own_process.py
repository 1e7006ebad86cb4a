"""What the agent asks of the kernel for its own process, and what the kernel says of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from messages import AgentError


def be_first_to_go() -> None:
    """Let the kernel end this process, not the device's ssh server, when memory runs out."""
    with contextlib.suppress(OSError):  # a container may have a /proc that cannot be written; nothing depends on it
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def keep_to_cpus(cpus: set[int]) -> None:
    """Run on these CPUs alone; AgentError ("usage") where one of them cannot be used."""
    try:
        os.sched_setaffinity(0, cpus)
        missing = cpus - os.sched_getaffinity(0)  # the kernel passes over those that do not exist
    except (OSError, OverflowError):
        missing = cpus
    if missing:
        raise AgentError("usage", f"--affinity: CPU {', '.join(map(str, sorted(missing)))} cannot be used here")


def memory_bytes(field: str) -> int:
    """Return VmHWM (the highest resident size so far) or VmRSS (the present one) of this process."""
    # getrusage would do for VmHWM, were its figure not inherited from the process that started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
