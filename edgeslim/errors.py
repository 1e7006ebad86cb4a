"""Every exception edgeslim raises on purpose; each carries the exit code of the command that met it.

    EdgeslimError              1   (never raised itself)
    ├── BadInput               2   the user's words or files are wrong
    │   ├── BadProfile         2   a device profile that breaks the rules of its format
    │   ├── BadModel           2   a model that cannot be loaded or traced
    │   └── BadData            2   images or labels that cannot be used
    ├── Refused                3   an impossible build, or a result below what was demanded
    ├── DeviceFailed           4   the device or the agent on it
    ├── InvalidMeasurement     5   a run whose figures must not be believed
    ├── IntegrityFailed        6   an artifact that is not what its manifest says
    └── ToolFailed             7   an exporter, a runtime, the disk
        └── MissingPackage     7   an extra that is not installed

Anything else that reaches the command line is our bug: exit code 1, with a report.
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TypeVar

Found = TypeVar("Found")


class EdgeslimError(Exception):
    """Base of all; `exit_code` is what the command line returns.

    `message` says what is wrong, `next_step` what to do about it, a line for each thing to do, where that is known.
    """

    exit_code = 1

    def __init__(self, message: str = "", next_step: str = "") -> None:
        self.message, self.next_step = message, next_step
        super().__init__(message)

    def __str__(self) -> str:
        """Return what is wrong and, on lines of its own, what to do."""
        return "\n".join([self.message, *(f"help: {line}" for line in self.next_step.splitlines())])

    @property
    def sentence(self) -> str:
        """Both on one line, to stand among other words."""
        return "; ".join(" ".join(part.split()) for part in (self.message, self.next_step) if part)


class BadInput(EdgeslimError):
    """The words or files a user gave cannot be used; the message says where, what and what was expected."""

    exit_code = 2


class BadProfile(BadInput):
    """A device profile breaks the rules of its format."""


class BadModel(BadInput):
    """A model cannot be loaded, traced or is of a kind edgeslim does not take."""


class BadData(BadInput):
    """Images or labels cannot be used."""


class Refused(EdgeslimError):
    """The device cannot run what was asked for, or a result fell below a demand; `reasons` holds every one."""

    exit_code = 3

    def __init__(self, summary: str, reasons: Iterable[str] = (), next_step: str = "") -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join([summary, *(f"  - {reason}" for reason in self.reasons)]), next_step)


# What can go wrong with a device -> what to do next.
DEVICE_STATUSES = {
    "failed": "read the end of its stderr above",
    "unreachable": "check that the device is on, its address and port, and that `ssh` reaches it from a shell",
    "host-key-changed": "if the device was set up anew, remove its old key with `ssh-keygen -R`; otherwise this is "
    "another machine: do not go on",
    "host-key-unknown": "connect once with `ssh` and compare the key's fingerprint with the one on the device",
    "login-refused": "give the device your public key (`ssh-copy-id`), or name the right one in ~/.ssh/config",
    "lost": "the connection was cut; run the command again when the device answers",
    "rebooted": "look at its power supply and its kernel log, then run the command again",
    "timeout": "the device or the model is too slow for the limit, or the program hangs",
    "killed": "something ended the program on the device; its kernel log may say what",
    "oom": "build for less memory (prune more, fewer pixels), or give the device more",
    "disk-full": "make room on the device, or name another folder with EDGESLIM_REMOTE",
    "wrong-architecture": "build the artifact for this device, or name the device it was built for",
    "old-runtime": "install a newer version of the runtime, or of the system that it needs, on the device",
    "no-runtime": "`edgeslim probe` shows what the device has; `edgeslim doctor` what this machine could bring",
    "fallback": "build without the operators that the accelerator lacks; the message says how to see them",
    "protocol": "the agent and this edgeslim are not of one version, or a line was damaged on the way",
}


class DeviceFailed(EdgeslimError):
    """The device, or the agent on it, failed; `status` is one of DEVICE_STATUSES."""

    exit_code = 4

    def __init__(self, message: str, status: str = "failed") -> None:
        self.status = status
        super().__init__(message, DEVICE_STATUSES[status])


class InvalidMeasurement(EdgeslimError):
    """A run ended, but its figures must not be believed."""

    exit_code = 5


class IntegrityFailed(EdgeslimError):
    """An artifact is not what its manifest says."""

    exit_code = 6


class ToolFailed(EdgeslimError):
    """An exporter, a runtime or the machine failed."""

    exit_code = 7


class MissingPackage(ToolFailed):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f"pip install 'edgeslim[{extra}]'")


class Recomputed(UserWarning):
    """What was kept from an earlier call is not to be trusted, and was made anew."""


def near_misses(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` for the known names closest to `name`, or an empty string."""
    close = get_close_matches(str(name), list(known), n=3, cutoff=0.5)  # a key of a file may be a number
    return f"; did you mean {' or '.join(f'`{c}`' for c in close)}?" if close else ""


def try_diagnostic(what: str, find: Callable[[], Found]) -> tuple[Found | None, list[str]]:
    """Return what a diagnostic finds, or None and one sentence that says why it finds nothing: it ends no work.

    What the user gave wrong is still raised.
    """
    try:
        return find(), []
    except BadInput:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it stumbles over, what was built is none the worse
        words = error.message if isinstance(error, EdgeslimError) else str(error)
        reason = " ".join(words.split()) or "no reason given"
        return None, [f"{what} is missing: {type(error).__name__}: {reason}"]
