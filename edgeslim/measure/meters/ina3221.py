"""INA3221: the three-channel sensor of NVIDIA's Jetson boards; the rail that feeds the whole module."""

import re
from collections.abc import Mapping, Sequence

from edgeslim.measure.meters import Reading, Sampling, Watts

SCOPE = "whole module, at its supply rail"
PATTERNS = (
    "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label",
    "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_input",
    "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/curr*_input",
    "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*",
    "/sys/bus/i2c/drivers/ina3221x/*/iio:device*/in_power*_input",
)
PERIOD_S = 0.1
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")  # what feeds the whole module, by board


def sampling(files: Mapping[str, str]) -> Sampling | None:
    """Return the files of the rail that feeds the module: volts and amperes apart, or a power on older systems."""
    for label in TOTAL_RAILS:
        for path, text in sorted(files.items()):
            if text.strip() != label:
                continue
            sources = _sources(path)
            if sources and all(source in files for source in sources):
                return Sampling(sources, None, PERIOD_S)
    return None


def why_not(files: Mapping[str, str]) -> str:
    """Say why `sampling` returned None."""
    labels = sorted(text.strip() for path, text in files.items() if "label" in path or "rail_name" in path)
    if set(labels) & set(TOTAL_RAILS):
        return f"{' and '.join(sorted(set(labels) & set(TOTAL_RAILS)))} cannot be read: is the channel switched off?"
    if labels:
        return f"none of the rails {', '.join(labels)} is known to feed the whole module"
    return "no /sys/bus/i2c/drivers/ina3221 can be read"


def watts(sampling: Sampling, readings: Sequence[Reading], files: Mapping[str, str]) -> list[Watts]:
    """Return the power at each reading: millivolts times milliamperes, or milliwatts."""
    found = []
    for one in readings:
        numbers = [int(value) for value in one.values if value is not None and re.fullmatch(r"\d+\s*", value)]
        if len(numbers) == len(sampling.files):
            found.append(Watts(one.at_s, one.at_s, numbers[0] * numbers[1] / 1e6 if numbers[1:] else numbers[0] / 1e3))
    return found


def _sources(label: str) -> tuple[str, ...]:
    """Return the files that measure the rail whose name is in the file `label`."""
    channel = re.fullmatch(r"(.*/)in(\d)_label", label)
    if channel:
        return f"{channel[1]}in{channel[2]}_input", f"{channel[1]}curr{channel[2]}_input"
    rail = re.fullmatch(r"(.*/)rail_name_(\d)", label)
    return (f"{rail[1]}in_power{rail[2]}_input",) if rail else ()
