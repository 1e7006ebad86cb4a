"""Device profiles: what edgeslim knows of a device, each number with its source, read strictly from one YAML file."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt

from edgeslim.devices.emulation import MISSES, Emulation, Estimator
from edgeslim.devices.machine import Machine, this_machine
from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.devices.overlay import read_over_base
from edgeslim.devices.sourced import Bytes, BytesPerSecond, Count, Flops, Hertz, Ops, Seconds, Sourced, Text, Watts
from edgeslim.errors import BadProfile, near_misses
from edgeslim.formats import RuntimeName
from edgeslim.resources import bundled, in_package
from edgeslim.strict_yaml import Section, read_strictly

RuntimeOnDevice = Literal[RuntimeName, "tensorrt", "ethos-u"]
Precision = Literal["fp32", "fp16", "int8"]
Isa = Literal["neon", "fp16", "bf16", "dotprod", "i8mm", "avx2", "avx_vnni", "avx512f", "avx512_vnni"]
Sensor = Literal["rapl", "ina3221", "hwmon", "pi_pmic"]
PROFILE_SCHEMA = in_package("devices/profile.schema.json")  # written by tools/schemas.py
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Identification(Section):
    """How a running machine is recognized as this device: any of these is enough."""

    device_tree_models: tuple[Text, ...] = ()
    cpu_models: tuple[Text, ...] = ()
    any_machine: StrictBool = False


class CoreCluster(Section):
    """Equal cores; `cpu_part` is the part number in /proc/cpuinfo on Arm; `source` vouches for name, part and ISA.

    `multiply_adds`: the most that one core begins in a cycle.
    """

    name: Text
    count: Count
    max_clock: Hertz
    cpu_part: Annotated[str, Field(pattern=r"^0x[0-9a-f]{3}$")] | None = None
    isa: tuple[Isa, ...]
    multiply_adds: dict[Precision, Count] = Field(default={})
    source: Text


class Cache(Section):
    """One kind of cache; `shared_by` counts the cores that share one of them."""

    level: Annotated[StrictInt, Field(ge=1, le=4)]
    holds: Literal["data", "instructions", "both"]
    size: Bytes
    ways: Count
    shared_by: Count


class Memory(Section):
    """Main memory: `ram` is the smallest a board of this name is sold with, so that what fits it fits them all."""

    ram: Bytes
    bandwidth: BytesPerSecond


class Compute(Section):
    """What all CPU cores together reach in double-precision High Performance Linpack."""

    hpl: Flops


class Accelerator(Section):
    """A processor beside the CPU."""

    name: Text
    kind: Literal["gpu", "npu"]
    peak: Ops
    notes: Text | None = None


class KnownFailure(Section):
    """What goes wrong with one precision in one runtime on this device."""

    precision: Precision
    effect: Literal["fails", "runs_as_fp16", "runs_as_bf16", "slow"]
    text: Text
    source: Text


class RuntimeSupport(Section):
    """One runtime on this device.

    `precisions` are those it offers; `known_failures` says which of them go wrong here. `source` vouches for the
    version, the precisions and per-channel weights.
    """

    name: RuntimeOnDevice
    min_version: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
    precisions: tuple[Precision, ...]
    per_channel_weights: StrictBool
    source: Text
    channel_multiple: dict[Precision, Count]
    known_failures: tuple[KnownFailure, ...] = ()

    def faults(self) -> Iterator[str]:
        """Yield what the lists of precisions say against each other."""
        if not self.precisions:
            yield "`precisions` is empty; expected at least one"
            return
        if set(self.channel_multiple) != set(self.precisions):
            yield f"`channel_multiple` needs one entry for each of {', '.join(self.precisions)}"
        failing = [failure.precision for failure in self.known_failures]
        if len(set(failing)) != len(failing) or not set(failing) <= set(self.precisions):
            yield f"`known_failures` needs at most one entry for each of {', '.join(self.precisions)}"


class Power(Section):
    """What the whole board draws, and the sensors on it that edgeslim can read."""

    idle: Watts
    active: Watts
    sensors: tuple[Sensor, ...]


class LatencyReference(Section):
    """A published latency of one inference, batch 1."""

    model: Text
    runtime: Text
    processor: Literal["cpu", "gpu", "npu"]
    precision: Precision
    threads: StrictInt | None = None
    latency: Seconds


class Compiler(Section):
    """How Vela compiles for the device's Ethos-U: the accelerator, and which sections of our vela.ini describe it.

    `sram` is what the NPU may use of it, `flash` what may hold the compiled file; `source` vouches for the three names.
    Without a memory mode nothing can be built: Vela would guess one, and every figure with it.
    """

    accelerator_config: Annotated[str, Field(pattern=r"^ethos-u(55|65|85)-\d+$")]
    system_config: Text
    memory_mode: Text | None = None
    sram: Bytes
    flash: Bytes
    source: Text


class Limits(Section):
    """What the device cannot exceed."""

    max_model: Bytes
    max_batch: Count


class DeviceProfile(Section):
    """Everything edgeslim knows about one device; `runtimes` stand in order of preference."""

    name: Name
    title: Text
    aliases: tuple[Name, ...] = ()
    device_class: Literal["cpu", "gpu", "npu"]
    soc: Text
    architecture: Literal["aarch64", "x86_64", "armv7l", "armv8.1-m"]
    transport: Literal["local", "ssh", "none"]
    identification: Identification
    cores: tuple[CoreCluster, ...]
    caches: tuple[Cache, ...]
    memory: Memory
    compute: Compute
    accelerators: tuple[Accelerator, ...]
    runtimes: tuple[RuntimeSupport, ...]
    compiler: Compiler | None = None
    power: Power
    limits: Limits
    npu: NpuLimits | None = None  # for a device of class npu
    emulation: Emulation | None = None  # for a device whose core QEMU has
    estimator: Estimator | None = None  # for a device whose counts were held against times
    backend: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None  # which builds for it; None: as it says
    latency_references: tuple[LatencyReference, ...]

    def __repr_args__(self) -> list[tuple[str, str]]:
        return [("name", self.name), ("title", self.title)]

    def faults(self) -> Iterator[str]:
        """Yield what the sections say against each other."""
        names = [runtime.name for runtime in self.runtimes]
        if not names:
            yield "`runtimes` is empty; expected at least one"
        if len(set(names)) != len(names):
            yield f"`runtimes` names one twice: {', '.join(names)}"
        if self.compiler is not None and "ethos-u" not in names:
            yield "`compiler` is Vela's, for the runtime ethos-u, which `runtimes` does not name"
        if (self.npu is not None) != (self.device_class == "npu"):
            yield f"a device of class {self.device_class} {'needs' if self.npu is None else 'has no'} section `npu`"
        if self.emulation is not None:
            yield from self._faults_of_emulation(self.emulation)

    def _faults_of_emulation(self, emulation: Emulation) -> Iterator[str]:
        parts = [cluster.cpu_part for cluster in self.cores]
        if emulation.cpu_part not in parts:
            known = ", ".join(part for part in parts if part) or "none"
            yield f"`emulation.midr` is that of the part {emulation.cpu_part}; `cores` has {known}"
        levels = len(self.data_caches)
        if levels == 0:
            yield "`emulation` needs the size and ways of the cache for data of level 1, to count its misses"
        costly = [] if self.estimator is None else [name for cost in self.estimator.costs for name in cost.counts]
        unseen = [name for level, name in enumerate(MISSES, start=1) if name in costly and level > levels]
        if levels and unseen:
            yield f"`estimator` has a cost for {', '.join(unseen)}; `caches` lacks size and ways of such a level"

    @property
    def data_caches(self) -> tuple[Cache, ...]:
        """The caches that data goes through, the nearest first, as far as size and ways are known without a gap."""
        known: list[Cache] = []
        for level in range(1, len(MISSES) + 1):
            found = next((one for one in self.caches if one.level == level and one.holds != "instructions"), None)
            if found is None or found.size.value is None or found.ways.value is None:
                break
            known.append(found)
        return tuple(known)

    def runtime(self, name: str) -> RuntimeSupport | None:
        """Return what is known of the runtime `name` here, or None where the device has no use for it."""
        return next((runtime for runtime in self.runtimes if runtime.name == name), None)

    @property
    def backend_name(self) -> str:
        """Which kind of accelerator builds for it, a module of edgeslim/backends/."""
        if self.backend is not None:
            return self.backend
        if self.device_class == "npu" and self.runtime("ethos-u") is not None:
            return "ethos_u"
        return "cpu" if self.tensorrt is None else "tensorrt"

    @property
    def operator_limits(self) -> NpuLimits | None:
        """What its accelerator runs, operator by operator; None where that is not known, or a CPU's matter."""
        return self.npu

    @property
    def mixes_precisions(self) -> bool:
        """Whether its runtime takes each operator in a precision of its own, fp16 beside fp32."""
        return self.tensorrt is not None

    @property
    def tensorrt(self) -> RuntimeSupport | None:
        """What is known of TensorRT on a GPU device; None for devices of another class, or without it."""
        return self.runtime("tensorrt") if self.device_class == "gpu" else None

    def failure(self, runtime: str, precision: str) -> KnownFailure | None:
        """Return the known failure of `precision` in `runtime` on this device, if there is one."""
        support = self.runtime(runtime)
        failures = support.known_failures if support else ()
        return next((failure for failure in failures if failure.precision == precision), None)


