"""RAPL: the energy counters of x86 processors, summed over all packages (/sys/class/powercap)."""

import itertools
import re
from collections.abc import Mapping, Sequence

from edgeslim.meters import Reading, Sampling, Watts

SCOPE = "CPU packages, without memory and board"
_PACKAGE = re.compile(r"/sys/class/powercap/intel-rapl:\d+/energy_uj")
PATTERNS = (
    "/sys/class/powercap/intel-rapl:*/energy_uj",
    "/sys/class/powercap/intel-rapl:*/max_energy_range_uj",
    "/sys/class/powercap/intel-rapl:*/name",
)
PERIOD_S = 0.1
MOST_W = 2000.0  # more for all packages is a damaged reading, not a power


def sampling(files: Mapping[str, str]) -> Sampling | None:
    """Return the packages' counters, or None where there are none, or only root may read them."""
    counters = tuple(sorted(path for path in files if _PACKAGE.fullmatch(path)))
    return Sampling(counters, None, PERIOD_S) if counters else None


def why_not(files: Mapping[str, str]) -> str:
    """Say why `sampling` returned None."""
    if any(path.endswith("/name") for path in files):
        return "energy_uj can be read by root only: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    return "the kernel offers no /sys/class/powercap/intel-rapl:*"


def watts(sampling: Sampling, readings: Sequence[Reading], files: Mapping[str, str]) -> list[Watts]:
    """Return the mean power between readings; a counter wraps at its max_energy_range_uj.

    A pair of readings of which one is missing, or that gives an impossible power, leaves a gap.
    """
    ranges = [int(files[path.replace("energy_uj", "max_energy_range_uj")]) for path in sampling.files]
    found = []
    for earlier, later in itertools.pairwise(readings):
        seconds = later.at_s - earlier.at_s
        if None in (*earlier.values, *later.values) or seconds <= 0:
            continue
        pairs = zip(earlier.values, later.values, ranges, strict=True)
        joules = sum((int(b or 0) - int(a or 0)) % most for a, b, most in pairs) / 1e6
        if joules / seconds <= MOST_W:
            found.append(Watts(earlier.at_s, later.at_s, joules / seconds))
    return found
