"""The power chip of the Raspberry Pi 5: the rails behind its converters, read with `vcgencmd pmic_read_adc`."""

import re
from collections.abc import Mapping, Sequence

from edgeslim.measure.meters import Reading, Sampling, Watts

SCOPE = "the board's rails, without what the 5 V input feeds directly (USB) and the converters' losses"
PATTERNS = ("/proc/device-tree/model",)
PERIOD_S = 0.2  # read 50 times in a second, the board runs several times slower
_VALUE = re.compile(r"(\S+)_([AV]) (?:current|volt)\(\d+\)=([\d.]+)[AV]")


def sampling(files: Mapping[str, str]) -> Sampling | None:
    """Return the command on a Raspberry Pi 5, None elsewhere: older boards have no such chip."""
    is_pi_5 = any("Raspberry Pi 5" in text or "Compute Module 5" in text for text in files.values())
    return Sampling((), "vcgencmd pmic_read_adc", PERIOD_S) if is_pi_5 else None


def why_not(files: Mapping[str, str]) -> str:
    """Say why `sampling` returned None."""
    return "only the Raspberry Pi 5 and Compute Module 5 have this chip"


def watts(sampling: Sampling, readings: Sequence[Reading], files: Mapping[str, str]) -> list[Watts]:
    """Return the sum over all rails for which volts and amperes are both given, at each reading.

    A reading that lacks rails which others have was cut short, and leaves a gap.
    """
    powers = [(one.at_s, _powers(one.values[-1] or "")) for one in readings]
    most = max((len(rails) for _, rails in powers), default=0)
    return [Watts(at_s, at_s, sum(rails)) for at_s, rails in powers if len(rails) == most > 0]


def _powers(text: str) -> list[float]:
    """Return the power of each rail in the command's words."""
    rails: dict[str, dict[str, float]] = {}
    for rail, unit, value in _VALUE.findall(text):
        rails.setdefault(rail, {})[unit] = float(value)
    return [values["V"] * values["A"] for values in rails.values() if len(values) == 2]
