"""Bring an agent and its runtime to a device: what the device has itself, what travels, what stands in for what."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edgeslim.deploy.agent_program import ARCHITECTURES, agent_program
from edgeslim.deploy.installed import require_runtime
from edgeslim.deploy.libraries import STANDARD_PLACES, libraries
from edgeslim.deploy.targets import Target
from edgeslim.devices.machine import PATTERNS, Machine, machine_of
from edgeslim.errors import DeviceFailed, MissingPackage, ToolFailed
from edgeslim.resources import bundled

QUESTION_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Deployed:
    """An agent on a device, ready for one runtime: `program` runs it, `library_path` is the runtime the C agent loads.

    `agent` is "c", or "python" with the reason for it; `library` says whose runtime it is. `version` is that of the
    package whose library travelled: LiteRT's own cannot tell, and what travelled is known by its content.
    """

    program: tuple[str, ...]
    library_path: str | None
    agent: str
    library: str
    version: str | None = None

    @property
    def argv(self) -> list[str]:
        """The command line that names program and library."""
        return [*self.program, *([] if self.library_path is None else ["--library", self.library_path])]


def machine_at(target: Target) -> Machine:
    """Return what a device says about itself; DeviceFailed where it cannot be asked."""
    (architecture,) = ask(target, ["uname", "-m"]) or ("unknown",)
    libc = ask(target, ["sh", "-c", "getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1; true"])
    return machine_of(target.look(PATTERNS), architecture, "\n".join(libc))


def ask(target: Target, argv: Sequence[str]) -> list[str]:
    """Return the lines that a short command prints on a device."""
    return list(target.run(argv, QUESTION_TIMEOUT_S))


def deploy(target: Target, machine: Machine, runtime: str, own_library: str | None = None) -> Deployed:
    """Bring the C agent to a device, and the runtime where the device lacks it.

    `own_library` names a library on the device. Without it, one that lies in the usual places there is taken, and
    otherwise this machine's version travels. Where no C agent can be compiled the Python agent takes over and
    says why. Raises MissingPackage, ToolFailed, and DeviceFailed where the device cannot run what would travel.
    """
    require_runtime(runtime)
    if machine.architecture not in ARCHITECTURES:
        return _python(target, f"there is no C agent for {machine.architecture}")
    try:
        program = agent_program(machine.architecture)
    except ToolFailed as error:
        if own_library is not None:
            raise ToolFailed(f"only the C agent can load {own_library}, and there is none: {error.sentence}") from error
        return _python(target, f"no C agent: {error.sentence}")
    local = target.address == "local"
    own = own_library or (None if local else _own(target, runtime))
    if own is not None:
        return Deployed((target.push(program, keep=True),), own, "c", f"the device's own {own}")
    try:
        brought = libraries(runtime, machine.architecture)
    except MissingPackage as error:
        return _python(target, error.sentence)
    _require_glibc(machine, brought.glibc, f"{runtime} {brought.version}")
    library = target.push(brought.main, *(file for file in brought.files if file != brought.main), keep=True)
    came = "installed here" if local else "brought along"
    return Deployed(
        (target.push(program, keep=True),), library, "c", f"{runtime} {brought.version}, {came}", brought.version
    )


def python_agent(target: Target) -> tuple[str, ...]:
    """Bring the Python agent to a device and return the command that runs it."""
    files = sorted((bundled("runtimes") / "python").glob("*.py"), key=lambda file: file.name != "agent.py")
    interpreter = sys.executable if target.address == "local" else "python3"
    return interpreter, "-B", target.push(*files)


def _python(target: Target, reason: str) -> Deployed:
    command = python_agent(target)
    return Deployed(command, None, f"python ({' '.join(reason.split())})", "the Python package on the device")


def _own(target: Target, runtime: str) -> str | None:
    """Return the newest library of a runtime that lies in the device's usual places, or None."""
    patterns = " ".join(STANDARD_PLACES[runtime])
    found = ask(target, ["sh", "-c", f"ls -d {patterns} 2>/dev/null; true"])
    return max(found, key=_version_in_name, default=None)


def _version_in_name(library: str) -> tuple[int, ...]:
    """Return the numbers after a library's `.so`, none for the plain name."""
    return tuple(int(part) for part in library.partition(".so")[2].split(".") if part.isdecimal())


def _require_glibc(machine: Machine, needed: str, what: str) -> None:
    if machine.glibc is not None and _numbers(machine.glibc) < _numbers(needed):
        raise DeviceFailed(
            f"{what} needs glibc {needed} or newer; the device has {machine.glibc}: install a newer system there, "
            "or a runtime of the device's own and name it with --library",
            "old-runtime",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
