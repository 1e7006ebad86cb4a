"""Trees like the /proc and /sys of real boards, for tests of what reads them under a root."""

from pathlib import Path

PI_4_CPUINFO = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
N100_CPUINFO = """processor\t: {n}
vendor_id\t: GenuineIntel
model name\t: Intel(R) N100
cpu MHz\t\t: 800.000
flags\t\t: fpu sse sse2 avx avx2 avx_vnni

"""


def write_raspberry_pi_4(root: Path) -> Path:
    """Write what a Raspberry Pi 4 with 4 GB shows, and return `root`."""
    revision = "Hardware\t: BCM2835\nRevision\t: c03115\nModel\t\t: Raspberry Pi 4 Model B Rev 1.5\n"
    _write(root, "proc/cpuinfo", "".join(PI_4_CPUINFO.format(n=n) for n in range(4)) + revision)
    _write(root, "proc/meminfo", "MemTotal:        3884384 kB\nMemFree:         2938156 kB\n")
    _write(root, "proc/sys/kernel/osrelease", "6.12.25+rpt-rpi-v8\n")
    _write(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    _write(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    return root


def write_intel_n100(root: Path) -> Path:
    """Write what a small PC with an N100 and 16 GB shows, without frequency control, and return `root`."""
    _write(root, "proc/cpuinfo", "".join(N100_CPUINFO.format(n=n) for n in range(4)))
    _write(root, "proc/meminfo", "MemTotal:       16093184 kB\n")
    _write(root, "proc/sys/kernel/osrelease", "6.1.0-28-amd64\n")
    return root


def _write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
