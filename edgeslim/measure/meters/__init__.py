"""Where power is read: one module a source, each with functions that take what the device's small files hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Span = tuple[float, float]  # began and ended, seconds on the device's CLOCK_MONOTONIC

METERS = ("ina3221", "pi_pmic", "rapl", "hwmon")  # the order in which `auto` asks: the widest scope first


@dataclass(frozen=True)
class Sampling:
    """What the agent reads every `period_s`: small files, and a command whose stdout is the last value."""

    files: tuple[str, ...]
    command: str | None
    period_s: float


@dataclass(frozen=True)
class Reading:
    """One look at the sources: seconds on the device's CLOCK_MONOTONIC, and the text of each (None: unreadable)."""

    at_s: float
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Watts:
    """Power over time: what the source drew on average from `from_s` to `to_s` (equal for an instant's figure)."""

    from_s: float
    to_s: float
    watts: float


class Meter(Protocol):
    """A module that reads one kind of power source on the device."""

    SCOPE: str  # what its figure covers: "CPU package", "whole board without its 5 V losses"
    PATTERNS: tuple[str, ...]  # shell patterns of the small files that `sampling` needs to see

    def sampling(self, files: Mapping[str, str]) -> Sampling | None:
        """Return what to read, by the device's files (path -> text), or None where the source is not there."""

    def why_not(self, files: Mapping[str, str]) -> str:
        """Say why `sampling` returned None, and what would help."""

    def watts(self, sampling: Sampling, readings: Sequence[Reading], files: Mapping[str, str]) -> list[Watts]:
        """Return the power over time; readings that are missing or cannot be read leave gaps, never zeros."""
