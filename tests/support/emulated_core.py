"""Skips tests that need QEMU's user emulation where it is not installed."""

import pytest

from edgeslim.emulation.core import require_tools
from edgeslim.errors import ToolFailed


def skip_without_emulator():
    """Skip the running test or fixture where cores cannot be emulated, and say what is missing."""
    try:
        require_tools()
    except ToolFailed as error:
        pytest.skip(str(error))
