"""Does an artifact still do what it did when it was packed? Hashes, preprocessing, golden vectors in every runtime."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from edgeslim.artifact.archive import carried_files, carried_versions, check_expected, check_integrity, open_artifact
from edgeslim.artifact.golden import golden_fault, largest_error, passed_by_constants
from edgeslim.artifact.manifest import GOLDEN_IMAGES, Manifest, ModelFile, TensorSpec, Tolerance
from edgeslim.deploy.run_model import run_model
from edgeslim.devices.machine import this_machine
from edgeslim.errors import DeviceFailed, IntegrityFailed, MissingPackage
from edgeslim.grid import Grid
from edgeslim.readable import Readable
from edgeslim.resources import sha256_of
from edgeslim.tasks.preprocessing import preprocess_batch

PROVES = "whole, and it computes what it did when it was packed; not who packed it: that needs --expect or a signature"
PREPROCESSING_ATOL = 1e-5  # one grey level is above 0.003 wherever std is at most 1


@dataclass(frozen=True)
class Replay:
    """One model file replayed: `max_abs_error` over its golden outputs, null where it gave none to compare.

    `tolerances`: by output.
    """

    model: str
    runtime: str
    status: Literal["passed", "failed", "skipped"]
    max_abs_error: float | None
    tolerances: Mapping[str, Tolerance]
    detail: str


@dataclass(frozen=True)
class VerifyReport(Readable, view="inspection_tables:verify_text"):
    """What `verify` found; `files` is how many were hashed, `preprocessing_error` the largest against golden inputs."""

    name: str
    version: str
    files: int
    preprocessing_error: float
    replays: tuple[Replay, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Say what was found."""
        counts = Counter(one.status for one in self.replays)
        replays = ", ".join(f"{count} {status}" for status, count in counts.items())
        return f"VerifyReport({self.name} {self.version}: {self.files} files hashed, golden vectors: {replays})"

    @property
    def failures(self) -> tuple[str, ...]:
        """Everything that failed, a sentence each; skipped replays are no failures."""
        failed = [f"{replay.model}: {replay.detail}" for replay in self.replays if replay.status == "failed"]
        if not self.preprocessing_error <= PREPROCESSING_ATOL:
            failed.insert(
                0, f"preprocessing: inputs differ from the golden ones by up to {self.preprocessing_error:.3g}"
            )
        return tuple(failed)


class ReplayFailed(IntegrityFailed):
    """The files are whole, but something no longer computes what it did; `report` holds everything that was found."""

    def __init__(self, path: Path, report: VerifyReport) -> None:
        self.report = report
        super().__init__("\n".join([f"{path}: failed its golden vectors", *(f"  - {one}" for one in report.failures)]))


def verify(path: str | Path, *, expect: str | None = None) -> VerifyReport:
    """Check an artifact's folder or archive: every hash, its preprocessing, its golden vectors in each runtime present.

    `expect` is the SHA-256 that the archive must have, 64 hexadecimal digits, from whom it was got. The artifact's own
    Python files are not executed. A runtime that is missing makes a skipped replay. IntegrityFailed: a file is not what
    it was; ReplayFailed, a kind of it: a result is not. BadInput, ToolFailed as `open_artifact`.
    """
    path = Path(path)
    if expect is not None:
        check_expected(path, expect)
    with open_artifact(path) as artifact:
        check_integrity(artifact.folder)
        manifest = artifact.manifest
        report = VerifyReport(
            name=manifest.artifact.name,
            version=manifest.artifact.version,
            files=len(manifest.files),
            preprocessing_error=_preprocessing_error(artifact.folder, manifest),
            replays=tuple(_replay(artifact.folder, model) for model in manifest.models),
            notes=_notes(manifest, artifact.folder),
        )
    if report.failures:
        raise ReplayFailed(path, report)
    return report


def _preprocessing_error(folder: Path, manifest: Manifest) -> float:
    """Return the largest error of all golden inputs against today's preprocessing of the golden images."""
    try:
        nhwc = preprocess_batch(_load(folder, GOLDEN_IMAGES), manifest.preprocessing)
    except ValueError as error:
        raise IntegrityFailed(f"{folder}: `{GOLDEN_IMAGES}` does not suit the preprocessing: {error}") from error
    made = {"NHWC": nhwc, "NCHW": nhwc.transpose(0, 3, 1, 2)}
    inputs = [model.inputs[0] for model in manifest.models]
    return max(_input_error(made[str(one.layout)], _load(folder, one.golden_inputs), one) for one in inputs)


def _input_error(made: np.ndarray, golden: np.ndarray, spec: TensorSpec) -> float:
    """Return the largest error of golden inputs; of codes, beyond the half step that rounding costs."""
    if spec.dtype == "float16":
        return largest_error(made.astype(np.float16), golden)
    if spec.scale is None or spec.zero_point is None or spec.dtype != "int8":
        return largest_error(made, golden)
    grid = Grid(spec.scale, spec.zero_point)
    if made.shape != golden.shape:
        return float("inf")
    return max(0.0, largest_error(made.clip(*grid.ends), grid.real(golden)) - spec.scale / 2)


def _replay(folder: Path, model: ModelFile) -> Replay:
    inputs = _load(folder, model.inputs[0].golden_inputs)
    golden = [_load(folder, one.golden) for one in model.outputs]
    tolerances = {one.name: one.tolerance for one in model.outputs}
    count = len(golden)
    if passed_by_constants(model, golden):
        nothing = "its golden vectors prove nothing: a file that answers every image alike would agree with them"
        return Replay(model.path, model.runtime, "failed", None, tolerances, nothing)
    try:
        outputs = run_model(model.runtime, folder / model.path, inputs, precision=model.precision, outputs=count)
    except MissingPackage as missing:
        return Replay(model.path, model.runtime, "skipped", None, tolerances, missing.sentence)
    except DeviceFailed as failure:
        return Replay(
            model.path, model.runtime, "failed", None, tolerances, f"{model.runtime} failed: {failure.message}"
        )
    error = max(largest_error(one, wanted) for one, wanted in zip(outputs, golden, strict=True))
    known = error if np.isfinite(error) else None
    fault = golden_fault(model, outputs, golden, this_machine())
    if fault is not None:
        return Replay(model.path, model.runtime, "failed", known, tolerances, fault)
    detail = f"{len(golden[0])} golden vectors agree"
    return Replay(model.path, model.runtime, "passed", known, tolerances, detail)


def _notes(manifest: Manifest, folder: Path) -> tuple[str, ...]:
    notes = list(manifest.host_dependent)
    if manifest.accelerator is not None and manifest.accelerator.note is not None:
        notes.append(manifest.accelerator.note)
    maker, mine = manifest.tool_versions.get("edgeslim", "unknown"), version("edgeslim")
    known = carried_versions().get(maker)
    if known is None:
        notes.append(
            f"edgeslim {mine} does not know what edgeslim {maker} carries: {', '.join(carried_files())} may have been "
            "changed. They were not run here; read them before you do"
        )
        return tuple(notes)
    for name, digest in known.items():
        copy = folder / name
        if not copy.is_file() or sha256_of(copy) != digest:
            notes.append(
                f"{name} is not that of edgeslim {maker}: it was changed. It was not run here; read it before you do"
            )
    return tuple(notes)


def _load(folder: Path, path: str) -> np.ndarray:
    try:
        array = np.load(folder / path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise IntegrityFailed(f"{folder}: `{path}` is no NumPy array file: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim < 2 or len(array) == 0:
        raise IntegrityFailed(f"{folder}: `{path}` holds no batch of golden vectors")
    return array
