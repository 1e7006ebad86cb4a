"""A core emulated by QEMU: the C agent runs the device's own runtime library there, and a plugin counts what it takes.

Nothing here needs root, and nothing is registered with the kernel. Times under QEMU mean nothing and are thrown away.
"""

import functools
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.deploy.agent_program import agent_program
from edgeslim.deploy.agent_session import Session, read_session
from edgeslim.deploy.compile_c import compiled
from edgeslim.deploy.device import Candidate, files_of
from edgeslim.deploy.libraries import libraries
from edgeslim.deploy.targets.local import LocalTarget, open_target
from edgeslim.devices.emulation import Emulation
from edgeslim.devices.machine import Machine
from edgeslim.devices.profile import DeviceProfile, all_profiles
from edgeslim.emulation.core_files import write_tree
from edgeslim.errors import BadInput, DeviceFailed, ToolFailed, near_misses
from edgeslim.resources import bundled

ARCHITECTURE = "aarch64"
QEMU = "qemu-aarch64"
LOADER = "ld-linux-aarch64.so.1"
CPP_LIBRARY = "libstdc++.so.6"
LIBRARY_FOLDERS = (Path("/usr/aarch64-linux-gnu/lib"), Path("/usr/lib/aarch64-linux-gnu"))
PLUGIN_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden")
INSTALL_QEMU = "apt-get install qemu-user"
INSTALL_LIBRARIES = "apt-get install libc6-arm64-cross libstdc++6-arm64-cross"
NEWEST_QEMU = (8, 2)  # whose interface for plugins ours is written for; 4.2 is the oldest
COUNTS, INFERENCE, CLOCK, PROCESS = "counts.jsonl", "inference", "clock", "process"
ONE_WARM = ("--warmup", "1", "--iterations", "1")
INFERENCES = 3  # the first, one that warms up, and the one that is counted
TIME_LIMIT_S = 600.0
ASK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Tools:
    """What emulation needs of this machine: QEMU, its version, the folder of aarch64's C library, the plugin."""

    qemu: str
    version: str
    libraries: Path
    plugin: Path


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Counted:
    """A line of the plugin: what was counted since region `number` began, by the plugin's names of counts."""

    region: str
    number: int
    counts: dict[str, int]


_COUNTED = TypeAdapter(Counted)


def require_tools() -> Tools:
    """Return what emulation needs here; ToolFailed says everything that is missing, each with what installs it."""
    qemu, system = shutil.which(QEMU), _library_folder()
    missing = []
    if qemu is None:
        missing.append(f"{QEMU} is not installed: {INSTALL_QEMU}")
    elif not _takes_plugins(qemu):
        missing.append(
            f"{qemu} ({_version(qemu)}) was built without plugins, as Debian's qemu-user-static is: {INSTALL_QEMU}"
        )
    elif _newer(_version(qemu)):
        missing.append(
            f"{qemu} is {_version(qemu)}, and after 8.2 plugins have another interface: put an older one first on "
            "PATH, such as Debian 12's qemu-user (7.2)"
        )
    if system is None:
        missing.append(f"no C and C++ library for {ARCHITECTURE}: {INSTALL_LIBRARIES}")
    if qemu is None or system is None or missing:
        raise ToolFailed(f"devices cannot be emulated here: {'; '.join(missing)} (tools/install_emulator does it all)")
    sources = sorted(bundled("runtimes").joinpath("emulator").glob("*.[ch]"))
    plugin = compiled("count_plugin.so", "plugins", platform.machine(), sources, PLUGIN_FLAGS)
    return Tools(qemu, _version(qemu), system, plugin)


def require_emulation(profile: DeviceProfile) -> Emulation:
    """Return how QEMU stands in for a device; BadInput where its profile does not say, or names a core QEMU lacks."""
    if profile.emulation is None:
        able = ", ".join(one.name for one in all_profiles() if one.emulation is not None)
        raise BadInput(
            f"{profile.name} cannot be emulated: its profile has no section `emulation` (CONTRIBUTING.md says what it "
            f"holds); devices that have one: {able}"
        )
    return profile.emulation


