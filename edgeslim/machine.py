"""The machine edgeslim runs on, as Linux's /proc and /sys describe it."""

import platform
from dataclasses import dataclass
from pathlib import Path

from edgeslim.errors import ToolFailed


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

    @property
    def has_vnni(self) -> bool:
        """True where int8 dot products accumulate in 32 bits in one instruction (AVX512-VNNI or AVX-VNNI)."""
        return "avx512_vnni" in self.cpu_flags or "avx_vnni" in self.cpu_flags


def this_machine(root: Path = Path("/"), architecture: str | None = None) -> Machine:
    """Return what /proc and /sys under `root` say.

    `architecture` is the kernel's name for the instruction set (x86_64, aarch64) and by default this interpreter's.
    Raises ToolFailed where /proc is not Linux's.
    """
    processors = _processors(_required(root / "proc/cpuinfo"))
    if not processors:
        raise ToolFailed(f"{root / 'proc/cpuinfo'}: no `processor` in it; expected Linux's list of processors")
    first = processors[0]
    flags = first.get("flags", first.get("Features", ""))
    return Machine(
        architecture=architecture or platform.machine(),
        board=_optional(root / "proc/device-tree/model"),
        cpu_model=first.get("model name", f"CPU part {first.get('CPU part', 'unknown')}"),
        cpu_flags=tuple(flags.split()),
        cores=len(processors),
        ram_bytes=_ram_bytes(root / "proc/meminfo"),
        kernel=_required(root / "proc/sys/kernel/osrelease"),
        governor=_optional(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    )


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """Return one dictionary for each processor of /proc/cpuinfo, with the kernel's keys."""
    blocks = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in cpuinfo.split("\n\n")
    ]
    return [block for block in blocks if "processor" in block]


def _ram_bytes(meminfo: Path) -> int:
    for line in _required(meminfo).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ToolFailed(f"{meminfo}: no `MemTotal` in it; expected Linux's memory figures")


def _required(file: Path) -> str:
    text = _optional(file)
    if text is None:
        raise ToolFailed(f"{file} cannot be read; expected the /proc of a running Linux")
    return text


def _optional(file: Path) -> str | None:
    """Return the text of a kernel file without its final newline or NUL, or None where the kernel does not offer it."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None
