"""Pack, open, hold against the hashes: what is written is what is read, and anything else is refused by name."""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
pytest.importorskip("openvino", reason="openvino is not installed; pip install 'edgeslim[all]'")

from edgeslim.artifact.archive import archive_path, check_destination, check_integrity, open_artifact, pack
from edgeslim.artifact.manifest import MANIFEST, SUMS, read_manifest
from edgeslim.errors import BadInput, IntegrityFailed, ToolFailed
from tests.support.disks import mounted


@pytest.fixture
def copied(packed, tmp_path) -> Path:
    """A copy of the packed folder that a test may spoil."""
    return Path(shutil.copytree(packed.folder, tmp_path / "copy"))


def files_in(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


def rewrite_manifest(folder: Path, change) -> None:
    """Change the manifest and put its new hash into SHA256SUMS, as someone with the archive in hand could."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))
    subprocess.run(
        ["sh", "-c", f"sed -i '/  {MANIFEST}$/d' {SUMS}; sha256sum {MANIFEST} >> {SUMS}"], cwd=folder, check=True
    )


def test_what_is_packed_is_whole_and_reads_back_equal(packed):
    check_integrity(packed.folder)
    assert read_manifest(packed.folder) == packed.manifest, "the manifest changed on its way through the file"


def test_everything_but_the_manifest_and_the_sums_is_listed(packed):
    listed = [entry.path for entry in packed.manifest.files]
    assert sorted([*listed, MANIFEST, SUMS]) == files_in(packed.folder), "a file is not listed"


def test_sha256sum_accepts_the_sums(packed):
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", SUMS], cwd=packed.folder, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"{MANIFEST}: OK" in checked.stdout, "the manifest itself is not covered"


def test_the_archive_holds_exactly_the_folder(packed):
    with open_artifact(archive_path(packed.folder)) as opened:
        check_integrity(opened.folder)
        assert files_in(opened.folder) == files_in(packed.folder), "folder and archive hold different files"
        assert opened.manifest == packed.manifest, "folder and archive have different manifests"


def test_equal_files_at_another_path_time_and_order_give_equal_bytes(staged, packed, tmp_path):
    staging = tmp_path / "another" / "place"
    for number, name in enumerate(reversed(files_in(staged[0]))):
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_bytes((staged[0] / name).read_bytes())
        os.utime(staging / name, (number, number))
        (staging / name).chmod(0o600)
    second = pack(staging, staged[1], tmp_path / "other-name")
    first_bytes = archive_path(packed.folder).read_bytes()
    assert archive_path(second.folder).read_bytes() == first_bytes, "the archive depends on where or when it was built"


def test_the_archive_tells_nothing_of_the_machine(packed):
    raw = archive_path(packed.folder).read_bytes()
    assert raw[3:8] == bytes(5), "the gzip header holds a time or a name"
    with tarfile.open(archive_path(packed.folder)) as tar:
        marks = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}
        names = tar.getnames()
    assert marks == {(0, 0, 0, "", "", 0o644)}, "entries carry times, owners or modes of this machine"
    assert names == sorted(names), "the order depends on the file system"
    assert {name.partition("/")[0] for name in names} == {"tiny-raspberry-pi-4-0.1.0"}, (
        "the top folder has another name"
    )


def test_measurements_lie_in_the_folder_outside_archive_and_hashes(staged, tmp_path):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    (staging / "measurements").mkdir()
    (staging / "measurements" / "host.json").write_text("{}")
    artifact = pack(staging, staged[1], tmp_path / "measured")
    (artifact.folder / "measurements" / "later.json").write_text("{}")
    check_integrity(artifact.folder)
    assert (artifact.folder / "measurements" / "host.json").is_file(), "measurements were lost"
    plain = pack(*staged, tmp_path / "plain")
    measured_bytes = archive_path(artifact.folder).read_bytes()
    assert measured_bytes == archive_path(plain.folder).read_bytes(), "measured times reached the archive"


def test_staging_that_lacks_a_named_file_is_not_packed(staged, tmp_path):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    (staging / "models" / "tiny_fp32.bin").unlink()
    with pytest.raises(ValueError, match=r"`models/tiny_fp32\.bin` is named, but not among the files"):
        pack(staging, staged[1], tmp_path / "tiny")
    assert files_in(tmp_path) == [f"staging/{name}" for name in files_in(staging)], "something was left behind"


@pytest.mark.parametrize("name", [".hidden", "with space", MANIFEST, "golden/back\\slash"])
def test_staging_with_a_name_no_artifact_may_hold_is_not_packed(staged, tmp_path, name):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    (staging / name).write_text("x")
    with pytest.raises(ValueError, match="an artifact's content cannot have this name"):
        pack(staging, staged[1], tmp_path / "tiny")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_refused_naming_its_file(packed, data):
    name = data.draw(
        st.sampled_from([path for path in files_in(packed.folder) if (packed.folder / path).stat().st_size])
    )
    file = packed.folder / name
    whole = file.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[position] ^= data.draw(st.integers(1, 255))
    file.write_bytes(flipped)
    try:
        with pytest.raises(IntegrityFailed, match=re.escape(name)):
            check_integrity(packed.folder)
    finally:
        file.write_bytes(whole)


def test_bytes_all_over_the_sums_count(packed):
    file = packed.folder / SUMS
    whole = file.read_bytes()
    try:
        for position in range(0, len(whole), 7):
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 7]) + whole[position + 1 :])
            with pytest.raises(IntegrityFailed, match=SUMS):
                check_integrity(packed.folder)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["extra.txt", "models/extra.onnx", "__pycache__/run.pyc", ".hidden"])
def test_an_added_file_is_refused_by_name(copied, name):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_text("x")
    with pytest.raises(IntegrityFailed, match=re.escape(f"`{name}` is not listed")):
        check_integrity(copied)


def test_all_missing_and_changed_files_are_named_at_once(copied):
    (copied / "MODEL_CARD.md").unlink()
    (copied / "LICENSES" / "MIT.txt").write_text("mine")
    with pytest.raises(IntegrityFailed) as caught:
        check_integrity(copied)
    assert "`MODEL_CARD.md` is listed in manifest.json, but missing" in str(caught.value)
    assert "`LICENSES/MIT.txt` was changed" in str(caught.value)


@pytest.mark.parametrize("name", [MANIFEST, SUMS])
def test_a_lost_manifest_or_sums_is_refused_by_name(copied, name):
    (copied / name).unlink()
    with pytest.raises(IntegrityFailed, match=f"{name} is missing"):
        check_integrity(copied)


@pytest.mark.parametrize("name", ["CHANGELOG.md", "measurements/link.json"])
def test_links_are_refused_even_to_equal_content(copied, name):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).unlink(missing_ok=True)
    (copied / name).symlink_to(copied / "recipe.yaml")
    with pytest.raises(IntegrityFailed, match=f"`{name}` is a link"):
        check_integrity(copied)


def test_an_unknown_key_is_refused_even_with_fitting_hashes(copied):
    rewrite_manifest(copied, lambda content: content["models"][0].update(warranty=True))
    with pytest.raises(IntegrityFailed, match=r"unknown key `models\.0\.warranty`"):
        check_integrity(copied)


def test_a_file_taken_off_the_list_is_refused_even_with_fitting_hashes(copied):
    rewrite_manifest(copied, lambda content: content["files"].pop())
    with pytest.raises(IntegrityFailed, match=SUMS):
        check_integrity(copied)


def test_a_path_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="no such artifact"), open_artifact(tmp_path / "nothing"):
        pass


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no tar"), gzip.compress(bytes(10240))],
    ids=["empty", "no gzip", "no tar", "an empty tar"],
)
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "broken.tar.gz").write_bytes(content)
    with pytest.raises(IntegrityFailed, match=r"broken\.tar\.gz"), open_artifact(tmp_path / "broken.tar.gz"):
        pass


def test_a_cut_archive_is_refused(packed, tmp_path):
    whole = archive_path(packed.folder).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityFailed, match=r"cut\.tar\.gz"), open_artifact(tmp_path / "cut.tar.gz"):
        pass


@pytest.mark.parametrize(
    ("name", "kind", "complaint"),
    [
        ("/tmp/out", tarfile.REGTYPE, "leaves the archive's folder"),
        ("top/../../out", tarfile.REGTYPE, "leaves the archive's folder"),
        ("top/link", tarfile.SYMTYPE, "is a link"),
        ("top/link", tarfile.LNKTYPE, "is a link"),
        ("top/pipe", tarfile.FIFOTYPE, "is a link or a special file"),
        ("second/file", tarfile.REGTYPE, "holds 2 top folders"),
    ],
)
def test_an_archive_that_reaches_outside_is_refused(tmp_path, name, kind, complaint):
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("top/file"), io.BytesIO())
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "../../out"
        tar.addfile(member, io.BytesIO())
    with pytest.raises(IntegrityFailed, match=complaint), open_artifact(tmp_path / "evil.tar.gz"):
        pass


def test_a_missing_parent_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"its parent folder .*missing is missing"):
        check_destination(tmp_path / "missing" / "tiny")


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is no folder"):
        check_destination(tmp_path / "file" / "tiny")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_or_link_in_the_way_is_refused(tmp_path, overwrite):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(BadInput, match="is not a folder"):
            check_destination(tmp_path / name, overwrite=overwrite)


def test_an_existing_artifact_is_refused_unless_it_may_be_overwritten(packed):
    with pytest.raises(BadInput, match=r"exists\nhelp: choose another name .*, or ask to overwrite it"):
        check_destination(packed.folder)
    check_destination(packed.folder, overwrite=True)


def test_an_archive_alone_is_in_the_way_too(tmp_path):
    archive_path(tmp_path / "tiny").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"tiny\.tar\.gz: exists"):
        check_destination(tmp_path / "tiny")


def test_a_folder_of_something_else_is_never_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    with pytest.raises(BadInput, match="holds files that are no edgeslim artifact"):
        check_destination(tmp_path / "photos", overwrite=True)


def test_overwriting_replaces_folder_and_archive(packed, staged, tmp_path):
    old = pack(*staged, tmp_path / "tiny")
    (old.folder / "measurements").mkdir()
    changed = staged[1].model_copy(update={"reasons": ("too slow",), "status": "rejected"})
    pack(staged[0], changed, tmp_path / "tiny", overwrite=True)
    with open_artifact(archive_path(tmp_path / "tiny")) as archived:
        assert archived.manifest.status == "rejected", "the archive is the old one"
    check_integrity(tmp_path / "tiny")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tiny", "tiny.tar.gz"], "something was left behind"
    assert read_manifest(tmp_path / "tiny").status == "rejected", "the folder is the old one"
    assert not (tmp_path / "tiny" / "measurements").exists(), "measurements of the old artifact were kept"


def test_a_read_only_place_is_refused_before_any_work(tmp_path):
    with mounted(tmp_path / "disk", "ro") as disk, pytest.raises(BadInput, match="cannot write to its parent folder"):
        check_destination(disk / "tiny")


def test_a_full_disk_is_told_and_nothing_is_left(staged, tmp_path):
    with mounted(tmp_path / "disk", "size=48k") as disk:
        with pytest.raises(ToolFailed, match="the disk is full; nothing was left behind"):
            pack(*staged, disk / "tiny")
        assert list(disk.iterdir()) == [], "something was left behind"


def test_a_full_disk_leaves_the_old_artifact_whole(staged, packed, tmp_path):
    archive = packed.folder.with_name(packed.folder.name + ".tar.gz")
    pages = [-(-file.stat().st_size // 4096) for file in (*packed.folder.rglob("*"), archive)]
    with mounted(tmp_path / "disk", f"size={int(sum(pages) * 4096 * 1.5)}") as disk:
        pack(*staged, disk / "tiny")
        with pytest.raises(ToolFailed, match="the disk is full"):
            pack(*staged, disk / "tiny", overwrite=True)
        check_integrity(disk / "tiny")
        assert leftovers(disk) == [], "something was left behind"


PACK_FOREVER = """
import sys
from pathlib import Path
from edgeslim.artifact.archive import pack
from edgeslim.artifact.manifest import read_manifest
staging, packed, destination = map(Path, sys.argv[1:])
manifest = read_manifest(packed).model_copy(update={"files": ()})
pack(staging, manifest, destination)
print("packed", flush=True)
while True:
    pack(staging, manifest, destination, overwrite=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.011, 0.023, 0.037])
