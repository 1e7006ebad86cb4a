"""What is kept between builds is listed by kind, and cleared by kind and age, and nothing else goes."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeslim import cache
from edgeslim.cache import remember
from edgeslim.cli.progress import STAGES
from edgeslim.errors import BadInput
from edgeslim.kept import KINDS, clear, kept
from edgeslim.pipeline.preflight.past_builds import FOLDER
from edgeslim.resources import in_package
from edgeslim.units import show_bytes

DAY_S = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two kinds: 30 bytes that are fresh, and 5 beside 7 of which those were used ten days ago."""
    for kind, files in {"curve": {"a": 10, "b": 20}, "images": {"old": 5, "new": 7}}.items():
        for name, size in files.items():
            file = tmp_path / "store" / kind / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(size))
    before = time.time() - 10 * DAY_S
    os.utime(tmp_path / "store/images/old", (before, before))
    return tmp_path / "store"


def command(store: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edgeslim", "cache", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "EDGESLIM_CACHE": str(store)},
    )


def sizes(store: Path) -> dict[str, tuple[int, int]]:
    return {one.kind: (one.files, one.size_bytes) for one in kept(store)}


def test_it_is_listed_by_kind_with_words(store: Path) -> None:
    assert sizes(store) == {"curve": (2, 30), "images": (2, 12)}
    assert [one.what for one in kept(store)] == [KINDS["curve"], KINDS["images"]]
    assert all(one.age_s < DAY_S for one in kept(store))
    assert kept(store / "nowhere") == ()


def test_all_of_it_one_kind_or_what_was_long_unused_is_removed(store: Path) -> None:
    assert clear(store, older_than_s=5 * DAY_S) == 5
    assert sizes(store) == {"curve": (2, 30), "images": (1, 7)}
    assert clear(store, ["curve"]) == 30
    assert sizes(store) == {"images": (1, 7)}
    assert clear(store) == 7
    assert list(store.iterdir()) == []


@pytest.fixture
def of_two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one curve of this version, one of the next, and one whose name tells no version."""
    store = tmp_path / "store"
    remember(store, "curve", "network", lambda: "ours")
    (ours,) = (store / "curve").iterdir()
    (store / "curve" / f"{'0' * 64}.pt").write_bytes(bytes(100))
    with monkeypatch.context() as other:
        other.setattr(cache, "VERSION", cache.VERSION + 1)
        assert remember(store, "curve", "network", lambda: "theirs") == "theirs", "this version's result was read"
    assert len([one for one in (store / "curve").iterdir() if one != ours]) == 2
    return store


def test_results_of_another_version_are_left_alone_and_not_read(of_two_versions: Path) -> None:
    before = {file: file.read_bytes() for file in of_two_versions.rglob("*.pt")}
    assert remember(of_two_versions, "curve", "network", lambda: "made anew") == "ours"
    assert {file: file.read_bytes() for file in of_two_versions.rglob("*.pt")} == before


def test_results_of_another_version_are_listed_as_such_and_cleared_alone(of_two_versions: Path) -> None:
    (one,) = kept(of_two_versions)
    assert (one.files, one.other_versions_bytes > 100) == (3, True)
    listed = command(of_two_versions).stdout
    (row,) = [line for line in listed.splitlines() if "curve" in line]
    assert "of another version" in listed
    assert f" {show_bytes(one.other_versions_bytes)} " in row, listed
    assert clear(of_two_versions, other_versions=True) == one.other_versions_bytes
    assert [(left.files, left.other_versions_bytes) for left in kept(of_two_versions)] == [(1, 0)]
    assert remember(of_two_versions, "curve", "network", lambda: "made anew") == "ours", "ours went too"


def test_what_no_build_has_put_there_is_neither_listed_nor_removed(store: Path) -> None:
    (store / "photos").mkdir()
    (store / "photos" / "one.jpg").write_text("x")
    (store / "notes.txt").write_text("x")
    assert set(sizes(store)) == {"curve", "images"}
    clear(store)
    assert sorted(one.name for one in store.rglob("*")) == ["notes.txt", "one.jpg", "photos"]
    with pytest.raises(BadInput, match="nothing of the kind `photos` is kept"):
        clear(store, ["photos"])


def test_what_is_of_use_only_whole_goes_or_stays_whole(store: Path) -> None:
    machine = store / "machines" / "debian"
    machine.mkdir(parents=True)
    for name, days in (("kernel", 30), ("disk", 1)):
        (machine / name).write_bytes(bytes(8))
        os.utime(machine / name, (time.time() - days * DAY_S,) * 2)
    assert clear(store, ["machines"], 5 * DAY_S) == 0
    assert sizes(store)["machines"] == (2, 16)
    assert clear(store, ["machines"], 0.5 * DAY_S) == 16
    assert not machine.exists()


def test_what_a_link_names_stays(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo").write_text("x")
    (store / "curve" / "link").symlink_to(tmp_path / "mine")
    (store / "linked").symlink_to(tmp_path / "mine")
    clear(store)
    assert (tmp_path / "mine" / "photo").is_file()


def test_a_kind_that_is_not_there_is_told_with_what_was_meant(store: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing of the kind `curves` is kept in .*; did you mean `curve`"):
        clear(store, ["images", "curves"])
    assert sizes(store) == {"curve": (2, 30), "images": (2, 12)}, "something went though the words were wrong"


def test_every_kind_that_is_kept_is_described() -> None:
    code = "\n".join(file.read_text() for file in in_package().rglob("*.py"))
    names = re.findall(r'remember\(\s*[\w.]*store\w*,\s*"(\w+)"', code)
    names += re.findall(r'(?:store|default_store\(\))\s*/\s*"(\w+)"', code)
    assert len(set(names)) > 5, "the pattern finds no longer what is kept"
    assert {*names, STAGES, FOLDER} <= set(KINDS)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--json"], 0, '"kind": "curve"'),
        ([], 0, "42 B in"),
        (["--clear", "--kind", "images"], 0, "12 B removed from"),
        (["--kind", "images"], 2, "--kind, --older-than and --other-versions say what --clear"),
        (["--clear", "--older-than", "-1"], 2, "-1"),
        (["--other-versions"], 2, "--kind, --older-than and --other-versions say what --clear"),
        (["--clear", "--other-versions"], 0, "0 B removed from"),
    ],
)
def test_the_command_says_and_does_it(store: Path, words: list[str], code: int, told: str) -> None:
    done = command(store, *words)
    assert done.returncode == code, done.stderr
    assert told in done.stdout + done.stderr
    if "--json" in words:
        assert json.loads(done.stdout)["folder"] == str(store)
