"""The artifact: a folder and a deterministic archive of it, packed, opened and held against its own hashes."""

import errno
import gzip
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeslim.artifact.format_1 import FORMAT as FORMAT_1
from edgeslim.artifact.manifest import (
    FORMAT,
    GOLDEN_IMAGES,
    MANIFEST,
    SUMS,
    FileEntry,
    Manifest,
    manifest_text,
    read_manifest,
)
from edgeslim.artifact.part import PATH_PATTERN
from edgeslim.artifact.unpack import unpack
from edgeslim.errors import BadInput, IntegrityFailed, ToolFailed
from edgeslim.recipe import RECIPE_SCHEMA
from edgeslim.resources import in_package, sha256_of, signals_deferred
from edgeslim.work_folders import abandoned, work_folder

PARTIAL = ".partial"  # how the folder ends in which an artifact is made
MEASUREMENTS = "measurements"  # lies in the folder, outside the archive and the hashes: times differ in every run


@dataclass(frozen=True)
class Artifact:
    """An artifact's folder and what its manifest says."""

    folder: Path
    manifest: Manifest


def archive_path(destination: Path) -> Path:
    """Return where the archive of the artifact folder `destination` lies: beside it."""
    return destination.with_name(destination.name + ".tar.gz")


def write_example(staging: Path) -> None:
    """Copy into `staging` what every artifact carries: run.py, preprocessing.py, README, schemas."""
    for name, file in carried_files().items():
        shutil.copyfile(file, staging / name)


def carried_files() -> dict[str, Path]:
    """Return the files of edgeslim's own that every artifact carries, by their names there."""
    own = [file for file in sorted(in_package("artifact/carried").iterdir()) if file.is_file()]
    schemas = [in_package("artifact/manifest.schema.json"), RECIPE_SCHEMA]
    return {file.name: file for file in [*own, in_package("tasks/preprocessing.py"), *schemas]}


def carried_versions() -> dict[str, dict[str, str]]:
    """Return the SHA-256 of the files that artifacts of each version of edgeslim carry, this one's too, by their names.

    A version that is out stays; the next one is added.
    """
    known: dict[str, dict[str, str]] = json.loads(in_package("artifact/carried_versions.json").read_text("utf-8"))
    return known


