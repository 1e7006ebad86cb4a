"""`show` as typed: the same words as the build's, the same data as JSON, and a warning where a file was changed."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import call
from tests.support.packed_artifact import pack_small


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_small(tmp_path_factory.mktemp("small"), warnings=("a layer stays float",))


def test_an_artifact_is_shown_from_what_lies_in_it(packed: Path, monkeypatch, capsys) -> None:
    code, out, err = call(monkeypatch, capsys, "show", packed)
    assert (code, err) == (0, "")
    assert "tiny-raspberry-pi-4 0.1.0: accepted" in out
    assert "90.00 % (88 to 92)" in out
    assert "warning: a layer stays float" in out


def test_it_is_shown_as_json_too(packed: Path, monkeypatch, capsys) -> None:
    code, out, _ = call(monkeypatch, capsys, "show", f"{packed}.tar.gz", "--json")
    found = json.loads(out)
    assert (code, found["status"], found["warnings"]) == (0, "accepted", ["a layer stays float"])
    assert found["models"][0]["quality"]["ci95"] == [88.0, 92.0]
    assert found["measurements"] is None, "an archive knows no times"


def test_a_changed_file_is_a_warning(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = pack_small(tmp_path)
    (folder / "CHANGELOG.md").write_text("another\n")
    code, out, err = call(monkeypatch, capsys, "show", folder)
    assert (code, "accepted" in out) == (0, True)
    assert "warning:" in err
    assert "`CHANGELOG.md` was changed" in err
