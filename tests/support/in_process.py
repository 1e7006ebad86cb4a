"""The command line called in the process of a test."""

import signal
import sys

import pytest

from edgeslim.cli import main as cli

PI = ("--device", "raspberry-pi")


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Call the command line in this process; return exit code, stdout and stderr with line breaks undone."""
    monkeypatch.setattr(sys, "argv", ["edgeslim", *arguments])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    streams = capsys.readouterr()
    return int(ended.value.code or 0), streams.out, " ".join(streams.err.split())