def check_destination(destination: Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a place no artifact can be written to.

    BadInput: something is there already (with `overwrite`: something that is not an artifact), the parent folder is
    missing or cannot be written to. ToolFailed: the disk is full.
    """
    archive = archive_path(destination)
    parent = destination.parent
    _restore(destination)
    if not parent.is_dir():
        raise BadInput(
            f"{destination}: its parent folder {parent} {'is no folder' if parent.exists() else 'is missing'}"
        )
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise BadInput(f"{destination}: is not a folder; an artifact is written as a folder, choose another name")
    if archive.is_symlink() or (archive.exists() and not archive.is_file()):
        raise BadInput(f"{archive}: is not a plain file; the artifact's archive goes there, choose another name")
    if (destination.exists() or archive.exists()) and not overwrite:
        there = destination if destination.exists() else archive
        raise BadInput(f"{there}: exists", "choose another name (--out), or ask to overwrite it (--overwrite)")
    if destination.exists() and any(destination.iterdir()) and not _is_artifact(destination):
        raise BadInput(f"{destination}: holds files that are no edgeslim artifact, so it is not overwritten")
    try:
        with tempfile.TemporaryFile(dir=parent) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _storage_failed(destination, error) from error
        raise BadInput(f"{destination}: cannot write to its parent folder {parent}: {error.strerror}") from error


def pack(staging: Path, manifest: Manifest, destination: Path, *, overwrite: bool = False) -> Artifact:
    """Write the artifact folder `destination` and its archive from the files in `staging`; return it opened.

    `manifest` comes without `files`, they are added here. `staging/measurements` is copied, but neither hashed nor
    archived. Both are built beside the destination and renamed into place, so a killed build leaves the old artifact or
    the new one, whole; what one killed between the two renames left in `.NAME.*.partial` the next one puts back. Raises
    as `check_destination` does, ToolFailed when writing fails, ValueError when `staging` and `manifest` do not fit.
    """
    check_destination(destination, overwrite=overwrite)
    try:
        with work_folder(destination.parent, f".{destination.name}.", PARTIAL) as workshop:
            folder, archive = workshop / "folder", workshop / "archive"
            complete = manifest.model_copy(update={"files": _copy(staging, folder)})
            if problems := _contradictions(complete):
                raise ValueError(f"{staging}: {'; '.join(problems)}")
            (folder / MANIFEST).write_bytes(manifest_text(complete).encode())
            (folder / SUMS).write_bytes(_sums_text(complete, sha256_of(folder / MANIFEST)).encode())
            _write_archive(folder, complete, archive)
            with signals_deferred():  # what was replaced goes with it: an interrupt leaves the old one or the new one
                _swap(folder, archive, destination, workshop)
                shutil.rmtree(workshop)
    except OSError as error:
        raise _storage_failed(destination, error) from error
    return Artifact(destination, complete)


@contextmanager
def open_artifact(path: Path) -> Iterator[Artifact]:
    """Open an artifact's folder, or its archive in a temporary folder that ends with the context.

    The hashes are not checked: see `check_integrity`. BadInput: nothing is there. IntegrityFailed: an archive that
    `unpack` refuses, or a manifest that breaks the format. ToolFailed: it cannot be unpacked.
    """
    if path.is_dir():
        yield Artifact(path, read_manifest(path))
        return
    if not path.exists():
        raise BadInput(f"{path}: no such artifact", "name its folder or its .tar.gz; `edgeslim build` makes one")
    with work_folder() as temporary:
        folder = unpack(path, temporary)
        yield Artifact(folder, read_manifest(folder))


def check_expected(path: Path, expect: str) -> None:
    """Hold an archive against the SHA-256 it must have; BadInput for a folder or no SHA-256, IntegrityFailed else."""
    if not re.fullmatch("[0-9a-fA-F]{64}", expect):
        raise BadInput(f"{expect!r} is no SHA-256; expected 64 hexadecimal digits, as sha256sum prints them")
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; a SHA-256 is that of an archive, {archive_path(path).name}")
    if not path.exists():
        raise BadInput(f"{path}: no such artifact; expected its .tar.gz")
    if (actual := sha256_of(path)) != expect.lower():
        raise IntegrityFailed(f"{path}: is another archive: its SHA-256 is {actual}, expected {expect.lower()}")


def check_integrity(folder: Path) -> None:
    """Re-hash an artifact's folder; IntegrityFailed names every file that is extra, missing, changed or a link.

    What lies in `measurements/` is not looked at, but must hold no links either.
    """
    present = _plain_files(folder)
    sums = _read_sums(folder)
    digest = sha256_of(folder / MANIFEST)
    if sums.get(MANIFEST) != digest:
        raise IntegrityFailed(f"{folder}: {MANIFEST} is not the one that {SUMS} lists; one of the two was changed")
    manifest = read_manifest(folder)
    if (folder / SUMS).read_bytes() != _sums_text(manifest, digest).encode():
        raise IntegrityFailed(f"{folder}: {SUMS} does not list the files of {MANIFEST}; it was changed")
    listed = {entry.path: entry for entry in manifest.files}
    problems = [f"`{path}` is listed in {MANIFEST}, but missing" for path in sorted(set(listed) - present)]
    problems += [f"`{path}` is not listed in {MANIFEST}" for path in sorted(present - set(listed))]
    problems += [
        f"`{path}` was changed: its SHA-256 is {actual}, expected {listed[path].sha256}"
        for path in sorted(present & set(listed))
        if (actual := sha256_of(folder / path)) != listed[path].sha256
    ]
    problems += _contradictions(manifest)
    if problems:
        raise IntegrityFailed("\n".join([f"{folder}: is not what its manifest says", *(f"  - {p}" for p in problems)]))


def changed(folder: Path) -> str | None:
    """Return which files of an artifact's folder are not what its manifest lists, None where all are."""
    try:
        check_integrity(folder)
    except IntegrityFailed as error:
        return str(error)
    return None


def _is_artifact(folder: Path) -> bool:
    manifest = folder / MANIFEST
    return (
        (folder / SUMS).is_file()
        and manifest.is_file()
        and any(f'"{name}"' in manifest.read_text("utf-8", "replace") for name in (FORMAT, FORMAT_1))
    )


def _copy(staging: Path, folder: Path) -> tuple[FileEntry, ...]:
    """Copy all files to the new `folder`; return the entries of those the manifest lists, sorted by path."""
    folder.mkdir()
    entries = []
    for file in sorted(staging.rglob("*")):
        path = file.relative_to(staging).as_posix()
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise ValueError(f"{file}: only plain files go into an artifact")
        if file.is_dir():
            continue
        copy = folder / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        if path.startswith(f"{MEASUREMENTS}/"):
            continue
        if path in (MANIFEST, SUMS) or not re.fullmatch(PATH_PATTERN, path):
            raise ValueError(f"{file}: an artifact's content cannot have this name")
        entries.append(FileEntry(path=path, sha256=sha256_of(copy), bytes=copy.stat().st_size))
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _contradictions(manifest: Manifest) -> list[str]:
    """Return what the manifest says about its files that its own list of files denies."""
    sizes = {entry.path: entry.bytes for entry in manifest.files}
    named = [manifest.numerics, manifest.ledger, GOLDEN_IMAGES]
    problems = []
    for model in manifest.models:
        own = [model.path, *model.companions]
        named += [*own, *(one.golden for one in model.outputs), model.inputs[0].golden_inputs]
        total = sum(sizes.get(path, 0) for path in own)
        if total != model.bytes:
            problems.append(f"`{model.path}` is said to have {model.bytes} bytes, but has {total}")
    if manifest.accelerator is not None:
        named += manifest.accelerator.named
        for path, told in manifest.accelerator.sizes.items():
            if sizes.get(path, 0) != told:
                problems.append(f"`{path}` is said to have {told} bytes, but has {sizes.get(path, 0)}")
    return [f"`{path}` is named, but not among the files" for path in sorted(set(named) - set(sizes))] + problems


def _sums_text(manifest: Manifest, manifest_sha256: str) -> str:
    digests = {entry.path: entry.sha256 for entry in manifest.files} | {MANIFEST: manifest_sha256}
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))


