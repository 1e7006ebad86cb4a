"""The command line called in this process, for tests of what it prints and how it ends."""

import signal
import sys

import pytest

from edgeslim.cli import main as cli

# A shell's background job ignores interrupts, and so would what a test starts in one.
HEEDING_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgeslim.cli.main import main
main()
"""


def call(monkeypatch, capsys, *arguments):
    """Return exit code, stdout, and stderr with its line breaks undone."""
    monkeypatch.setattr(sys, "argv", ["edgeslim", *map(str, arguments)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    streams = capsys.readouterr()
    return int(ended.value.code or 0), streams.out, " ".join(streams.err.split())
