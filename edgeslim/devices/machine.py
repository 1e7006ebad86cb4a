"""A running Linux machine, as its /proc and /sys describe it: this one, or a device that was looked at from afar."""

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeslim.errors import ToolFailed

CPUINFO, MEMINFO = "/proc/cpuinfo", "/proc/meminfo"
KERNEL, BOARD = "/proc/sys/kernel/osrelease", "/proc/device-tree/model"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
BOOT_ID, OS_RELEASE = "/proc/sys/kernel/random/boot_id", "/etc/os-release"
PATTERNS = (CPUINFO, MEMINFO, KERNEL, BOARD, GOVERNOR, BOOT_ID, OS_RELEASE)
LARGEST_BYTES = 65536


@dataclass(frozen=True)
class Machine:
    """One running machine; `board` is its device tree's model, `governor` its frequency policy, where it has one."""

    architecture: str
    board: str | None
    cpu_model: str
    cpu_flags: tuple[str, ...]
    cores: int
    ram_bytes: int
    kernel: str
    governor: str | None
    os_name: str | None
    glibc: str | None
    boot_id: str | None

    @property
    def sums_saturate(self) -> bool:
        """True where sums of uint8 x int8 products saturate, unless a runtime is told otherwise, as OpenVINO cannot."""
        return self.architecture == "x86_64" and not self.has_vnni

    @property
    def has_vnni(self) -> bool:
        """True where int8 dot products accumulate in 32 bits in one instruction (AVX512-VNNI or AVX-VNNI)."""
        return "avx512_vnni" in self.cpu_flags or "avx_vnni" in self.cpu_flags


def this_machine(root: Path = Path("/"), architecture: str | None = None) -> Machine:
    """Return what /proc and /sys under `root` say.

    `architecture` is the kernel's name for the instruction set (x86_64, aarch64) and by default this interpreter's.
    Raises ToolFailed where /proc is not Linux's.
    """
    libc, version = platform.libc_ver()
    files = small_files(root, PATTERNS)
    return machine_of(files, architecture or platform.machine(), version if libc == "glibc" else "", root)


def machine_of(files: Mapping[str, str], architecture: str, libc: str = "", where: Path = Path("/")) -> Machine:
    """Return what a machine's small files say (path -> text, of PATTERNS).

    `libc` is what its C library says of its version, in any words; `where` is named in errors. Raises ToolFailed where
    /proc is not Linux's.
    """
    processors = _processors(_required(files, CPUINFO, where))
    if not processors:
        raise ToolFailed(f"{where / CPUINFO[1:]}: no `processor` in it; expected Linux's list of processors")
    parts = dict.fromkeys(processor.get("CPU part", "unknown") for processor in processors)
    flags = processors[0].get("flags", processors[0].get("Features", ""))
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', files.get(OS_RELEASE, ""), re.MULTILINE)
    glibc = re.search(r"\d+\.\d+", libc)
    return Machine(
        architecture=architecture,
        board=_optional(files, BOARD),
        cpu_model=processors[0].get("model name", f"CPU part {' and '.join(parts)}"),
        cpu_flags=tuple(flags.split()),
        cores=len(processors),
        ram_bytes=_memory_bytes(_required(files, MEMINFO, where), "MemTotal", where),
        kernel=_required(files, KERNEL, where),
        governor=_optional(files, GOVERNOR),
        os_name=name[1] if name else None,
        glibc=glibc[0] if glibc else None,
        boot_id=_optional(files, BOOT_ID),
    )


def small_files(root: Path, patterns: Sequence[str]) -> dict[str, str]:
    """Return path -> text of every readable file under `root` that a shell pattern matches, at most 64 KiB of each.

    Paths are those that the machine itself would use: they begin with "/", whatever `root` is.
    """
    found = {}
    for pattern in patterns:
        for file in sorted(root.glob(pattern.lstrip("/"))):
            try:
                with file.open("rb") as stream:
                    text = stream.read(LARGEST_BYTES).decode("utf-8", errors="replace")
            except OSError:
                continue
            found["/" + str(file.relative_to(root))] = text
    return found


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """Return one dictionary for each processor of /proc/cpuinfo, with the kernel's keys."""
    blocks = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in cpuinfo.split("\n\n")
    ]
    return [block for block in blocks if "processor" in block]


def available_bytes(files: Mapping[str, str] | None = None, root: Path = Path("/")) -> int:
    """Return what programs can still have of a machine's memory, by default of this one's; ToolFailed as above."""
    read = small_files(root, [MEMINFO]) if files is None else files
    return _memory_bytes(_required(read, MEMINFO, root), "MemAvailable", root)


def _memory_bytes(meminfo: str, name: str, where: Path) -> int:
    for line in meminfo.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ToolFailed(f"{where / MEMINFO[1:]}: no `{name}` in it; expected Linux's memory figures")


def _required(files: Mapping[str, str], path: str, where: Path) -> str:
    text = _optional(files, path)
    if text is None:
        raise ToolFailed(f"{where / path[1:]} cannot be read; expected the /proc of a running Linux")
    return text


def _optional(files: Mapping[str, str], path: str) -> str | None:
    """Return a kernel file's text without its final newline or NUL, or None where the kernel does not offer it."""
    text = files.get(path)
    return None if text is None else text.strip("\0\n ")