def _read_sums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / SUMS).read_bytes().decode("ascii").splitlines()
    except FileNotFoundError as error:
        raise IntegrityFailed(f"{folder}: is no artifact, or lost a file: {SUMS} is missing") from error
    except UnicodeDecodeError as error:
        raise IntegrityFailed(f"{folder / SUMS}: was changed: it holds more than ASCII") from error
    digests = {}
    for number, line in enumerate(lines, start=1):
        digest, separator, path = line.partition("  ")
        if not separator:
            raise IntegrityFailed(f"{folder / SUMS}: line {number} is not `SHA-256`, two spaces, path")
        digests[path] = digest
    return digests


def _plain_files(folder: Path) -> set[str]:
    """Return the paths of all files the manifest has to list; IntegrityFailed for anything but files and folders."""
    paths = set()
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise IntegrityFailed(f"{folder}: `{path}` is a link or a special file; an artifact holds plain files only")
        if file.is_file() and path not in (MANIFEST, SUMS) and not path.startswith(f"{MEASUREMENTS}/"):
            paths.add(path)
    if not (folder / MANIFEST).is_file():
        raise IntegrityFailed(f"{folder}: is no artifact, or lost a file: {MANIFEST} is missing")
    return paths


def _write_archive(folder: Path, manifest: Manifest, archive: Path) -> None:
    """Write the listed files so that equal contents give equal bytes: sorted, no machine's times, owners or modes."""
    top = f"{manifest.artifact.name}-{manifest.artifact.version}"
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted([MANIFEST, SUMS, *(entry.path for entry in manifest.files)]):
            member = tarfile.TarInfo(f"{top}/{path}")
            member.size = (folder / path).stat().st_size
            member.mode = 0o644
            with (folder / path).open("rb") as content:
                tar.addfile(member, content)


def _restore(destination: Path) -> None:
    """Put back the artifact that a build which was killed between two renames had moved aside."""
    for workshop in abandoned(destination.parent, f".{destination.name}.", PARTIAL):
        for kept, place in (("previous", destination), ("previous.tar.gz", archive_path(destination))):
            if (workshop / kept).exists() and not place.exists():
                (workshop / kept).rename(place)


def _swap(folder: Path, archive: Path, destination: Path, workshop: Path) -> None:
    """Rename the new pair into place, the old one aside into `workshop`; on any failure put the old one back."""
    moves = [
        (destination, workshop / "previous"),
        (archive_path(destination), workshop / "previous.tar.gz"),
        (archive, archive_path(destination)),
        (folder, destination),
    ]
    try:
        for source, target in moves:
            if source.exists():
                source.rename(target)
    except BaseException:
        for source, target in reversed(moves):  # asked of the disk: an interrupt may fall between rename and any note
            if target.exists() and not source.exists():
                target.rename(source)
        raise


def _storage_failed(destination: Path, error: OSError) -> ToolFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ToolFailed(f"{destination}: the disk is full; nothing was left behind. Free some space and build again")
    return ToolFailed(f"{destination}: cannot be written, nothing was left behind: {error.strerror or error}")
