"""`python -m edgeslim` is the command line."""

from edgeslim.cli import main

main()
