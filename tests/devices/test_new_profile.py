"""A new profile is valid before anything is filled in, and a build for it can be asked for at once."""

import pytest

from edgeslim.devices.new_profile import write_new_profile
from edgeslim.devices.profile import PROFILE_SCHEMA, describe, load_profile
from edgeslim.errors import BadInput
from tests.support.command_line import call


def test_it_is_valid_knows_nothing_and_can_be_checked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(monkeypatch, capsys, "devices", "--new", "my-board")
    assert (code, out) == (0, "my-board.yaml: fill in what you know, then edgeslim devices --validate my-board.yaml\n")
    first = (tmp_path / "my-board.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={PROFILE_SCHEMA.as_uri()}", "editors find no schema"
    profile = load_profile("my-board.yaml")
    assert (profile.name, profile.title) == ("my-board", "my-board")
    numbers = [fact for fact in describe(profile) if fact.value == "not measured"]
    assert len(numbers) > 10
    assert "NAME" not in (tmp_path / "my-board.yaml").read_text()
    assert call(monkeypatch, capsys, "devices", "--validate", "my-board.yaml")[0] == 0
    code, out, err = call(monkeypatch, capsys, "check", "--device", "my-board.yaml")
    assert (code, out.splitlines()[0]) == (0, "the bundled default can be built for my-board.yaml"), err


@pytest.mark.parametrize("name", ["123", "null", "true", "on"])
def test_a_name_that_yaml_takes_for_something_else_is_a_name(name, tmp_path):
    assert load_profile(write_new_profile(name, tmp_path)).name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My Board", "expected small letters and digits"),
        ("../board", "expected small letters and digits"),
        ("raspberry-pi-4", "that device is known; a file with `base: raspberry-pi-4`"),
        ("there", "exists; choose another name"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(name, words, tmp_path):
    (tmp_path / "there.yaml").write_text("mine")
    with pytest.raises(BadInput, match=words):
        write_new_profile(name, tmp_path)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("there.yaml", "mine")]
