"""Pruned networks that a build tried, kept beside its measurements, and which of them are worth having."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "pruning_trials.json"


@dataclass(frozen=True)
class Trial:
    """A network that was tried: widths, INT8 time from tables, costs, and what it loses on selection images.

    The width of a residual block is 1, or 0 where it is gone. The dense network is the first trial.
    """

    widths: Mapping[str, int]
    latency_s: float
    macs: int
    parameters: int
    drop_points: float
    drop_at_most_points: float  # upper end of the one-sided 95 % interval
    accepted: bool
    estimated: bool = False  # the time: for the device, and not measured where the network was pruned


def save_trials(trials: Sequence[Trial], folder: Path) -> None:
    """Write trials into a folder of measurements; no file where there are none."""
    if trials:
        text = json.dumps([asdict(trial) for trial in trials], indent=1, sort_keys=True)
        (folder / FILE).write_text(text + "\n")


def load_trials(folder: Path) -> list[Trial]:
    """Return the trials in a folder of measurements; none where the file is missing."""
    file = folder / FILE
    return [Trial(**one) for one in json.loads(file.read_text())] if file.is_file() else []


def pareto(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials than which no other is both as fast and as accurate, the slowest first."""
    ordered = sorted(trials, key=lambda one: (one.latency_s, one.drop_points))
    found: list[Trial] = []
    for one in ordered:
        if not found or one.drop_points < found[-1].drop_points:
            found.append(one)
    return found[::-1]
