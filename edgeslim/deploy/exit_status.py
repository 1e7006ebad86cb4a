"""How a program on a device ended: its exit code, signal or last words, as an error that names the status."""

import json
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgeslim.deploy.memory_limit import NO_GROUP, OUT_OF_MEMORY
from edgeslim.errors import DeviceFailed

STDERR_TAIL_CHARACTERS = 2000
FIRST_SIGNAL = 128  # a shell's exit code for a program that signal N ended is 128 + N

# The agent's reason -> the status, where it is not "failed".
_REASONS = {
    "out-of-memory": "oom",
    "old-runtime": "old-runtime",
    "missing-runtime": "no-runtime",
    "wrong-library": "no-runtime",
    "write-failed": "disk-full",
    "fallback": "fallback",
}
_WORDS = {
    NO_GROUP: ("no control group can be made for the memory limit (only root may, on most machines)", "failed"),
    OUT_OF_MEMORY: ("out of memory: the kernel killed it at the memory limit", "oom"),
    126: ("it cannot be executed: the device is of another architecture, or the file system forbids it", "failed"),
    127: ("the device has no such program", "failed"),
}


def ended(argv: Sequence[str], returncode: int, last_line: str, stderr: str, *, out_of_memory: bool) -> DeviceFailed:
    """Return the error of a program that failed.

    `returncode` is negative or above 128 for a signal; `last_line` of its stdout may be the agent's own error;
    `out_of_memory`: the kernel's log names it as the one that was killed when memory ran out.
    """
    cause, status = _cause(returncode, last_line, out_of_memory=out_of_memory)
    return DeviceFailed(f"{program(argv)}: {cause}{_tail(stderr)}", status)


def timed_out(argv: Sequence[str], timeout_s: float, stderr: str) -> DeviceFailed:
    """Return the error of a program that was killed because its time was over."""
    return DeviceFailed(f"{program(argv)}: not finished after {timeout_s:g} s{_tail(stderr)}", "timeout")


def program(argv: Sequence[str]) -> str:
    """Return a program's name, for Python that of its script, for a script of sh that of the program it is given."""
    words = argv[4:] if tuple(argv[:2]) == ("sh", "-c") and len(argv) > 4 else argv
    return next((Path(word).name for word in words if word.endswith(".py")), Path(words[0]).name)


def _cause(returncode: int, last_line: str, *, out_of_memory: bool) -> tuple[str, str]:
    with suppress(ValueError, RecursionError):  # no JSON, a number of thousands of digits, thousands of brackets
        message = json.loads(last_line)
        if isinstance(message, dict) and message.get("type") == "error":
            reason = str(message.get("reason"))
            return f"{reason}: {message.get('message')}", _REASONS.get(reason, "failed")
    number = -returncode if returncode < 0 else returncode - FIRST_SIGNAL
    if number in [one.value for one in signal.Signals]:
        name = signal.Signals(number).name
        if number != signal.SIGKILL:
            return f"killed by signal {number} ({name})", "killed"
        if out_of_memory:
            return "killed by the kernel: the device ran out of memory", "oom"
        return f"killed by signal {number} ({name}; the kernel does so when memory runs out)", "killed"
    return _WORDS.get(returncode, (f"exit code {returncode}", "failed"))


def _tail(stderr: str) -> str:
    text = stderr.strip()[-STDERR_TAIL_CHARACTERS:]
    return "\nIts stderr ended with:\n" + "\n".join(f"  {line}" for line in text.splitlines()) if text else ""