def test_a_killed_build_leaves_the_old_artifact_or_the_new_one(staged, packed, tmp_path, delay_s):
    destination = tmp_path / "tiny"
    command = [sys.executable, "-c", PACK_FOREVER, staged[0], packed.folder, destination]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as builder:
        assert builder.stdout.readline() == b"packed\n", "the first build failed"
        time.sleep(delay_s)
        os.kill(builder.pid, signal.SIGKILL)
    aside = [part / "previous" for part in tmp_path.glob(".tiny.*.partial")]
    check_integrity(destination if destination.exists() else next(old for old in aside if old.exists()))
    with pytest.raises(BadInput, match="exists\nhelp: choose another name"):
        check_destination(destination)  # which puts the old one back where a rename was missing
    check_integrity(destination)
    pack(staged[0], staged[1], destination, overwrite=True)
    assert leftovers(tmp_path) == [], "what the killed build left is still there"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay_s", [0.004, 0.013, 0.029])
def test_an_interrupted_build_leaves_one_whole_artifact_and_nothing_else(staged, packed, tmp_path, number, delay_s):
    destination = tmp_path / "tiny"
    heeding = "import signal\nfor one in (signal.SIGINT, signal.SIGTERM):\n"
    heeding += "    signal.signal(one, signal.default_int_handler)\n"
    command = [sys.executable, "-c", heeding + PACK_FOREVER, staged[0], packed.folder, destination]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as builder:
        assert builder.stdout.readline() == b"packed\n", "the first build failed"
        time.sleep(delay_s)
        for _ in range(3):  # Python drops an interrupt that comes while it destroys an object
            builder.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                builder.wait(5)
                break
        builder.kill()
    check_integrity(destination)
    assert leftovers(tmp_path) == [], "something half-written was left"
