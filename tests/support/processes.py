"""Processes that tests watch."""

from pathlib import Path


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended may wait to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
