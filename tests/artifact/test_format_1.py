"""Artifacts of the first format are still whole, verified, looked into and measured."""

import json
import tarfile
from pathlib import Path

import pytest

import edgeslim
from edgeslim.artifact.archive import check_destination, check_integrity, open_artifact
from edgeslim.artifact.format_1 import as_format_2
from edgeslim.artifact.manifest import FORMAT, MANIFEST
from edgeslim.artifact.verify import ReplayFailed
from edgeslim.devices.machine import this_machine
from edgeslim.errors import BadInput, IntegrityFailed
from edgeslim.measure.harness import Workload
from tests.support import TESTS
from tests.support.installed import skip_without

KEPT = TESTS / "golden" / "artifact-format-1.tar.gz"  # a build of tests/support/mixed_net.py by the last version of it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    return next(tmp_path.iterdir())


def test_a_kept_artifact_is_whole_and_every_runtime_gives_its_golden_vectors() -> None:
    for name in ("onnxruntime", "openvino", "litert"):
        skip_without(name)
    try:
        report = edgeslim.verify(KEPT)
    except ReplayFailed as failed:
        assert this_machine().sums_saturate
        report = failed.report
    faulty = [one for one in report.replays if one.status != "passed"]
    assert len(report.replays) == 6
    assert {one.model for one in faulty} <= ({"models/model_int8.xml"} if this_machine().sums_saturate else set())
    assert all(list(one.tolerances) == ["logits"] for one in report.replays)


def test_its_manifest_reads_as_todays(folder: Path) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    assert raw["format"] == "edgeslim-manifest/1"
    with open_artifact(folder) as artifact:
        manifest = artifact.manifest
    assert manifest.format == FORMAT
    assert (manifest.task.name, list(manifest.task.labels)) == ("classification", raw["labels"])
    for one, old in zip(manifest.models, raw["models"], strict=True):
        (output,) = one.outputs
        assert (one.quality.metric, one.quality.value, one.quality.unit) == ("top-1", old["quality"]["top1_pct"], "%")
        assert one.quality.ci95 == tuple(old["quality"]["ci95_pct"])
        assert output.sqnr_db == old["quality"]["sqnr_db"]
        assert (output.golden, output.tolerance.model_dump()) == (old["golden_outputs"], old["tolerance"])
    check_integrity(folder)


def test_it_is_measured_and_looked_into(folder: Path) -> None:
    skip_without("litert")
    workload = Workload(processes=1, min_duration_s=0.05)
    measured = edgeslim.bench(folder, workload=workload).measurements
    assert {one.label for one in measured} >= {"tflite fp32", "tflite int8"}
    wrong = {of.label for of in measured for one in of.seen if one.kind == "golden"}
    assert wrong <= ({"openvino int8"} if this_machine().sums_saturate else set())
    assert edgeslim.inspect(folder).ledger


def test_it_is_an_artifact_that_may_be_overwritten(folder: Path) -> None:
    with pytest.raises(BadInput, match="exists\nhelp: choose another name"):
        check_destination(folder)
    check_destination(folder, overwrite=True)


def test_what_breaks_the_first_format_is_refused_by_key(folder: Path) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    raw["colour"] = "red"
    (folder / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(IntegrityFailed, match="unknown key `colour`"), open_artifact(folder):
        pass
    del raw["colour"], raw["models"][0]["quality"]
    (folder / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(IntegrityFailed, match=r"manifest\.json: "), open_artifact(folder):
        pass


def test_a_text_that_is_no_manifest_of_it_comes_back_as_it_is() -> None:
    for text in (b"{", b'["edgeslim-manifest/1"]', b'{"format": "edgeslim-artifact/2"}'):
        assert as_format_2(text) == text
