"""hwmon: boards whose sensor chip gives a power in microwatts (/sys/class/hwmon/hwmon*/power*_input)."""

from collections.abc import Mapping, Sequence

from edgeslim.measure.meters import Reading, Sampling, Watts

SCOPE = "what the board's one power sensor sees"
PATTERNS = ("/sys/class/hwmon/hwmon*/power*_input", "/sys/class/hwmon/hwmon*/name")
PERIOD_S = 0.1


def sampling(files: Mapping[str, str]) -> Sampling | None:
    """Return the one power sensor, or None where there is none, or several: which covers the board is not known."""
    sensors = _sensors(files)
    return Sampling((sensors[0],), None, PERIOD_S) if len(sensors) == 1 else None


def why_not(files: Mapping[str, str]) -> str:
    """Say why `sampling` returned None."""
    sensors = _sensors(files)
    if not sensors:
        return "no /sys/class/hwmon/hwmon*/power*_input can be read"
    named = ", ".join(f"{path} ({files.get(path.rsplit('/', 1)[0] + '/name', 'no name').strip()})" for path in sensors)
    return f"several sensors, and which of them covers the board is not known: {named}"


def watts(sampling: Sampling, readings: Sequence[Reading], files: Mapping[str, str]) -> list[Watts]:
    """Return the power at each reading that holds one."""
    return [
        Watts(one.at_s, one.at_s, int(one.values[0]) / 1e6)
        for one in readings
        if one.values[0] is not None and one.values[0].strip().isdecimal()
    ]


def _sensors(files: Mapping[str, str]) -> list[str]:
    return sorted(path for path in files if path.endswith("_input"))
