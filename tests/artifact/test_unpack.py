"""An archive is unpacked only as far as its manifest lists it, and nothing may hide behind, or twice within it."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeslim.artifact import unpack as unpacking
from edgeslim.artifact.archive import Artifact, archive_path, pack
from edgeslim.artifact.manifest import MANIFEST, SUMS
from edgeslim.artifact.unpack import unpack
from edgeslim.errors import IntegrityFailed


@pytest.fixture
def packed(staged, tmp_path) -> Artifact:
    return pack(*staged, tmp_path / "tiny")


def repacked(artifact: Artifact, change: Callable[[str, bytes], list[tuple[str, bytes]]]) -> Path:
    """Return an archive of the artifact with each (path, content) replaced by what `change` makes of it."""
    changed = artifact.folder.with_name("changed.tar.gz")
    with tarfile.open(archive_path(artifact.folder)) as tar, tarfile.open(changed, "w:gz") as out:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            for name, data in change(member.name.partition("/")[2], content.read()):
                info = tarfile.TarInfo(f"top/{name}")
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
    return changed


def refused(archive: Path, into: Path, complaint: str) -> None:
    into.mkdir()
    with pytest.raises(IntegrityFailed, match=complaint):
        unpack(archive, into)
    assert {file.name for file in into.rglob("*") if file.is_file()} <= {MANIFEST}, "more was written than had to be"


def test_what_was_packed_comes_back(packed, tmp_path):
    (tmp_path / "into").mkdir()
    folder = unpack(archive_path(packed.folder), tmp_path / "into")
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert names == {MANIFEST, SUMS, *(entry.path for entry in packed.manifest.files)}


@pytest.mark.parametrize(
    "more",
    [b"x", bytes(1), gzip.compress(b"a second stream"), gzip.compress(b"")],
    ids=["a byte", "a zero", "a stream", "an empty stream"],
)
def test_bytes_behind_the_stream_are_refused(packed, tmp_path, more):
    archive = archive_path(packed.folder)
    archive.write_bytes(archive.read_bytes() + more)
    refused(archive, tmp_path / "into", "holds bytes behind the end of its gzip stream")


def test_a_wrong_checksum_at_the_end_is_refused(packed, tmp_path):
    archive = archive_path(packed.folder)
    content = archive.read_bytes()
    archive.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    refused(archive, tmp_path / "into", "damaged one")


def test_bytes_behind_the_last_file_are_refused(packed, tmp_path):
    archive = archive_path(packed.folder)
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + b"hidden".ljust(512, b"\0")))
    refused(archive, tmp_path / "into", "holds bytes behind its last file")


@pytest.mark.parametrize("doubled", [MANIFEST, "models/tiny_int8.onnx"])
def test_a_file_that_is_there_twice_is_refused(packed, tmp_path, doubled):
    archive = repacked(packed, lambda path, data: [(path, data)] * (2 if path == doubled else 1))
    refused(archive, tmp_path / "into", f"holds `top/{doubled}` twice")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda path, data: [(path, bytes(10**8) if path == "run.py" else data)], r"`run\.py` unpacks to 100000000 by"),
        (lambda path, data: [(path, data)] + [("more", b"")] * (path == MANIFEST), "`more` is not listed"),
        (lambda path, data: [] if path == MANIFEST else [(path, data)], "is missing"),
        (lambda path, data: [(path, data + bytes(65 << 20) if path == MANIFEST else data)], "are read at most"),
        (lambda path, data: [(path, data + bytes(65 << 20) if path == SUMS else data)], f"{SUMS} has 65 MiB"),
    ],
    ids=["grown", "added", "no manifest", "a large manifest", "large sums"],
)
def test_more_than_the_manifest_lists_is_refused_before_it_is_written(packed, tmp_path, change, complaint):
    refused(repacked(packed, change), tmp_path / "into", complaint)


def test_an_archive_that_grows_without_end_is_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_ARCHIVE_BYTES", 1 << 20)
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    refused(tmp_path / "bomb.tar.gz", tmp_path / "into", "unpacks to more than 1 MiB")
