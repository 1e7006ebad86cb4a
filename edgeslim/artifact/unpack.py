"""An artifact's archive, unpacked: bounded, one stream with nothing behind it, and no more than its manifest lists."""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgeslim.artifact.manifest import MANIFEST, SUMS, read_manifest
from edgeslim.artifact.part import PATH_PATTERN
from edgeslim.bounds import MOST_ARCHIVE_BYTES, MOST_MANIFEST_BYTES
from edgeslim.errors import IntegrityFailed, ToolFailed
from edgeslim.units import show_memory

CHUNK_BYTES = 1 << 20


def unpack(archive: Path, into: Path) -> Path:
    """Unpack an archive and return its one top folder.

    IntegrityFailed: it is damaged, unpacks to more than its manifest lists or than MOST_ARCHIVE_BYTES, holds a file
    twice, links or paths that leave its folder, or bytes behind its end. ToolFailed: there is no room for it.
    """
    try:
        _check_stream(archive)
        with tarfile.open(archive, "r:gz") as tar:
            members = list(_members(archive, tar))
            _check_end(archive, tar)
            tops = {PurePosixPath(member.name).parts[0] for member in members}
            if len(tops) != 1:
                raise IntegrityFailed(f"{archive}: holds {len(tops)} top folders; an artifact's archive holds one")
            folder = into / tops.pop()
            files = {member.name.partition("/")[2]: member for member in members if member.isreg()}
            _check_manifest(archive, files.get(MANIFEST))
            tar.extractall(into, [files[MANIFEST]], filter="data")
            _check_sizes(archive, {path: member.size for path, member in files.items()}, folder)
            tar.extractall(into, members, filter="data")
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise IntegrityFailed(f"{archive}: is no artifact's archive (.tar.gz), or a damaged one: {error}") from error
    except OSError as error:
        raise ToolFailed(f"{archive}: cannot be unpacked into {into}: {error.strerror}") from error
    return folder


def _check_stream(archive: Path) -> None:
    """Refuse anything but one gzip stream: what lies behind it would travel along unread."""
    stream, total = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), 0
    with archive.open("rb") as packed:
        while chunk := packed.read(CHUNK_BYTES):
            while chunk and not stream.eof:
                total += len(stream.decompress(chunk, CHUNK_BYTES))
                if total > MOST_ARCHIVE_BYTES:
                    raise IntegrityFailed(f"{archive}: unpacks to more than {show_memory(MOST_ARCHIVE_BYTES)}")
                chunk = stream.unconsumed_tail
            if chunk or stream.unused_data:
                raise IntegrityFailed(f"{archive}: holds bytes behind the end of its gzip stream")
    if not stream.eof:
        raise EOFError("its gzip stream ends early")


def _members(archive: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    names = set()
    for member in tar:
        if not (member.isreg() or member.isdir()):
            raise IntegrityFailed(f"{archive}: `{member.name}` is a link or a special file; expected plain files only")
        if not re.fullmatch(PATH_PATTERN, member.name):
            raise IntegrityFailed(
                f"{archive}: `{member.name}` leaves the archive's folder, or is no name edgeslim writes"
            )
        if member.name in names:
            raise IntegrityFailed(f"{archive}: holds `{member.name}` twice")
        names.add(member.name)
        yield member


def _check_end(archive: Path, tar: tarfile.TarFile) -> None:
    rest = tar.fileobj
    while rest is not None and (chunk := rest.read(CHUNK_BYTES)):
        if chunk.strip(b"\0"):
            raise IntegrityFailed(f"{archive}: holds bytes behind its last file")


def _check_manifest(archive: Path, member: tarfile.TarInfo | None) -> None:
    if member is None:
        raise IntegrityFailed(f"{archive}: is no artifact, or lost a file: {MANIFEST} is missing")
    if member.size > MOST_MANIFEST_BYTES:
        raise IntegrityFailed(
            f"{archive}: {MANIFEST} has {show_memory(member.size)}; {show_memory(MOST_MANIFEST_BYTES)} are read at most"
        )


def _check_sizes(archive: Path, found: dict[str, int], folder: Path) -> None:
    """Refuse files that unpack to another size than the manifest lists, before they are written."""
    listed = {entry.path: entry.bytes for entry in read_manifest(folder).files}
    for path in sorted(set(found) - {MANIFEST, SUMS}):
        if path not in listed:
            raise IntegrityFailed(f"{archive}: `{path}` is not listed in {MANIFEST}")
        if found[path] != listed[path]:
            raise IntegrityFailed(
                f"{archive}: `{path}` unpacks to {found[path]} bytes; {MANIFEST} lists it with {listed[path]}"
            )
    if found.get(SUMS, 0) > MOST_MANIFEST_BYTES:
        raise IntegrityFailed(f"{archive}: {SUMS} has {show_memory(found[SUMS])}")
