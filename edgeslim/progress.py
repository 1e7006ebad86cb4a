"""How long work is told: which stage it is in, and how much of what is done there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    """Where long work is: in stage `number` of `stages`, and there at `doing`, with `done` of `total` of it.

    `stages` is 0 where nobody knows how many there are, `total` where what is being done has no parts.
    """

    stage: str
    number: int = 1
    stages: int = 0
    doing: str = ""
    done: int = 0
    total: int = 0


ProgressCallback = Callable[[Progress], object]


class Tell(Protocol):
    """What work inside a stage is given to say how far it is."""

    def __call__(self, doing: str, done: int = 0, total: int = 0, /) -> None:
        """Say what is being done, and `done` of `total` of it."""


def silent(*_: object) -> None:
    """Take progress and show nothing."""


class StagedProgress:
    """The stages of long work as they begin, each told to `show`; called, it tells what is done in the present one."""

    def __init__(self, show: ProgressCallback, count: int = 0) -> None:
        self._show, self._stages = show, count
        self._now = Progress("", 0)

    def begin(self, stage: str) -> None:
        """Enter the next stage."""
        self._now = Progress(stage, self._now.number + 1, self._stages)
        self._show(self._now)

    def more(self, count: int) -> None:
        """Say that `count` more stages turned out to be needed."""
        self._stages += count

    def __call__(self, doing: str, done: int = 0, total: int = 0) -> None:
        """Tell what is being done in the present stage."""
        self._show(replace(self._now, doing=doing, done=done, total=total))
