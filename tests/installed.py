"""Skips tests whose runtime is not installed."""

import pytest

from edgeslim.formats import FORMATS
from edgeslim.installed import runtime_available


def skip_without(runtime: str) -> None:
    """Skip the running test or fixture where a runtime cannot be imported, and say what installs it."""
    if runtime_available(runtime) is None:
        extra = next(one.extra for one in FORMATS.values() if one.runtime == runtime)
        pytest.skip(f"{runtime} is not installed; pip install 'edgeslim[{extra}]'")
