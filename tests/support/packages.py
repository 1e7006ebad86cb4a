"""Skips tests of a library that is optional; found, not imported: only edgeslim's way in works on any torch."""

import importlib.util

import pytest


def needs(package: str, extra: str) -> pytest.MarkDecorator:
    """Return the mark of a test that is skipped where a package is not installed."""
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} is not installed; pip install 'edgeslim[{extra}]'",
    )
