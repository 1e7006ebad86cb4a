"""The small artifact that all of these tests look at."""

from pathlib import Path

import pytest

from edgeslim.artifact.archive import Artifact, pack
from edgeslim.artifact.manifest import Manifest


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """Its files before they are packed, and their manifest."""
    for package in ("onnx", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install 'edgeslim[all]'")
    from tests.support.small_artifact import stage

    staging = tmp_path_factory.mktemp("staged") / "staging"
    return staging, stage(staging)


@pytest.fixture(scope="module")
def packed(staged: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """It packed once, for all tests that only read it, or put back what they change."""
    return pack(*staged, tmp_path_factory.mktemp("packed") / "tiny")
