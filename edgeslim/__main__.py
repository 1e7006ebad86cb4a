"""`python -m edgeslim` is the command line."""

from edgeslim.cli.main import run

run()
