"""Is the machine at hand what its profile says: what a device reports of itself, beside what is known of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgeslim.deploy.agent_session import Failed, Heartbeat, Hello, Message, read_message
from edgeslim.deploy.device import Device, open_device
from edgeslim.devices.profile import DeviceProfile, Isa, RuntimeSupport, describes, load_profile
from edgeslim.errors import DeviceFailed, EdgeslimError
from edgeslim.formats import RUNTIMES
from edgeslim.measure.meters import METERS
from edgeslim.measure.meters.find import meter_module
from edgeslim.units import show_memory

HELLO_TIMEOUT_S = 60.0
GONE = ("lost", "unreachable")  # said of the connection, these say nothing of a runtime
KERNEL_SHARE = 0.25  # of the RAM a board is sold with, firmware, graphics and kernel may keep so much

# What a profile calls an instruction set -> the flag in /proc/cpuinfo.
FLAGS: dict[Isa, str] = {
    "neon": "asimd",
    "fp16": "asimdhp",
    "bf16": "bf16",
    "dotprod": "asimddp",
    "i8mm": "i8mm",
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
}


@dataclass(frozen=True)
class Finding:
    """One fact of a profile beside the device's own word; "unknown" where one of the two says nothing."""

    what: str
    profile: str
    device: str
    state: Literal["same", "differs", "unknown"]


def probe(address: str, *, device: str, library: str | None = None) -> list[Finding]:
    """Compare the machine at an address ("local", "ssh://user@host") with the profile of a device.

    Architecture, board, cores, instruction sets, RAM, system, runtimes and power sensors: each runtime is loaded there
    and asked for its version. `library` names a runtime's library on the machine. Raises BadProfile and DeviceFailed.
    """
    profile = load_profile(device)
    with open_device(address, library) as opened:
        return findings(opened, profile)


def findings(device: Device, profile: DeviceProfile) -> list[Finding]:
    """Compare an open device with a profile, as `probe` does."""
    return [
        *_machine(device, profile),
        *(_runtime(device, one) for one in profile.runtimes),
        *_sensors(device, profile),
    ]


def _machine(device: Device, profile: DeviceProfile) -> Iterator[Finding]:
    machine = device.machine
    yield _finding("architecture", profile.architecture, machine.architecture)
    marks = profile.identification
    named = ", ".join((*marks.device_tree_models, *marks.cpu_models)) or "any machine"
    yield Finding(
        "board", named, machine.board or machine.cpu_model, "same" if describes(profile, machine) else "differs"
    )
    counts = [cluster.count.value for cluster in profile.cores]
    known = sum(count for count in counts if count is not None) if None not in counts and counts else None
    yield _finding("cores", known, machine.cores)
    wanted = {name for cluster in profile.cores for name in cluster.isa}
    lacking = sorted(name for name in wanted if FLAGS[name] not in machine.cpu_flags)
    yield Finding(
        "instruction sets",
        ", ".join(sorted(wanted)) or "not known",
        f"lacks {', '.join(lacking)}" if lacking else "all of them",
        "unknown" if not wanted else "differs" if lacking else "same",
    )
    ram = profile.memory.ram
    enough = ram.value is not None and machine.ram_bytes >= (1 - KERNEL_SHARE) * ram.value
    yield Finding(
        "RAM, at least",
        ram.shown,
        show_memory(machine.ram_bytes),
        "unknown" if ram.value is None else "same" if enough else "differs",
    )
    yield Finding("system", "any Linux", f"{machine.os_name or 'no name'}, kernel {machine.kernel}", "same")
    yield Finding("glibc", "what its runtimes need", machine.glibc or "not told", "unknown")


def _finding(what: str, known: object | None, found: object) -> Finding:
    if known is None:
        return Finding(what, "not known", str(found), "unknown")
    return Finding(what, str(known), str(found), "same" if known == found else "differs")


def _runtime(device: Device, support: RuntimeSupport) -> Finding:
    """Return which version of a runtime the device can load, and whose it is."""
    what, wanted = f"runtime {support.name}", f"{support.min_version} or newer"
    if support.name not in RUNTIMES:
        return Finding(what, wanted, "edgeslim has no agent for it", "unknown")
    try:
        deployed = device.deployed(support.name)
        version = _version(device, [*deployed.argv, "--runtime", support.name]) or deployed.version
    except DeviceFailed as error:
        if error.status in GONE:
            raise
        return Finding(what, wanted, " ".join(error.message.split()), "differs")
    except EdgeslimError as error:  # of this machine: it could not bring what the device was to be asked with
        return Finding(what, wanted, f"not asked: {error.sentence}", "unknown")
    if version is None:
        return Finding(what, wanted, f"it does not tell its version: {deployed.library}", "unknown")
    found = tuple(int(part) for part in version.split(".") if part.isdigit())
    newer = found >= tuple(int(part) for part in support.min_version.split("."))
    return Finding(what, wanted, f"{version}: {deployed.library}", "same" if newer else "differs")


def _version(device: Device, argv: list[str]) -> str | None:
    """Return the version in the agent's first message, None where the runtime tells none; DeviceFailed if none came.

    Asked for a model that is not there, an agent says no more than that.
    """
    messages: list[Message] = []
    try:
        for line in device.target.run([*argv, "--model", "no-model", "--seed", "0"], HELLO_TIMEOUT_S):
            messages.append(read_message(line, len(messages) + 1))
    except DeviceFailed as error:
        if error.status in GONE:
            raise
        match [one for one in messages if not isinstance(one, Heartbeat)]:
            case [Hello(runtime_version=version), Failed(reason="missing-file")]:
                return version
        raise DeviceFailed(error.message, "no-runtime") from error
    raise DeviceFailed("the agent ran a model that is not there", "protocol")


def _sensors(device: Device, profile: DeviceProfile) -> Iterator[Finding]:
    """Yield for each power sensor of the profile whether it can be read, and every other that can."""
    for name in METERS:
        meter = meter_module(name)
        files = device.target.look(meter.PATTERNS)
        readable = meter.sampling(files) is not None
        if name in profile.power.sensors:
            found = "can be read" if readable else meter.why_not(files)
            yield Finding(f"power sensor {name}", "on the board", found, "same" if readable else "differs")
        elif readable:
            yield Finding(f"power sensor {name}", "none known", "can be read", "unknown")
