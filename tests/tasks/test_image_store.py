"""Fitted images that are kept: the same pixels, found by content, within a bound, and never believed when damaged."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeslim.tasks import image_store
from edgeslim.tasks.image_store import fitted
from edgeslim.tasks.images import ImageSet
from edgeslim.tasks.preprocessing import Preprocessing, decode, fit, preprocess
from edgeslim.threads import each_in_threads

HOW = Preprocessing(24, 20, 3, 32, (0.5, 0.4, 0.3), (0.25, 0.2, 0.1), "BGR")
BYTES = 32 + 24 * 20 * 3


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "store"))
    return tmp_path / "store" / "images"


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    generator, files = np.random.default_rng(0), []
    for number in range(6):
        files.append(tmp_path / f"{number}.jpg")
        pixels = generator.integers(0, 256, (40 + number, 60, 3), np.uint8)
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    found: list[Path] = []

    def noted(image: Path, how: Preprocessing) -> np.ndarray:
        found.append(image)
        return decode(image, how)

    monkeypatch.setattr(image_store, "decode", noted)
    return found


entries_of = image_store._entries


def kept_in(store: Path) -> list[Path]:
    return [file for file in store.rglob("*") if file.is_file()]


def test_a_set_of_files_gives_what_each_file_preprocessed_is_whatever_was_kept(store, photographs):
    images = ImageSet(photographs, None, HOW)
    wanted = np.stack([preprocess(decode(file, HOW), HOW) for file in photographs])
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(images.inputs())), wanted)
    assert len(kept_in(store)) == len(photographs)


def test_an_image_is_decoded_once_whatever_it_is_called_and_however_it_is_normalized(
    store, photographs, decoded, tmp_path
):
    first = fitted(photographs[0], HOW)
    (tmp_path / "copy.jpg").write_bytes(photographs[0].read_bytes())
    again = fitted(tmp_path / "copy.jpg", replace(HOW, mean=(0.0, 0.0, 0.0), color_order="RGB"))
    assert decoded == photographs[:1]
    assert np.array_equal(first, again)
    other = fitted(photographs[0], replace(HOW, width=20))
    assert len(decoded) == 2, "another size was taken for the same image"
    assert np.array_equal(other, fit(decode(photographs[0], HOW), replace(HOW, width=20)))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(photographs[0])
    assert not fitted(photographs[0], HOW).any(), "a file's old content was taken for its new one"


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1])),
        lambda file: file.write_bytes(b""),
    ],
)
def test_what_is_damaged_is_decoded_anew(damage: Callable[[Path], None], store, photographs, decoded):
    whole = fitted(photographs[0], HOW)
    (kept,) = kept_in(store)
    damage(kept)
    assert np.array_equal(fitted(photographs[0], HOW), whole)
    assert len(decoded) == 2
    assert np.array_equal(fitted(photographs[0], HOW), whole)
    assert len(decoded) == 2, "it was not made anew"


def test_equal_images_that_are_read_at_once_are_kept_once(store, photographs, tmp_path):
    copies = []
    for number in range(40):
        copies.append(tmp_path / f"copy_{number}.jpg")
        copies[-1].write_bytes(photographs[0].read_bytes())
    found = list(each_in_threads(lambda file: fitted(file, HOW), copies))
    assert all(np.array_equal(one, found[0]) for one in found)
    assert [file.stat().st_size for file in kept_in(store)] == [BYTES]


def test_nothing_is_kept_where_the_disk_is_nearly_full(store, photographs, monkeypatch):
    monkeypatch.setattr(image_store, "LEAST_FREE_BYTES", 2**70)
    fitted(photographs[0], HOW)
    assert kept_in(store) == []


def test_another_version_of_what_decodes_decodes_anew(store, photographs, decoded, monkeypatch):
    fitted(photographs[0], HOW)
    monkeypatch.setattr(image_store, "VERSION", image_store.VERSION + 1)
    fitted(photographs[0], HOW)
    assert len(decoded) == 2


def test_a_link_in_the_store_is_not_followed(store, photographs, decoded, tmp_path):
    fitted(photographs[0], HOW)
    (kept,) = kept_in(store)
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    fitted(photographs[0], HOW)
    assert len(decoded) == 2


def test_no_more_is_kept_than_the_bound_and_what_was_not_used_of_late_goes_first(
    store, photographs, decoded, monkeypatch
):
    monkeypatch.setattr(image_store, "MOST_BYTES", 4 * BYTES)
    counted: list[Path] = []
    monkeypatch.setattr(image_store, "_entries", lambda folder: counted.append(folder) or entries_of(folder))
    for file in photographs:
        fitted(file, HOW)
    assert len(counted) == 2, "a full store is counted again for each image"
    assert len(kept_in(store)) == 4, "what this process used was removed, or more is kept than allowed"
    old = time.time() - 3600
    for place, file in enumerate(sorted(kept_in(store))):
        os.utime(file, (old + place, old + place))
    fitted(photographs[0], HOW)  # used now
    image_store._Room.full.clear()  # as in another process
    decoded.clear()
    fitted(photographs[4], HOW)
    assert sum(file.stat().st_size for file in kept_in(store)) <= 4 * BYTES
    fitted(photographs[0], HOW)
    fitted(photographs[4], HOW)
    assert decoded == [photographs[4]], "it was not kept, or what was used just now was removed"


def test_a_store_that_cannot_be_written_to_keeps_nothing_and_stops_nothing(photographs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "file"))
    assert np.array_equal(fitted(photographs[0], HOW), fit(decode(photographs[0], HOW), HOW))


def test_an_image_that_is_missing_or_unreadable_is_named(store, tmp_path):
    (tmp_path / "no.png").write_text("no image")
    for name in ("no.png", "nosuch.png"):
        with pytest.raises(ValueError, match=rf"{name}: cannot be read as an image"):
            fitted(tmp_path / name, HOW)
    assert kept_in(store) == []


def test_work_in_threads_comes_in_order_and_stops_at_the_first_error():
    assert list(each_in_threads(lambda number: number * 2, range(100))) == list(range(0, 200, 2))
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.002)
        if number == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        list(each_in_threads(work, range(500)))
    assert len(begun) < 400, "what was not begun was begun all the same"
