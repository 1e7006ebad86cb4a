"""A build's summary ends with what to type next, with the real path."""

import shlex
from pathlib import Path

import pytest

from edgeslim.artifact.manifest import read_manifest
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
