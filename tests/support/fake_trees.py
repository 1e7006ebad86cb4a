"""Trees like the /proc and /sys of real boards, for tests of what reads them under a root."""

import os
from collections.abc import Mapping
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
# Zone of /sys/class/powercap -> its name and max_energy_range_uj.
N100_ZONES = {
    "intel-rapl:0": ("package-0", 262143328850),
    "intel-rapl:0:0": ("core", 262143328850),
    "intel-rapl:0:1": ("uncore", 262143328850),
    "intel-rapl:1": ("psys", 262143328850),
    "intel-rapl-mmio:0": ("package-0", 262143328850),
}
TWO_SOCKETS = {
    "intel-rapl:0": ("package-0", 262143328850),
    "intel-rapl:0:0": ("dram", 65712999613),
    "intel-rapl:1": ("package-1", 262143328850),
    "intel-rapl:1:0": ("dram", 65712999613),
}
ORIN_NANO_RAILS = {"VDD_IN": (5064, 1208), "VDD_CPU_GPU_CV": (5064, 240), "VDD_SOC": (5056, 376)}
AGX_ORIN_RAILS = {"VDD_GPU_SOC": (19152, 248), "VDD_CPU_CV": (19152, 56), "VIN_SYS_5V0": (5024, 816)}
NANO_RAILS = {"POM_5V_IN": 2063, "POM_5V_GPU": 124, "POM_5V_CPU": 372}
# `vcgencmd pmic_read_adc` on an idle Raspberry Pi 5: twelve rails with volts and amperes, and two inputs without.
PMIC_READ_ADC = """\
 3V7_WL_SW_A current(0)=0.08197642A
   3V3_SYS_A current(1)=0.04586534A
   1V8_SYS_A current(2)=0.18443690A
  DDR_VDD2_A current(3)=0.00878329A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.18150910A
    0V8_SW_A current(6)=0.36687810A
  VDD_CORE_A current(7)=0.81640000A
   3V3_DAC_A current(17)=0.00024421A
   3V3_ADC_A current(18)=0.00036631A
   0V8_AON_A current(16)=0.00402938A
      HDMI_A current(22)=0.01221000A
 3V7_WL_SW_V volt(8)=3.71652000V
   3V3_SYS_V volt(9)=3.31187400V
   1V8_SYS_V volt(10)=1.80512400V
  DDR_VDD2_V volt(11)=1.10708700V
  DDR_VDDQ_V volt(12)=0.60622440V
   1V1_SYS_V volt(13)=1.10732700V
    0V8_SW_V volt(14)=0.80366730V
  VDD_CORE_V volt(15)=0.76078610V
   3V3_DAC_V volt(20)=3.31373200V
   3V3_ADC_V volt(21)=3.31037500V
   0V8_AON_V volt(19)=0.79638570V
      HDMI_V volt(23)=5.13048000V
     EXT5V_V volt(24)=5.13262000V
      BATT_V volt(25)=0.00585600V
"""


