"""Skips tests whose runtime is not installed."""

from importlib.util import find_spec

import pytest

from edgeslim.deploy.installed import runtime_available
from edgeslim.devices.machine import this_machine
from edgeslim.formats import FORMATS


def skip_without(runtime: str) -> None:
    """Skip the running test or fixture where a runtime cannot be imported, and say what installs it."""
    if runtime_available(runtime) is None:
        extra = next(one.extra for one in FORMATS.values() if one.runtime == runtime)
        pytest.skip(f"{runtime} is not installed; pip install 'edgeslim[{extra}]'")


def skip_without_torchvision() -> None:
    """Skip the running test where torchvision is not installed, and say what installs it."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed; pip install 'edgeslim[torchvision]'")


def skip_where_openvino_saturates() -> None:
    """Skip a test that holds OpenVINO's integer sums against exact ones, on a machine where they are not."""
    if this_machine().sums_saturate:
        pytest.skip("hardware: needs a CPU with VNNI: without it OpenVINO's sums of uint8 x int8 products saturate")