class Emulator:
    """An emulated device: `run` starts the agent there. One thread; what several would take is not counted."""

    def __init__(self, profile: DeviceProfile, tools: Tools, target: LocalTarget, tree: Path, counts: Path) -> None:
        self.profile, self.tools = profile, tools
        self.emulation = require_emulation(profile)
        self._target, self._tree, self._counts = target, tree, counts
        self._libraries: dict[str, Path] = {}

    @property
    def name(self) -> str:
        """Which emulator counts: "qemu-aarch64 7.2.22"."""
        return f"{QEMU} {self.tools.version}"

    @property
    def machine(self) -> Machine:
        """What the device would say of itself."""
        cores, memory = self.profile.cores[0], self.profile.memory
        return Machine(
            architecture=ARCHITECTURE,
            board=f"{self.profile.title}, emulated",
            cpu_model=cores.name,
            cpu_flags=self.emulation.cpu_features,
            cores=cores.count.value or 1,
            ram_bytes=memory.ram.value or 0,
            kernel=self.name,
            governor=None,
            os_name=None,
            glibc=None,
            boot_id=None,
        )

    @property
    def caches(self) -> tuple[str, ...]:
        """The modelled caches, the nearest first: "32 KiB, 2 ways"."""
        found = self.profile.data_caches
        return tuple(f"{one.size.shown}, {one.ways.shown} ways" for one in found)

    @functools.cached_property
    def _agent(self) -> Path:
        return agent_program(ARCHITECTURE)

    def work_path(self, name: str) -> Path:
        """Return where a program may write a file; it goes with the emulator."""
        return Path(self._target.work_path(name))

    def run(self, candidate: Candidate, wishes: Sequence[str], timeout_s: float = TIME_LIMIT_S) -> Session:
        """Run one process of the agent on a model without counting: `wishes` are options of runtimes/PROTOCOL.md.

        Raises DeviceFailed with the agent's reason, ToolFailed where QEMU or the runtime's library cannot be had.
        """
        return self._session(candidate, wishes, [], timeout_s)

    def count(
        self, candidate: Candidate, wishes: Sequence[str], *, clock: bool = False, timeout_s: float = TIME_LIMIT_S
    ) -> tuple[Session, list[Counted]]:
        """Run the same and return also what the plugin counted, a line for each inference in order.

        With `clock` there is a line each time that the program asked for the time during an inference, before its own.
        """
        levels = enumerate(self.profile.data_caches, start=1)
        caches = [f"l{level}={cache.size.value}:{cache.ways.value}" for level, cache in levels]
        words = [str(self.tools.plugin), f"out={self._counts}", *caches, *(["clock=on"] if clock else [])]
        self._counts.unlink(missing_ok=True)
        session = self._session(candidate, wishes, ["-plugin", ",".join(words)], timeout_s)
        return session, read_counts(self._counts)

    def inference(
        self, candidate: Candidate, feed: Sequence[str], *, record: bool = False, timeout_s: float = TIME_LIMIT_S
    ) -> tuple[Session, dict[str, int]]:
        """Return what one inference takes, caches warm: the third of a process; `feed` are the options that feed it.

        `record`: the session says what ran too.
        """
        wishes = [*feed, *ONE_WARM, *(["--graph"] if record else [])]
        session, lines = self.count(candidate, wishes, timeout_s=timeout_s)
        if len(lines) != INFERENCES + record:
            raise ToolFailed(f"{candidate.label}: {len(lines)} inferences were counted; {INFERENCES + record} were run")
        return session, lines[INFERENCES - 1].counts

    def command(self, core: str) -> list[str]:
        """Return the words that run a program on a core, with the device's files in place of this machine's."""
        return [self.tools.qemu, "-cpu", core, "-L", str(self._tree)]

    def _session(self, candidate: Candidate, wishes: Sequence[str], plugin: Sequence[str], timeout_s: float) -> Session:
        if candidate.runtime not in self._libraries:
            self._libraries[candidate.runtime] = libraries(candidate.runtime, ARCHITECTURE).main
        model = self._target.push(*files_of(candidate.model))
        argv = [
            *(*self.command(self.emulation.qemu_cpu), *plugin),
            *(str(self._agent), "--runtime", candidate.runtime),
            *("--library", str(self._libraries[candidate.runtime])),
            *("--model", model, "--precision", candidate.precision, *candidate.arguments, *wishes),
        ]
        try:
            return read_session(self._target.run(argv, timeout_s))
        except DeviceFailed as error:
            raise self._explained(error) from error

    def _explained(self, error: DeviceFailed) -> DeviceFailed | ToolFailed:
        """Return what a failure comes from where QEMU itself says so."""
        text = error.message
        if "Could not load plugin" in text:
            return ToolFailed(
                f"{self.tools.qemu} ({self.tools.version}) does not load the counting plugin {self.tools.plugin}: "
                f"delete it, and it is built again; it is written for QEMU 4.2 to 8.2\n{text}"
            )
        return error


@contextmanager
def open_emulator(profile: DeviceProfile) -> Iterator[Emulator]:
    """Yield a device emulated on this machine; nothing it started outlives the `with`.

    Raises BadInput where the profile does not say how, or QEMU lacks its core; ToolFailed where something is missing.
    """
    emulation = require_emulation(profile)
    tools = require_tools()
    known = _cores(tools.qemu)
    if emulation.qemu_cpu not in known:
        raise BadInput(
            f"{profile.name}: {QEMU} {tools.version} knows no core `{emulation.qemu_cpu}`"
            f"{near_misses(emulation.qemu_cpu, known)} (`{QEMU} -cpu help` lists them all)"
        )
    with open_target() as target:
        tree = Path(target.work_path("tree"))
        tree.mkdir()
        write_tree(profile, emulation, tools.libraries, tree)
        yield Emulator(profile, tools, target, tree, Path(target.work_path(COUNTS)))


def read_counts(file: Path) -> list[Counted]:
    """Return the plugin's lines but its last, which says that they are whole; ToolFailed where that is missing."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        found = [_COUNTED.validate_json(line) for line in lines]
    except (OSError, ValidationError) as error:
        raise ToolFailed(f"what the counting plugin wrote cannot be read: {error}") from error
    if not found or found[-1].region != PROCESS:
        raise ToolFailed(f"the counting plugin wrote {len(found)} lines and no last one: the run was cut short")
    return found[:-1]


def _library_folder() -> Path | None:
    """Return the folder of aarch64's C and C++ libraries: a cross compiler's, or this machine's own."""
    return next((one for one in LIBRARY_FOLDERS if (one / LOADER).exists() and (one / CPP_LIBRARY).exists()), None)


@functools.cache
def _takes_plugins(qemu: str) -> bool:
    return "-plugin" in _asked(qemu, "-help")


@functools.cache
def _version(qemu: str) -> str:
    words = _asked(qemu, "--version").split()
    return words[2] if len(words) > 2 else "of unknown version"


def _newer(version: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) > NEWEST_QEMU


@functools.cache
def _cores(qemu: str) -> list[str]:
    return _asked(qemu, "-cpu", "help").split()


def _asked(*words: str) -> str:
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=ASK_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(f"{words[0]} cannot be run: {error}") from error
    return done.stdout + done.stderr
