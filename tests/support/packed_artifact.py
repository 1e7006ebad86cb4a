"""The artifact of `small_artifact`, packed; needs every runtime."""

import pytest

from edgeslim.artifact.archive import pack
from edgeslim.formats import RUNTIMES
from tests.support.installed import skip_without


def pack_small(folder, **changes):
    """Pack it into `folder` with some of its manifest's keys changed, and return the artifact's folder."""
    pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
    for runtime in RUNTIMES:
        skip_without(runtime)
    from tests.support.small_artifact import stage

    manifest = stage(folder / "staged")
    return pack(folder / "staged", manifest.model_copy(update=changes), folder / "packed").folder