def write_raspberry_pi_4(root: Path) -> Path:
    """Write what a Raspberry Pi 4 with 4 GB shows, and return `root`."""
    revision = "Hardware\t: BCM2835\nRevision\t: c03115\nModel\t\t: Raspberry Pi 4 Model B Rev 1.5\n"
    _write(root, "proc/cpuinfo", "".join(PI_4_CPUINFO.format(n=n) for n in range(4)) + revision)
    _write(root, "proc/meminfo", "MemTotal:        3884384 kB\nMemFree:         2938156 kB\n")
    _write(root, "proc/sys/kernel/osrelease", "6.12.25+rpt-rpi-v8\n")
    _write(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    _write(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    _write(root, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n')
    _write(root, "proc/sys/kernel/random/boot_id", "b3a1b3c4-6f0e-4b3a-9f0e-0d2f2d1c5a6b\n")
    return root


def write_intel_n100(root: Path) -> Path:
    """Write what a small PC with an N100 and 16 GB shows, without frequency control, and return `root`."""
    _write(root, "proc/cpuinfo", "".join(N100_CPUINFO.format(n=n) for n in range(4)))
    _write(root, "proc/meminfo", "MemTotal:       16093184 kB\n")
    _write(root, "proc/sys/kernel/osrelease", "6.1.0-28-amd64\n")
    return root


def write_raspberry_pi_5(root: Path) -> Path:
    """Write the name of a Raspberry Pi 5, whose power chip only a command reads, and return `root`."""
    _write(root, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    return root


def write_rapl(root: Path, zones: Mapping[str, tuple[str, int]] = N100_ZONES, unreadable: str = "") -> Path:
    """Write the energy counters of some zones, linked as the kernel links them, and return `root`.

    `unreadable` is the zone whose counter only root may read, or "all". Tests may run as root, who may read everything,
    so a folder stands in for that counter.
    """
    for number, (zone, (name, most_uj)) in enumerate(zones.items()):
        folder = f"sys/devices/virtual/powercap/{zone.partition(':')[0]}/{zone}"
        _write(root, f"{folder}/name", f"{name}\n")
        _write(root, f"{folder}/max_energy_range_uj", f"{most_uj}\n")
        _write(root, f"{folder}/constraint_0_name", "long_term\n")
        if unreadable in (zone, "all"):
            (root / folder / "energy_uj").mkdir()
        else:
            _write(root, f"{folder}/energy_uj", f"{41_000_000_000 + number}\n")
        _link(root, f"sys/class/powercap/{zone}", folder)
    return root


def write_jetson(root: Path, rails: Mapping[str, tuple[int, int]] = ORIN_NANO_RAILS) -> Path:
    """Write the sensor of a Jetson with JetPack 5 or 6, millivolts and milliamperes by rail, and return `root`."""
    device = "sys/devices/platform/bus@0/c240000.i2c/i2c-1/1-0040"
    for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        _write(root, f"{device}/hwmon/hwmon1/in{channel}_label", f"{label}\n")
        _write(root, f"{device}/hwmon/hwmon1/in{channel}_input", f"{millivolts}\n")
        _write(root, f"{device}/hwmon/hwmon1/curr{channel}_input", f"{milliamperes}\n")
        _write(root, f"{device}/hwmon/hwmon1/in{channel + 3}_input", "6\n")  # the shunt's voltage
    _write(root, f"{device}/hwmon/hwmon1/in7_label", "sum of shunt voltages\n")
    _write(root, f"{device}/hwmon/hwmon1/name", "ina3221\n")
    _link(root, "sys/bus/i2c/drivers/ina3221/1-0040", device)
    return root


def write_old_jetson(root: Path, rails: Mapping[str, int] = NANO_RAILS) -> Path:
    """Write the sensor of a Jetson with JetPack 4, milliwatts by rail, and return `root`."""
    device = "sys/devices/7000c400.i2c/i2c-6/6-0040"
    for channel, (label, milliwatts) in enumerate(rails.items()):
        _write(root, f"{device}/iio:device0/rail_name_{channel}", f"{label}\n")
        _write(root, f"{device}/iio:device0/in_power{channel}_input", f"{milliwatts}\n")
        _write(root, f"{device}/iio:device0/in_voltage{channel}_input", "5072\n")
        _write(root, f"{device}/iio:device0/in_current{channel}_input", "407\n")
    _link(root, "sys/bus/i2c/drivers/ina3221x/6-0040", device)
    return root


def write_hwmon(root: Path, sensors: Mapping[str, int]) -> Path:
    """Write one chip for each name, with its power in microwatts, beside one that knows only a temperature."""
    _write(root, "sys/devices/virtual/thermal/thermal_zone0/hwmon0/name", "cpu_thermal\n")
    _write(root, "sys/devices/virtual/thermal/thermal_zone0/hwmon0/temp1_input", "48000\n")
    _link(root, "sys/class/hwmon/hwmon0", "sys/devices/virtual/thermal/thermal_zone0/hwmon0")
    for number, (name, microwatts) in enumerate(sensors.items(), start=1):
        folder = f"sys/devices/platform/soc/i2c-{number}/{number}-0040/hwmon/hwmon{number}"
        _write(root, f"{folder}/name", f"{name}\n")
        _write(root, f"{folder}/power1_input", f"{microwatts}\n")
        _link(root, f"sys/class/hwmon/hwmon{number}", folder)
    return root


def _link(root: Path, name: str, to: str) -> None:
    """Make `name` a link to the folder `to`, both under `root`, relative as in /sys."""
    link = root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(root / to, link.parent))


def _write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
