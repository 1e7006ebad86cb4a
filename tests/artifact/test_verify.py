"""Golden vectors are replayed in real runtimes; what no longer computes the same is refused with the reason."""

import hashlib
import re
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
pytest.importorskip("openvino", reason="openvino is not installed; pip install 'edgeslim[all]'")

from edgeslim.artifact import verify as verification
from edgeslim.artifact.archive import Artifact, archive_path, carried_files, carried_versions, pack
from edgeslim.artifact.golden import golden_fault
from edgeslim.artifact.manifest import LsbTolerance, Manifest
from edgeslim.artifact.verify import ReplayFailed, VerifyReport, verify
from edgeslim.deploy.installed import runtime_available
from edgeslim.devices.machine import this_machine
from edgeslim.errors import BadInput, IntegrityFailed
from tests.support.small_artifact import STEP


def only(manifest: Manifest, path: str) -> Manifest:
    """Return the manifest with one of its models, so that a test runs one runtime."""
    models = tuple(model for model in manifest.models if model.path == path)
    return manifest.model_copy(update={"models": models, "primary": path})


def pack_with(staged: tuple[Path, Manifest], folder: Path, golden: str, change) -> Artifact:
    """Pack with one golden array changed and only the INT8 ONNX model."""
    staging = Path(shutil.copytree(staged[0], folder / "staging"))
    file = staging / "golden" / golden
    np.save(file, change(np.load(file)))
    return pack(staging, only(staged[1], "models/tiny_int8.onnx"), folder / "tiny")


def failure_of(artifact: Artifact) -> VerifyReport:
    with pytest.raises(ReplayFailed) as caught:
        verify(artifact.folder)
    assert isinstance(caught.value, IntegrityFailed), "a failed replay has another exit code"
    for sentence in caught.value.report.failures:
        assert sentence in str(caught.value), "the message hides a failure"
    return caught.value.report


def test_what_was_packed_passes_in_every_runtime(staged, tmp_path):
    artifact = pack(*staged, tmp_path / "tiny")
    report = verify(archive_path(artifact.folder))
    assert report.preprocessing_error == 0.0, "the same code on the same pixels gave other inputs"
    assert report.files == len(artifact.manifest.files), "files were not counted"
    for replay in report.replays:
        if runtime_available(replay.runtime) is None:
            assert replay.status == "skipped", "a missing runtime is no failure"
            assert "pip install" in replay.detail, "the way to enable it is not told"
        else:
            assert replay.status == "passed", replay.detail
    assert len(report.replays) == len(artifact.manifest.models), "a model was not looked at"


def test_an_output_one_step_away_passes(staged, tmp_path):
    artifact = pack_with(staged, tmp_path, "outputs_onnx_int8.npy", lambda golden: golden + np.float32(STEP))
    (replay,) = verify(artifact.folder).replays
    assert replay.max_abs_error == pytest.approx(STEP, rel=1e-3), "the error is not the one step that was put in"


@pytest.mark.parametrize("spoil", [lambda g: g + np.float32(2 * STEP), lambda g: g * np.float32(np.nan)])
def test_an_output_two_steps_away_or_not_a_number_fails(staged, tmp_path, spoil):
    (replay,) = failure_of(pack_with(staged, tmp_path, "outputs_onnx_int8.npy", spoil)).replays
    assert replay.status == "failed", "a wrong output passed"
    assert "allowed is 1 step(s) of 0.05" in replay.detail, "the tolerance is not told"


def test_golden_outputs_of_another_shape_fail(staged, tmp_path):
    (replay,) = failure_of(pack_with(staged, tmp_path, "outputs_onnx_int8.npy", lambda golden: golden[:, :3])).replays
    assert "outputs have the shape (3, 4), the golden ones (3, 3)" in replay.detail


def test_golden_inputs_that_the_preprocessing_does_not_make_fail(staged, tmp_path):
    report = failure_of(pack_with(staged, tmp_path, "inputs_nchw.npy", lambda inputs: inputs + np.float32(0.015)))
    assert report.failures[0].startswith("preprocessing: inputs differ from the golden ones by up to 0.015")


def test_golden_images_of_the_wrong_type_are_refused_by_name(staged, tmp_path):
    artifact = pack_with(staged, tmp_path, "images.npy", lambda images: images.astype(np.float32))
    with pytest.raises(IntegrityFailed, match=r"`golden/images.npy` does not suit the preprocessing"):
        verify(artifact.folder)


def test_golden_vectors_with_a_pickle_inside_are_refused(staged, tmp_path):
    artifact = pack_with(staged, tmp_path, "images.npy", lambda images: np.array([[{}]], object))
    with pytest.raises(IntegrityFailed, match=r"`golden/images.npy` is no NumPy array file"):
        verify(artifact.folder)


def test_a_model_that_its_runtime_cannot_load_fails_with_the_runtimes_words(staged, tmp_path):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    model = staging / "models" / "tiny_int8.onnx"
    model.write_bytes(b"\xff" * model.stat().st_size)
    manifest = only(staged[1], "models/tiny_int8.onnx")
    (replay,) = failure_of(pack(staging, manifest, tmp_path / "tiny")).replays
    assert replay.status == "failed"
    assert replay.detail.startswith("onnxruntime failed: "), replay.detail


def test_a_changed_file_is_refused_before_anything_runs(staged, tmp_path):
    artifact = pack(*staged, tmp_path / "tiny")
    (artifact.folder / "run.py").write_text("import os")
    with pytest.raises(IntegrityFailed, match=r"`run\.py` was changed"):
        verify(artifact.folder)


