"""The summary of a finished artifact: from its folder, from its archive, and with what to type next."""

import json
import shlex
from pathlib import Path

import pytest

import edgeslim
from edgeslim.artifact.archive import MEASUREMENTS, archive_path
from edgeslim.artifact.manifest import Compatible
from edgeslim.pipeline.documents.times import FILE, DeviceTimes, Times, save_times
from edgeslim.report.summary import shown_data, shown_table
from tests.support import TESTS
from tests.support.made_measurements import measured
from tests.support.packed_artifact import pack_small

TIMES = Times((measured([0.001] * 9, "onnx int8"),), DeviceTimes((), ("no times there",)), here=False, warnings=("w",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact in a folder whose name a shell would take apart, with times beside it."""
    (tmp_path / "a place").mkdir()
    packed = pack_small(tmp_path / "a place", warnings=("kept",))
    (packed / MEASUREMENTS).mkdir()
    save_times(TIMES, packed / MEASUREMENTS)
    return packed


def built_for(device: str) -> Compatible:
    return Compatible(device=device, architecture="aarch64", soc=None, profile_sha256="0" * 64)


@pytest.mark.parametrize(
    ("device", "status", "commands"),
    [
        ("raspberry-pi-4", "accepted", ["bench {folder} --on ssh://USER@BOARD", "verify {archive}"]),
        (
            "raspberry-pi-4",
            "rejected",
            ["inspect {folder}", "bench {folder} --on ssh://USER@BOARD", "verify {archive}"],
        ),
        ("x86-64-host", "accepted", ["bench {folder}", "verify {archive}"]),
        ("arm-corstone-300", "accepted", ["verify {archive}"]),
        ("my-own-board", "accepted", ["bench {folder} --on ssh://USER@BOARD", "verify {archive}"]),
    ],
)
def test_what_to_type_next_stands_at_the_end(tmp_path: Path, device: str, status: str, commands: list[str]) -> None:
    reasons = ("it errs",) if status == "rejected" else ()
    folder = pack_small(tmp_path, compatible=built_for(device), status=status, reasons=reasons)
    notes = shown_table(edgeslim.show(folder)).notes
    places = {"folder": shlex.quote(str(folder)), "archive": shlex.quote(f"{folder}.tar.gz")}
    wanted = [f"edgeslim {one.format(**places)}" for one in commands]
    assert [note.removeprefix("next: ").strip() for note in notes[-len(commands) :]] == wanted
    assert notes[-len(commands)].startswith("next: ")


def test_a_board_of_ones_own_that_built_it_is_benched_where_it_is(tmp_path: Path) -> None:
    folder = pack_small(tmp_path, compatible=built_for("my-own-board"))
    (folder / MEASUREMENTS).mkdir()
    save_times(Times((), DeviceTimes(), here=True), folder / MEASUREMENTS)
    assert f"next: edgeslim bench {folder}" in shown_table(edgeslim.show(folder)).notes


def test_a_folder_has_its_times_and_where_it_lies(folder: Path) -> None:
    table = shown_table(edgeslim.show(folder))
    assert "median latency*" in table.columns
    assert {f"artifact: {folder}", f"archive:  {archive_path(folder)}", "no times there"} <= set(table.notes)
    assert f"next: edgeslim bench '{folder}' --on ssh://USER@BOARD" in table.notes
    data = shown_data(edgeslim.show(str(folder)))
    assert [one["label"] for one in data["measurements"]] == ["onnx int8"]
    assert (data["folder"], data["warnings"], data["not_on_the_device"]) == (
        str(folder), ["kept", "w"], ["no times there"],
    )  # fmt: skip


def test_an_archive_has_the_same_without_its_times_and_says_that_they_are_not_known(folder: Path) -> None:
    archive = archive_path(folder)
    whole, packed = shown_data(edgeslim.show(folder)), shown_data(edgeslim.show(archive))
    unknown = {"folder", "measurements", "on_the_device", "not_on_the_device"}
    assert {name for name, value in packed.items() if value is None} - {"costs", "data_read", "changed"} == unknown
    assert packed["warnings"] == ["kept"]
    rest = set(whole) - unknown - {"warnings"}
    assert {name: packed[name] for name in rest} == {name: whole[name] for name in rest}
    notes = shown_table(edgeslim.show(archive)).notes
    assert notes[0].startswith("no times: they differ in every run, so no archive holds them")
    assert f"archive: {archive}" in notes
    assert f"      edgeslim verify '{archive}'" in notes


def test_a_file_that_was_changed_since_is_named(folder: Path) -> None:
    assert edgeslim.show(folder).changed is None
    (folder / "models" / "tiny_int8.onnx").write_bytes(b"another")
    assert "`models/tiny_int8.onnx` was changed" in str(edgeslim.show(folder).changed)


def test_times_that_cannot_be_read_hide_nothing_else(folder: Path) -> None:
    (folder / MEASUREMENTS / FILE).write_text("{}")
    shown = edgeslim.show(folder)
    assert shown.times is None
    assert shown_table(shown).notes[0].startswith(f"no times: {folder / MEASUREMENTS / FILE}: ")


def test_an_artifact_of_the_first_format_is_shown() -> None:
    shown = edgeslim.show(TESTS / "golden" / "artifact-format-1.tar.gz")
    table = shown_table(shown)
    assert table.title.endswith(f": {shown.manifest.status}")
    assert len(table.rows) == len(shown.manifest.models) == 6
    assert json.dumps(shown_data(shown))