@dataclass(frozen=True)
class Fact:
    """One line of what a profile knows; `source` is None where the profile names none."""

    section: str
    name: str
    value: str
    source: str | None


def known_devices() -> list[str]:
    """Return the names of the bundled profiles, sorted, without reading them."""
    return sorted(file.stem for file in bundled("device_profiles").glob("*.yaml"))


def all_profiles() -> list[DeviceProfile]:
    """Return every bundled profile, sorted by name."""
    return [load_profile(name) for name in known_devices()]


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """Return the profile of a bundled device (by name or alias) or of a YAML file.

    Anything that ends in .yaml or .yml or holds a path separator is a file; one with the key `base` is laid over
    another profile (devices/overlay.py). BadProfile names the near misses of an unknown device, and says of a broken
    file which section and key is wrong and what was expected.
    """
    text = str(name_or_path)
    if is_file_name(text):
        return read_over_base(Path(text), DeviceProfile, _places())
    if text in known_devices():
        return read_strictly(bundled("device_profiles") / f"{text}.yaml", DeviceProfile, BadProfile)
    names: list[str] = []
    for profile in all_profiles():
        if text in profile.aliases:
            return profile
        names += [profile.name, *profile.aliases]
    raise BadProfile(f"unknown device `{text}`{near_misses(text, names)}", "`edgeslim devices` lists them all")


