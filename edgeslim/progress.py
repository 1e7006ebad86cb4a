"""How long work is told: a function that takes what is being done and the share done, from 0 to 1."""

from collections.abc import Callable

Progress = Callable[[str, float], None]


def silent(what: str, share: float) -> None:
    """Take progress and show nothing."""
