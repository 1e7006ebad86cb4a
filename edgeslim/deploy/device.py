"""One device: its agent, runtimes and models are brought once, and sessions survive a connection that is cut."""

import pkgutil
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

from edgeslim.deploy import targets
from edgeslim.deploy.agent_session import Done, Failed, Session, read_message, read_session
from edgeslim.deploy.deployment import Deployed, deploy, machine_at
from edgeslim.deploy.exit_status import ended
from edgeslim.deploy.memory_limit import CGROUPS, limited
from edgeslim.deploy.targets import Target
from edgeslim.devices.machine import BOOT_ID, Machine
from edgeslim.errors import BadInput, DeviceFailed, near_misses
from edgeslim.work_folders import work_folder

RECONNECT_S = 60.0
SILENT_S = 30.0  # an agent speaks at least every five seconds
POLL_S = 1.0


@dataclass(frozen=True)
class Candidate:
    """One model file to measure; `precision` ("fp32" or "int8") is what it is meant to be.

    `arguments` are the agent's options that this file needs wherever it runs.
    """

    label: str
    runtime: str
    model: Path
    precision: str
    arguments: tuple[str, ...] = ()


class CutShort(DeviceFailed):
    """A process of the agent that did not end; `lines` is what it had written on the device before."""

    def __init__(self, message: str, status: str, lines: Sequence[str]) -> None:
        super().__init__(message, status)
        self.lines = tuple(lines)


class Device:
    """An open target; `library` names a runtime's library on it in place of the one edgeslim would take."""

    def __init__(self, target: Target, library: str | None = None) -> None:
        self.target = target
        self._library = library
        self._deployed: dict[str, Deployed] = {}
        self._models: dict[Path, str] = {}
        self._sessions = 0

    @cached_property
    def machine(self) -> Machine:
        """What the device says about itself."""
        return machine_at(self.target)

    def deployed(self, runtime: str) -> Deployed:
        """Return the agent for a runtime, brought with the first call."""
        if runtime not in self._deployed:
            self._deployed[runtime] = deploy(self.target, self.machine, runtime, self._library)
        return self._deployed[runtime]

    def run(
        self, candidate: Candidate, wishes: Sequence[str], timeout_s: float, memory_limit_bytes: int | None = None
    ) -> Session:
        """Run one process of the agent on a model; `wishes` are the options of runtimes/PROTOCOL.md.

        Raises DeviceFailed with the agent's reason, and CutShort when the connection or the device was lost on the way
        and the process did not end; one that went on alone is waited for, and its session is fetched.
        """
        agent = self.deployed(candidate.runtime)
        if candidate.model not in self._models:
            self._models[candidate.model] = self.target.push(*files_of(candidate.model))
        what = ["--runtime", candidate.runtime, "--model", self._models[candidate.model]]
        argv = [*agent.argv, *what, "--precision", candidate.precision, *candidate.arguments, *wishes]
        if memory_limit_bytes is not None:
            argv = limited(argv, memory_limit_bytes, self.target.look(CGROUPS))
        if self.target.address == "local":
            return read_session(_one_behind(self.target.run(argv, timeout_s)))
        self._sessions += 1
        log = self.target.work_path(f"session-{self._sessions}.jsonl")
        boot_id = self.machine.boot_id
        try:
            return read_session(_one_behind(self.target.run([*argv, "--log", log], timeout_s)))
        except DeviceFailed as error:
            if error.status != "lost":
                raise
            lines = self._fetched(log, boot_id, timeout_s, error)
            if isinstance(read_message(lines[-1], len(lines)), Failed):
                raise ended(argv, 1, lines[-1], "", out_of_memory=False) from error
            return read_session(lines)

    def _fetched(self, log: str, boot_id: str | None, timeout_s: float, lost: DeviceFailed) -> list[str]:
        """Return the messages of a session whose connection was cut, once the agent has ended."""
        self.target.reconnect(RECONNECT_S)
        now = self.target.look([BOOT_ID]).get(BOOT_ID, "").strip()
        if boot_id is not None and now != boot_id:
            raise CutShort(f"{self.target.address} rebooted in the middle of a run", "rebooted", self._lines(log))
        deadline = time.monotonic() + timeout_s
        lines, changed = self._lines(log), time.monotonic()
        while not _ended(lines):
            if time.monotonic() > deadline or time.monotonic() - changed > SILENT_S:
                raise CutShort(f"{lost}; the agent did not end after that", "lost", lines)
            time.sleep(POLL_S)
            more = self._lines(log)
            if len(more) != len(lines):
                lines, changed = more, time.monotonic()
        return lines

    def _lines(self, log: str) -> list[str]:
        """Return the whole lines of a log on the device; none where it was not written."""
        with work_folder() as folder:
            copy = folder / "session.jsonl"
            try:
                self.target.pull(log, copy)
            except DeviceFailed as error:
                if error.status in ("lost", "unreachable"):
                    raise
                return []
            text = copy.read_text(encoding="utf-8", errors="replace")
        return text[: text.rfind("\n") + 1].split("\n")[:-1]


def files_of(model: Path) -> list[Path]:
    """Return the files of a model, the one to load first; OpenVINO keeps the weights in a .bin beside the .xml."""
    return [model, model.with_suffix(".bin")] if model.suffix == ".xml" else [model]


@contextmanager
def open_device(address: str, library: str | None = None) -> Iterator[Device]:
    """Open the target of an address ("local", "ssh://user@host:port", "fake:FOLDER"); BadInput for any other."""
    scheme = re.split("[:/]", address, maxsplit=1)[0]
    known = sorted(info.name for info in pkgutil.iter_modules(targets.__path__))
    if scheme not in known:
        raise BadInput(
            f"unknown target `{address}`{near_misses(scheme, known)}; targets are {', '.join(known)}, "
            "and for `bench` emulator"
        )
    with import_module(f"edgeslim.deploy.targets.{scheme}").open_target(address) as target:
        yield Device(target, library)


def _one_behind(lines: Iterator[str]) -> Iterator[str]:
    """Yield each line when the next one is there: the last one before a failure may be half a line, and is left out."""
    held: list[str] = []
    for line in lines:
        yield from held
        held = [line]
    yield from held


def _ended(lines: Sequence[str]) -> bool:
    """Return whether an agent's messages are complete."""
    return bool(lines) and isinstance(read_message(lines[-1], len(lines)), Done | Failed)