def is_file_name(device: str) -> bool:
    """Tell whether a word for a device names a profile's file, and no device that is known."""
    return device.endswith((".yaml", ".yml")) or os.sep in device


def _places() -> dict[str, Path]:
    return {name: bundled("device_profiles") / f"{name}.yaml" for name in known_devices()}


def overview(profile: DeviceProfile) -> tuple[str, str, str, str, str]:
    """Return what a list of devices shows of one: name, aliases, class, SoC, runtimes with their precisions."""
    runtimes = ", ".join(f"{one.name} ({', '.join(one.precisions)})" for one in profile.runtimes)
    return profile.name, ", ".join(profile.aliases), profile.device_class, profile.soc or "", runtimes


def describe(profile: DeviceProfile) -> list[Fact]:
    """Return everything the profile holds, in its order, null numbers as "not measured"."""
    return list(_facts(profile, "device"))


def profile_sha256(profile: DeviceProfile) -> str:
    """Return the SHA-256 of the profile's content: layout, comments, units and place of the file do not change it."""
    content = profile.model_dump(mode="json", exclude={"backend"} if profile.backend is None else set())
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def is_this_machine(profile: DeviceProfile, root: Path = Path("/"), machine: str | None = None) -> bool:
    """Return whether the machine whose /proc lies under `root` is the profile's device.

    `machine` is the kernel's name for the architecture, by default this interpreter's. ToolFailed where the
    architecture fits and /proc cannot be read.
    """
    architecture = machine or platform.machine()
    marks = profile.identification
    if architecture != profile.architecture or marks.any_machine:
        return architecture == profile.architecture
    return describes(profile, this_machine(root, architecture))


def sums_saturate(profile: DeviceProfile) -> bool:
    """Tell whether sums of INT8 products saturate in OpenVINO on a device: they do on x86-64 without VNNI."""
    if is_this_machine(profile):
        return this_machine().sums_saturate
    return profile.architecture == "x86_64" and not any("vnni" in one for cores in profile.cores for one in cores.isa)


def describes(profile: DeviceProfile, machine: Machine) -> bool:
    """Return whether a running machine is the profile's device."""
    marks, board = profile.identification, machine.board or ""
    if machine.architecture != profile.architecture or marks.any_machine:
        return machine.architecture == profile.architecture
    return any(mark in board for mark in marks.device_tree_models) or any(
        mark in machine.cpu_model for mark in marks.cpu_models
    )


def _facts(section: Section, title: str) -> Iterator[Fact]:
    source = getattr(section, "source", None)
    heading = ("source",) if isinstance(section, DeviceProfile) else ("source", "name")
    for key in type(section).model_fields:
        value, name = getattr(section, key), key.replace("_", " ")
        inner = name if isinstance(section, DeviceProfile) else f"{title}, {name}"
        match value:
            case Sourced():
                yield Fact(title, name, value.shown, value.source)
            case Section():
                yield from _facts(value, inner)
            case dict():
                yield from (Fact(title, f"{name} {item}", value[item].shown, value[item].source) for item in value)
            case (Section(), *_):
                for number, item in enumerate(value, start=1):
                    yield from _facts(item, f"{inner} {getattr(item, 'name', f'#{number}')}")
            case _ if key not in heading:
                yield Fact(title, name, _plain(value), source)


def _plain(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case None:
            return "none"
    return str(value)


def known_to_fail(profile: DeviceProfile, runtime: str, precision: str) -> bool:
    """Tell whether files of a precision are known to fail in a runtime on the device."""
    failure = profile.failure(runtime, precision)
    return failure is not None and failure.effect == "fails"
