"""Where an agent runs: one module a target, each with `open_target()`, used with `with`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol


class Target(Protocol):
    """A device that takes files, runs programs and gives files back."""

    def push(self, file: Path) -> str:
        """Bring `file` to the device and return its path there; files pushed lie side by side."""

    def run(self, argv: Sequence[str], timeout_s: float) -> Iterator[str]:
        """Run a program and yield its stdout line by line as it comes; DeviceFailed when it fails or takes too long."""

    def pull(self, remote: str, to: Path) -> None:
        """Copy the device's file `remote` to `to`, whole or not at all."""