def test_preprocessing_of_another_version_is_noted_and_not_executed(staged, tmp_path):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    (staging / "preprocessing.py").write_text("raise SystemExit('executed')\n")
    report = verify(pack(staging, only(staged[1], "models/tiny_fp32.onnx"), tmp_path / "tiny").folder)
    assert [note for note in report.notes if note.startswith("preprocessing.py is not that of edgeslim")], report.notes


def test_a_run_py_that_was_changed_with_its_hashes_is_named(staged, tmp_path):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    (staging / "run.py").write_text("import os\n")
    notes = verify(pack(staging, made_by(staged[1], version("edgeslim")), tmp_path / "tiny").folder).notes
    assert [note for note in notes if note.startswith("run.py is not that of") and "it was changed" in note], notes


def made_by(manifest, maker):
    """A manifest of one model that another version of edgeslim wrote."""
    return only(manifest, "models/tiny_fp32.onnx").model_copy(update={"tool_versions": {"edgeslim": maker}})


def test_files_of_another_known_version_are_its_own(staged, tmp_path, monkeypatch):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    (staging / "run.py").write_text("import os\n")
    carried = {"run.py": hashlib.sha256(b"import os\n").hexdigest()}
    monkeypatch.setattr(verification, "carried_versions", lambda: {"0.0.1": carried})
    assert not verify(pack(staging, made_by(staged[1], "0.0.1"), tmp_path / "tiny").folder).notes


def test_a_version_that_nobody_knows_is_named(staged, tmp_path):
    (note,) = verify(pack(staged[0], made_by(staged[1], "9.9.9"), tmp_path / "tiny").folder).notes
    assert re.search(r"does not know what edgeslim 9\.9\.9 carries: .*run\.py.* may have been changed", note), note


def test_this_versions_files_are_among_the_known_ones():
    own = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in carried_files().items()}
    assert carried_versions()[version("edgeslim")] == own, "write them into edgeslim/artifact/carried_versions.json"


def test_what_edgeslim_carries_is_not_told_of(staged, tmp_path):
    assert not verify(pack(staged[0], only(staged[1], "models/tiny_fp32.onnx"), tmp_path / "tiny").folder).notes


@pytest.mark.parametrize("spoil", ["a wide tolerance", "the same golden outputs"])
def test_golden_vectors_that_any_constant_passes_prove_nothing(staged, tmp_path, spoil):
    staging = Path(shutil.copytree(staged[0], tmp_path / "staging"))
    manifest = only(staged[1], "models/tiny_int8.onnx")
    (model,) = manifest.models
    (output,) = model.outputs
    golden = np.load(staging / output.golden)
    if spoil == "a wide tolerance":
        steps = int(np.ceil(np.ptp(golden, axis=0).max() / STEP))
        output = output.model_copy(update={"tolerance": LsbTolerance(lsb=steps, scale=STEP)})
    else:
        np.save(staging / output.golden, np.zeros_like(golden))
    model = model.model_copy(update={"outputs": (output,)})
    report = failure_of(pack(staging, manifest.model_copy(update={"models": (model,)}), tmp_path / "tiny"))
    assert report.failures == (
        "models/tiny_int8.onnx: its golden vectors prove nothing: "
        "a file that answers every image alike would agree with them",
    )


def test_an_archive_is_held_against_the_hash_its_maker_told(staged, tmp_path):
    artifact = pack(staged[0], only(staged[1], "models/tiny_fp32.onnx"), tmp_path / "tiny")
    archive = archive_path(artifact.folder)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert verify(archive, expect=digest.upper()).replays
    with pytest.raises(IntegrityFailed, match=f"is another archive: its SHA-256 is {digest}, expected {'0' * 64}"):
        verify(archive, expect="0" * 64)
    for path, expect, complaint in (
        (archive, "abc", "'abc' is no SHA-256; expected 64 hexadecimal digits"),
        (artifact.folder, digest, r"is a folder; a SHA-256 is that of an archive, tiny\.tar\.gz"),
        (tmp_path / "nosuch", digest, "no such artifact"),
    ):
        with pytest.raises(BadInput, match=complaint):
            verify(path, expect=expect)


@pytest.mark.parametrize(
    ("architecture", "flags", "precision", "is_told"),
    [
        ("x86_64", ("avx2",), "int8", True),
        ("x86_64", ("avx2", "avx512_vnni"), "int8", False),
        ("x86_64", ("avx2", "avx_vnni"), "int8", False),
        ("aarch64", ("asimd",), "int8", False),
        ("x86_64", ("avx2",), "fp32", False),
    ],
)
def test_saturating_sums_are_told_only_where_they_explain_a_difference(staged, architecture, flags, precision, is_told):
    (model,) = only(staged[1], "models/tiny_fp32.xml").models
    machine = replace(this_machine(), architecture=architecture, cpu_flags=flags)
    golden = np.zeros((1, 4), np.float32)
    fault = golden_fault(model.model_copy(update={"precision": precision}), golden + 1, golden, machine)
    assert ("saturate" in str(fault)) is is_told


def test_the_report_of_a_failure_names_the_tolerance_of_each_model(staged, tmp_path):
    report = failure_of(pack_with(staged, tmp_path, "outputs_onnx_int8.npy", lambda golden: -golden))
    assert [replay.tolerances for replay in report.replays] == [{"scores": LsbTolerance(lsb=1, scale=STEP)}]
