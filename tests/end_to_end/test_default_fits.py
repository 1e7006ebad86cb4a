"""The bundled default fits into a Raspberry Pi with 512 MiB, by a real Linux on an emulated one."""

import json
import shutil

import pytest
from conftest import Built, edgeslim
from emulated_machine import MIB, require_emulator

from edgeslim.artifact import MEASUREMENTS, pack
from edgeslim.manifest import MANIFEST, SUMS, read_manifest


@pytest.fixture(scope="module")
def tflite(built: Built, tmp_path_factory):
    """The artifact with its TFLite files alone: their runtime is the smallest to bring."""
    folder = tmp_path_factory.mktemp("tflite")
    shutil.copytree(built.folder, folder / "staged", ignore=shutil.ignore_patterns(MANIFEST, SUMS, MEASUREMENTS))
    manifest = read_manifest(built.folder)
    models = tuple(one for one in manifest.models if one.format == "tflite")
    changed = manifest.model_copy(update={"models": models, "primary": models[-1].path})
    return pack(folder / "staged", changed, folder / "packed").folder


def test_the_default_fits_and_answers_right_and_int8_takes_less(tflite):
    require_emulator()
    done = edgeslim("bench", str(tflite), "--on", "emulator:raspberry-pi-5", "--ram", "512MiB", "--json")
    assert done.returncode == 0, done.stderr
    found = {one["precision_requested"]: one for one in json.loads(done.stdout)["files"]}
    assert set(found) == {"fp32", "int8"}
    for one in found.values():
        assert (one["fits"], one["seen"], one["golden_samples"]) == (True, [], 8), one
        assert one["core"] == "Cortex-A76", "it ran on another device's core"
    assert found["int8"]["peak_rss_bytes"] < found["fp32"]["peak_rss_bytes"] < 32 * MIB
