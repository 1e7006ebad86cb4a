"""Where an agent runs: one module a target, each with `open_target(address)`, used with `with`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol


class Target(Protocol):
    """A device that takes files, runs programs, and gives files back.

    Every call raises DeviceFailed, whose `status` says what happened.
    """

    address: str  # as the user typed it: "local", "ssh://pi@board:22"

    def push(self, *files: Path, keep: bool = False) -> str:
        """Bring files to the device, side by side, and return the first one's path there.

        Free space is checked before, and a file has its name only when it is whole. `keep`: leave them on the device
        for the next session, which then sends only what differs; others go when the target is closed.
        """

    def run(self, argv: Sequence[str], timeout_s: float) -> Iterator[str]:
        """Run a program and yield its stdout line by line as it comes; DeviceFailed when it fails or takes too long."""

    def pull(self, remote: str, to: Path) -> None:
        """Copy the device's file `remote` to `to`, whole or not at all."""

    def look(self, patterns: Sequence[str]) -> dict[str, str]:
        """Return path -> text of every small file of the device that a shell pattern (`/sys/class/*/type`) matches."""

    def work_path(self, name: str) -> str:
        """Return where a program may write a file of this name on the device; it goes when the target is closed."""

    def reconnect(self, timeout_s: float) -> None:
        """Wait until a device that was lost answers again; DeviceFailed ("unreachable") if it does not."""
