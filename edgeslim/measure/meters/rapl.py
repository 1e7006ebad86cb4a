"""RAPL: the energy counters of x86 processors, summed over all packages (/sys/class/powercap).

A zone `intel-rapl:N` is a package, or `psys`, which holds all packages; `intel-rapl:N:M` is a part of package N, and
`intel-rapl-mmio:N` is package N once more. Only packages are counted.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

from edgeslim.measure.meters import Reading, Sampling, Watts

SCOPE = "CPU packages, without memory and board"
_ZONE_NAME = re.compile(r"(/sys/class/powercap/intel-rapl:\d+)/name")
PATTERNS = (
    "/sys/class/powercap/intel-rapl:*/energy_uj",
    "/sys/class/powercap/intel-rapl:*/max_energy_range_uj",
    "/sys/class/powercap/intel-rapl:*/name",
)
PERIOD_S = 0.1
MOST_W = 2000.0  # more for all packages is a damaged reading, not a power


def sampling(files: Mapping[str, str]) -> Sampling | None:
    """Return the packages' counters, or None where there are none, or one cannot be read: half a sum is no sum."""
    counters = _counters(files)
    readable = all(path in files and _range(path) in files for path in counters)
    return Sampling(counters, None, PERIOD_S) if counters and readable else None


def why_not(files: Mapping[str, str]) -> str:
    """Say why `sampling` returned None."""
    if _counters(files):
        return "energy_uj can be read by root only: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    return "the kernel offers no package in /sys/class/powercap/intel-rapl:*"


def watts(sampling: Sampling, readings: Sequence[Reading], files: Mapping[str, str]) -> list[Watts]:
    """Return the mean power between readings; a counter wraps at its max_energy_range_uj.

    A pair of readings of which one is missing, or that gives an impossible power, leaves a gap.
    """
    ranges = [int(files[_range(path)]) for path in sampling.files]
    found = []
    for earlier, later in itertools.pairwise(readings):
        seconds = later.at_s - earlier.at_s
        before, after = _counts(earlier), _counts(later)
        if before is None or after is None or seconds <= 0:
            continue
        joules = sum((b - a) % most for a, b, most in zip(before, after, ranges, strict=True)) / 1e6
        if joules / seconds <= MOST_W:
            found.append(Watts(earlier.at_s, later.at_s, joules / seconds))
    return found


def _counters(files: Mapping[str, str]) -> tuple[str, ...]:
    """Return the counter of every package, whether it can be read or not; anyone may read the zones' names."""
    zones = [(_ZONE_NAME.fullmatch(path), text) for path, text in sorted(files.items())]
    return tuple(f"{zone[1]}/energy_uj" for zone, name in zones if zone and name.startswith("package"))


def _range(counter: str) -> str:
    return counter.replace("energy_uj", "max_energy_range_uj")


def _counts(reading: Reading) -> list[int] | None:
    """Return the counters of a reading; None where one was not read."""
    counts = [int(value) for value in reading.values if value is not None and value.strip().isdecimal()]
    return counts if len(counts) == len(reading.values) else None
