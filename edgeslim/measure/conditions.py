"""What a machine was like while it was measured: throttling, heat, clocks; and what each means for the figures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgeslim.measure.measurement import Caution

THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
PATTERNS = (
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "/sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq",
    "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq",
    "/sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count",
    "/sys/class/thermal/thermal_zone*/temp",
    THROTTLED,
)
CLOCK_SHARE = 0.05
# Raspberry Pi's bits of what has happened since the boot: the firmware keeps them, the present ones are 16 lower.
STICKY_BITS = {16: "under-voltage", 17: "frequency capped", 18: "throttled", 19: "soft temperature limit"}
FIX_CLOCKS = "fix them: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
LIFT_LIMIT = "cool the device, or write what its cpuinfo_max_freq holds to its scaling_max_freq; measure again"


@dataclass(frozen=True)
class Conditions:
    """One look at a machine; CPUs and zones by their folder's name, clocks in kHz, temperatures in degrees Celsius."""

    governors: Mapping[str, str]
    clocks_khz: Mapping[str, int]
    limits_khz: Mapping[str, int]
    fastest_khz: Mapping[str, int]
    throttle_counts: Mapping[str, int]
    temperatures_c: Mapping[str, float]
    throttled_bits: int

    @staticmethod
    def of(files: Mapping[str, str]) -> "Conditions":
        """Read a device's small files (path -> text, of PATTERNS); what the kernel does not offer is empty."""
        bits = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]+)", files.get(THROTTLED, "").strip())
        zones = _numbers(files, r"/(thermal_zone\d+)/temp")
        return Conditions(
            governors=_texts(files, r"/(cpu\d+)/cpufreq/scaling_governor"),
            clocks_khz=_numbers(files, r"/(cpu\d+)/cpufreq/scaling_cur_freq"),
            limits_khz=_numbers(files, r"/(cpu\d+)/cpufreq/scaling_max_freq"),
            fastest_khz=_numbers(files, r"/(cpu\d+)/cpufreq/cpuinfo_max_freq"),
            throttle_counts=_numbers(files, r"/(cpu\d+/thermal_throttle/\w+)_throttle_count"),
            temperatures_c={zone: thousandths / 1000 for zone, thousandths in zones.items()},
            throttled_bits=int(bits[1], 16) if bits else 0,
        )


def cautions(before: Conditions, after: Conditions) -> list[Caution]:
    """Return what two looks at a machine say against what ran between them."""
    found = []
    evidence = _throttling(before, after)
    if evidence:
        hottest = max(after.temperatures_c.values(), default=None)
        heat = "" if hottest is None else f"; the hottest zone is at {hottest:.0f} °C"
        found.append(
            Caution("throttled", f"{evidence}{heat}", "cool the device, check its power supply, measure again")
        )
    limited, moved = _limited(after), _moved(before, after)
    if limited or moved:
        found.append(Caution("clocks", limited or moved, LIFT_LIMIT if limited else FIX_CLOCKS))
    return found


def _throttling(before: Conditions, after: Conditions) -> str:
    counted = sorted(
        name for name, count in after.throttle_counts.items() if count > before.throttle_counts.get(name, count)
    )
    if counted:
        return f"the kernel counted throttling of {', '.join(counted)}"
    now = [word for bit, word in STICKY_BITS.items() if after.throttled_bits >> (bit - 16) & 1]
    new = [word for bit, word in STICKY_BITS.items() if (after.throttled_bits & ~before.throttled_bits) >> bit & 1]
    words = dict.fromkeys([*now, *new])
    return f"the firmware reports {', '.join(words)}" if words else ""


def _limited(after: Conditions) -> str:
    """Return which clock may not go as fast as it could."""
    for cpu, limit in after.limits_khz.items():
        fastest = after.fastest_khz.get(cpu, limit)
        if limit < (1 - CLOCK_SHARE) * fastest:
            return f"{cpu} is capped at {limit / 1e6:.2f} of {fastest / 1e6:.2f} GHz"
    return ""


def _moved(before: Conditions, after: Conditions) -> str:
    """Return which clock moved between the looks under a governor that lets it."""
    for cpu, clock in after.clocks_khz.items():
        earlier = before.clocks_khz.get(cpu, clock)
        if after.governors.get(cpu) != "performance" and abs(clock - earlier) > CLOCK_SHARE * max(earlier, 1):
            governor = after.governors.get(cpu, "unknown")
            return f"{cpu} went from {earlier / 1e6:.2f} to {clock / 1e6:.2f} GHz under the governor {governor}"
    return ""


def _texts(files: Mapping[str, str], pattern: str) -> dict[str, str]:
    """Return what the pattern's group names -> the file's text."""
    return {found[1]: text.strip() for path, text in files.items() if (found := re.search(pattern + "$", path))}


def _numbers(files: Mapping[str, str], pattern: str) -> dict[str, int]:
    """Return the same as whole numbers, without what is none."""
    return {name: int(text) for name, text in _texts(files, pattern).items() if re.fullmatch(r"-?\d+", text)}
