"""A build's summary counts all layers, and ends with what to type next, with the real path."""

import shlex
from pathlib import Path

import pytest

from edgeslim.artifact.manifest import IntegerLayers, Manifest, OtherLayer, read_manifest
from edgeslim.devices.profile import load_profile
from edgeslim.pipeline.latency import DeviceTimes
from edgeslim.report.summary import build_summary
from tests.support.packed_artifact import pack_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_small(tmp_path_factory.mktemp("a place"))


@pytest.mark.parametrize(
    ("device", "status", "commands"),
    [
        ("raspberry-pi", "accepted", ["bench {folder} --on ssh://USER@BOARD", "verify {archive}"]),
        ("raspberry-pi", "rejected", ["inspect {folder}", "bench {folder} --on ssh://USER@BOARD", "verify {archive}"]),
        ("x86-64-host", "accepted", ["bench {folder}", "verify {archive}"]),
        ("arm-corstone-300", "accepted", ["verify {archive}"]),
    ],
)
def test_what_to_type_next_stands_at_the_end(folder: Path, device: str, status: str, commands: list[str]) -> None:
    manifest = read_manifest(folder).model_copy(update={"status": status})
    notes = build_summary(folder, manifest, load_profile(device), (), (), DeviceTimes()).notes
    places = {"folder": shlex.quote(str(folder)), "archive": shlex.quote(f"{folder}.tar.gz")}
    wanted = [f"edgeslim {one.format(**places)}" for one in commands]
    assert [note.removeprefix("next: ").strip() for note in notes[-len(commands) :]] == wanted
    assert notes[-len(commands)].startswith("next: ")


def of_int8(folder: Path, layers: IntegerLayers | None) -> tuple[str, list[str]]:
    """Return what a summary says of the layers of an INT8 file: in its row, and below."""
    manifest: Manifest = read_manifest(folder)
    models = [one.model_copy(update={"integer_layers": layers}) for one in manifest.models if one.precision == "int8"]
    changed = manifest.model_copy(update={"models": tuple(models)})
    summary = build_summary(folder, changed, load_profile("raspberry-pi"), (), (), DeviceTimes())
    (row,) = summary.rows
    notes = [note for note in summary.notes if note.startswith("layers that are not int8: ")]
    return row[summary.columns.index("int8 layers")], notes


def test_layers_that_are_not_int8_count_and_are_named_with_what_they_are_and_why(folder: Path) -> None:
    others = (
        OtherLayer(layer="fc", precision="fp32", why="--keep-float"),
        OtherLayer(layer="stem.0", precision="w8", why="for --max-drop"),
        OtherLayer(layer="aux", precision="fp32", why="--keep-float"),
    )
    assert of_int8(folder, IntegerLayers(planned=4, proven=3, proven_on="a machine", others=others)) == (
        "3 of 7",
        [
            "layers that are not int8: fc, aux kept in float (--keep-float); "
            "stem.0 in float with int8 weights (for --max-drop)"
        ],
    )


def test_where_every_layer_is_int8_none_is_named(folder: Path) -> None:
    assert of_int8(folder, IntegerLayers(planned=4, proven=4, proven_on="a machine")) == ("4 of 4", [])


def test_where_no_runtime_was_asked_the_layers_were_not_seen(folder: Path) -> None:
    assert of_int8(folder, None) == ("not seen", [])
