"""What a task is told of a network, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeslim.tasks.preprocessing import Preprocessing


@dataclass(frozen=True)
class Output:
    """One output of a network: the name that all of its files give it, and its shape for one image (1, ...)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelFacts:
    """What a task may know of a network; `labels` name what it tells apart, None where nobody said."""

    source: str
    preprocessing: Preprocessing
    outputs: tuple[Output, ...]
    labels: tuple[str, ...] | None = None
    bundled: bool = False  # the network that edgeslim ships, whose images it ships too
    random_weights: bool = False


@dataclass(frozen=True)
class Score:
    """How good the outputs of one file are on a set of images, with the 95 % interval of `value`.

    `kind`: "accuracy", counted against targets, or "agreement", against the float network's own answers. `more`: what
    the task says besides, by name, in the same unit.
    """

    kind: str
    metric: str
    value: float
    unit: str
    interval: tuple[float, float]
    images: int
    more: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: bool = False

    def lost_against(self, other: "Score | None") -> float:
        """Return what is lost against another score; against none, what perfect agreement had."""
        best = 0.0 if self.lower_is_better else 100.0
        before = best if other is None else other.value
        lost = self.value - before if self.lower_is_better else before - self.value
        return round(lost, 9)  # 97.3 - 96.2 is 1.0999999999999943: not that decides whether 1.1 points are allowed

    def amount(self, lost: float) -> str:
        """Return an amount lost in words: "1.25 points of top-1 accuracy"."""
        return f"{points(lost, self.unit)} of {self.metric} {self.kind}"


@dataclass(frozen=True)
class Drop:
    """What one network loses against another on the same images, in points of the score, and what it loses at most."""

    points: float
    at_most: float  # upper end of the one-sided 95 % interval


def points(value: float, unit: str, *, signed: bool = False) -> str:
    """Return a difference of scores: "1.25 points" of percent, else a number with its unit."""
    sign = "+" if signed else ""
    return f"{value:{sign}.2f} points" if unit == "%" else f"{value:{sign}.4g} {unit}"


def with_interval(value: float, unit: str, interval: tuple[float, float]) -> str:
    """Return a score in words with its 95 % interval: "92.50 % (91.9 to 93.1)"."""
    return f"{measured(value, unit)} ({interval[0]:.4g} to {interval[1]:.4g})"


def between(interval: tuple[float, float], unit: str) -> str:
    """Return the interval of a difference of scores: "-1.51 to -0.21 points"."""
    low, high = (points(bound, unit, signed=True) for bound in interval)
    return f"{low.partition(' ')[0]} to {high}"


def measured(value: float, unit: str) -> str:
    """Return a score in words: "92.50 %"."""
    return f"{value:.2f} %" if unit == "%" else f"{value:.4g} {unit}"
