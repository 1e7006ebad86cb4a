"""The files of /proc and /sys in which a runtime looks for its processor, made from a device profile.

Runtimes choose their kernels by them. Without them they would read those of the machine that emulates, and some stop.
"""

from pathlib import Path

from edgeslim.devices.emulation import Emulation
from edgeslim.devices.profile import Cache, DeviceProfile

LINE_BYTES = 64
_TYPES = {"data": "Data", "instructions": "Instruction", "both": "Unified"}


def write_tree(profile: DeviceProfile, emulation: Emulation, libraries: Path, folder: Path) -> None:
    """Write into `folder` what QEMU shows to a program in place of this machine's files.

    `libraries` is the folder of the C library for the device's architecture, which appears as /lib.
    """
    cores = profile.cores[0]
    count = cores.count.value or 1
    for name in ("lib", "lib64"):
        (folder / name).symlink_to(libraries)
    _write(folder / "proc/cpuinfo", "".join(_processor(number, emulation) for number in range(count)))
    _write(folder / "proc/device-tree/model", f"{profile.title}, emulated\0")
    system = folder / "sys/devices/system/cpu"
    everyone = _cpus(count)
    for name in ("possible", "present", "online"):
        _write(system / name, f"{everyone}\n")
    _write(system / "kernel_max", "255\n")
    for number in range(count):
        _write_core(system / f"cpu{number}", number, profile, emulation)


def _processor(number: int, emulation: Emulation) -> str:
    lines = {
        "processor": str(number),
        "BogoMIPS": "108.00",
        "Features": " ".join(emulation.cpu_features),
        "CPU implementer": f"{emulation.implementer:#04x}",
        "CPU architecture": "8",
        "CPU variant": f"{emulation.variant:#x}",
        "CPU part": emulation.cpu_part,
        "CPU revision": str(emulation.revision),
    }
    return "".join(f"{key}\t: {value}\n" for key, value in lines.items()) + "\n"


def _write_core(folder: Path, number: int, profile: DeviceProfile, emulation: Emulation) -> None:
    cores = profile.cores[0]
    count = cores.count.value or 1
    if cores.max_clock.value is not None:
        _write(folder / "cpufreq/cpuinfo_max_freq", f"{round(cores.max_clock.value / 1e3)}\n")
    everyone = _cpus(count)
    topology = {"physical_package_id": "0", "core_id": str(number), "core_siblings_list": everyone}
    for name, text in (topology | {"cluster_cpus_list": everyone, "thread_siblings_list": str(number)}).items():
        _write(folder / "topology" / name, f"{text}\n")
    _write(folder / "regs/identification/midr_el1", f"0x{int(emulation.midr, 16):016x}\n")
    for index, cache in enumerate(profile.caches):
        _write_cache(folder / f"cache/index{index}", number, count, cache)


def _write_cache(folder: Path, core: int, cores: int, cache: Cache) -> None:
    facts = {
        "level": str(cache.level),
        "type": _TYPES[cache.holds],
        "coherency_line_size": str(LINE_BYTES),
        "shared_cpu_list": str(core) if cache.shared_by.value == 1 else _cpus(cores),
    }
    if cache.size.value is not None:
        facts["size"] = f"{cache.size.value // 1024}K"
    if cache.ways.value is not None:
        facts["ways_of_associativity"] = str(cache.ways.value)
        if cache.size.value is not None:
            facts["number_of_sets"] = str(cache.size.value // cache.ways.value // LINE_BYTES)
    for name, text in facts.items():
        _write(folder / name, f"{text}\n")


def _cpus(count: int) -> str:
    return f"0-{count - 1}" if count > 1 else "0"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
