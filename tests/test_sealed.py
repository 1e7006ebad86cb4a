"""What is kept to be run is what was made: anything else is made anew, and told."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeslim.errors import Recomputed, ToolFailed
from edgeslim.sealed import SEAL, is_made, sealed_folder


class Maker:
    """Fills a folder and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        """Write two files."""
        self.calls += 1
        (folder / "program").write_text("as made")
        (folder / "library").write_text("of it")


def test_it_is_made_once_with_a_seal_and_for_this_user_alone(tmp_path: Path) -> None:
    make = Maker()
    assert not is_made(tmp_path, "programs", "one")
    folder = sealed_folder(tmp_path, "programs", "one", make)
    assert sealed_folder(tmp_path, "programs", "one", make) == folder
    assert make.calls == 1
    assert is_made(tmp_path, "programs", "one")
    assert sorted(file.name for file in folder.iterdir()) == ["library", "program", SEAL]
    assert [one.name for one in folder.parent.iterdir()] == ["one"], "something was left beside it"
    assert oct(folder.stat().st_mode)[-3:] == "700"


def changed(folder: Path) -> None:
    """Change a program."""
    (folder / "program").write_text("another")


def lacking(folder: Path) -> None:
    """Take a file away."""
    (folder / "library").unlink()


def beside(folder: Path) -> None:
    """Lay a file beside, which a program could load."""
    (folder / "libc.so").write_text("trap")


def linked(folder: Path) -> None:
    """Put a link to the same bytes in a file's place."""
    other = folder.parent / "elsewhere"
    shutil.move(folder / "program", other)
    (folder / "program").symlink_to(other)


def unsealed(folder: Path) -> None:
    """Take the seal away."""
    (folder / SEAL).unlink()


def nonsense(folder: Path) -> None:
    """Write no hashes into the seal."""
    (folder / SEAL).write_text("{")


def elsewhere(folder: Path) -> None:
    """Put a link in the folder's place."""
    folder.rename(folder.parent.parent / "kept")
    folder.symlink_to(folder.parent.parent / "kept")


def a_file(folder: Path) -> None:
    """Put a file in the folder's place."""
    shutil.rmtree(folder)
    folder.write_text("no folder")


@pytest.mark.parametrize("damage", [changed, lacking, beside, linked, unsealed, nonsense, elsewhere, a_file])
def test_what_is_not_as_made_is_made_anew_and_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    make = Maker()
    folder = sealed_folder(tmp_path, "programs", "one", make)
    damage(folder)
    with pytest.warns(Recomputed, match="one does not hold what was made there; it is made anew"):
        sealed_folder(tmp_path, "programs", "one", make)
    assert make.calls == 2
    assert (folder / "program").read_text() == "as made"
    assert not folder.is_symlink()
    assert not (folder / "libc.so").exists()


def test_one_that_was_made_by_another_at_the_same_time_is_taken(tmp_path: Path) -> None:
    def slow(folder: Path) -> None:
        make(folder)
        sealed_folder(tmp_path, "programs", "one", make)

    make = Maker()
    folder = sealed_folder(tmp_path, "programs", "one", slow)
    assert (folder / "program").read_text() == "as made"
    assert [one.name for one in folder.parent.iterdir()] == ["one"]


def test_nothing_is_left_of_one_that_cannot_be_made(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "program").write_text("half")
        raise ToolFailed("no compiler")

    with pytest.raises(ToolFailed, match="no compiler"):
        sealed_folder(tmp_path, "programs", "one", fail)
    assert not list((tmp_path / "programs").iterdir())


def test_a_store_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolFailed, match=f"cannot keep programs in {tmp_path}/file/programs: .*EDGESLIM_CACHE"):
        sealed_folder(tmp_path / "file", "programs", "one", Maker())


def test_a_store_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "open"
    store.mkdir()
    os.chmod(store, 0o777)  # noqa: PTH101 - what is tested
    with pytest.raises(ToolFailed, match="others may write to it"):
        sealed_folder(store, "programs", "one", Maker())
