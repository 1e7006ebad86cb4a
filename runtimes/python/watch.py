"""The agent's other trade: read small files in a steady rhythm, and say what they held."""

from __future__ import annotations

import os
import subprocess
from time import monotonic, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from messages import Channel

COMMAND_LIMIT_S = 5.0
LARGEST_VALUE_BYTES = 64 * 1024


def watch(options: argparse.Namespace, channel: Channel) -> None:
    """Send a `sample` every period until the time is over or nobody listens any more."""
    began_s = monotonic()
    try:
        channel.hello("none")
        beat = 0
        while beat * options.period_s < options.max_duration_s:
            at_s, unix_s = monotonic(), time()
            channel.emit("sample", at_s=at_s, unix_s=unix_s, values=_values(options.sample, options.sample_command))
            # Beats that a slow file or command made impossible are left out, so that the rhythm stays.
            beat = max(beat + 1, int((monotonic() - began_s) / options.period_s))
            next_s = began_s + min(beat * options.period_s, options.max_duration_s)
            if not channel.wait_while_heard(next_s - monotonic()):
                return
        channel.emit("done")
    except BrokenPipeError:
        return


def _values(files: list[Path], command: list[str] | None) -> list[str | None]:
    values = [_held(file) for file in files]
    return values if command is None else [*values, _said(command)]


def _held(file: Path) -> str | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to would be waited for
        with os.fdopen(descriptor, "rb") as opened:
            content = opened.read(LARGEST_VALUE_BYTES)
    except OSError:
        return None
    return _text(content)


def _said(command: list[str]) -> str | None:
    """Return what a program prints; None where it cannot be run, fails or hangs."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=COMMAND_LIMIT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _text(done.stdout)


def _text(content: bytes) -> str | None:
    if len(content) >= LARGEST_VALUE_BYTES:
        return None
    text = content.decode("utf-8", errors="replace")
    return text[:-1] if text.endswith("\n") else text
