"""The bundled default, built as a user would, on the emulated cores of two boards, and on an emulated machine."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeslim.artifact.archive import MEASUREMENTS, pack
from edgeslim.artifact.manifest import MANIFEST, SUMS, read_manifest
from edgeslim.devices.profile import load_profile
from edgeslim.emulation.core import Emulator, open_emulator
from edgeslim.measure.entries import Entry, entries_of
from tests.support.builds import Built, edgeslim
from tests.support.emulated_core import skip_without_emulator
from tests.support.emulated_machine import MIB, require_emulator

INFERENCES = ["--warmup", "1", "--iterations", "1"]


@pytest.fixture(scope="module", params=["raspberry-pi-4", "raspberry-pi-5"])
def board(request):
    """An emulated board."""
    skip_without_emulator()
    with open_emulator(load_profile(request.param)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def folders(built: Built, tmp_path_factory):
    """The default built for either board; for the second one in the format that its profile prefers, unpruned."""
    skip_without_emulator()
    folder = tmp_path_factory.mktemp("pi_5") / "artifact"
    done = edgeslim(
        "build", "--device", "raspberry-pi-5", "--no-prune", "--format", "tflite", "--out", str(folder), "--quiet"
    )
    assert done.returncode == 0, done.stderr
    _, _, estimates = " ".join(done.stdout.split()).partition("on a Raspberry Pi 5, 1 thread: ")
    assert "tflite int8 " in estimates.partition(" data: ")[0], done.stdout
    return [built.folder, folder]


def int8_entries(folders: list[Path]) -> list[Entry]:
    entries = [one for folder in folders for one in entries_of(folder, read_manifest(folder))]
    return [one for one in entries if one.model.precision == "int8" and one.model.runtime in ("onnxruntime", "litert")]


def inputs(entry: Entry) -> list[str]:
    return ["--inputs", str(entry.folder / entry.model.inputs[0].golden_inputs)]


def test_int8_answers_are_those_of_this_machine_bit_by_bit(folders: list[Path], board: Emulator) -> None:
    for entry in int8_entries(folders):
        made = board.work_path("outputs.npy")
        board.run(entry.candidate, [*inputs(entry), "--outputs", str(made)])
        assert np.array_equal(np.load(made), np.load(entry.folder / entry.model.outputs[0].golden)), (
            entry.candidate.label
        )


def test_int8_runs_on_dot_products_where_the_core_has_them(folders: list[Path], board: Emulator) -> None:
    for entry in int8_entries(folders):
        _, counted = board.count(entry.candidate, [*inputs(entry), *INFERENCES])
        counts = counted[-1].counts
        uses = {name for name in ("sdot_udot", "smlal_smull") if counts[name] > 0.1 * counts["insns"]}
        assert uses == {"sdot_udot" if board.profile.name == "raspberry-pi-5" else "smlal_smull"}, entry.candidate.label


def test_the_command_line_benches_it_without_the_board(built: Built) -> None:
    skip_without_emulator()
    done = edgeslim("bench", str(built.folder), "--on", "emulator", "--json", "--quiet", "--fail-on", "none")
    assert done.returncode == 0, done.stderr
    found = {one["label"]: one for one in json.loads(done.stdout)["files"]}
    assert {"onnx int8", "onnx fp32", "tflite int8", "tflite fp32", "openvino fp32"} <= set(found)
    assert found["tflite fp32"]["estimate"]["low_s"] < found["tflite fp32"]["estimate"]["high_s"]
    assert found["tflite int8"]["counts"]["insns"] < found["tflite fp32"]["counts"]["insns"]
    assert all(one["kind"] == "simulated" for one in found.values())


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
