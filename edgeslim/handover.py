"""What goes into an artifact's folder: model files, golden vectors, the plan, the recipe, the model card, licences."""

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeslim.artifact import MEASUREMENTS, write_example
from edgeslim.bundled import default_model_folder
from edgeslim.data import Data, ImageSet
from edgeslim.device_profile import DeviceProfile, profile_sha256
from edgeslim.graph import macs_of
from edgeslim.judge import Judged
from edgeslim.ledger import save_spellings
from edgeslim.manifest import (
    GOLDEN_IMAGES,
    GOLDEN_INPUTS,
    ArtifactName,
    Compatible,
    DataUsed,
    IntegerLayers,
    LsbTolerance,
    Manifest,
    ModelFile,
    Quality,
    RelativeTolerance,
    SourceModel,
    TensorSpec,
    Tolerance,
)
from edgeslim.measurement import Measurement, save
from edgeslim.model import Model, name_of
from edgeslim.numerics import Numerics
from edgeslim.preprocessing import preprocess_batch
from edgeslim.recipe import Recipe

VERSION = "1.0.0"
GOLDEN_COUNT = 8
# ONNX Runtime and LiteRT compute INT8 alike to the bit; OpenVINO adds in float and chooses kernels by CPU.
GOLDEN_LSB = {"onnxruntime": 1, "litert": 1, "openvino": 2}
TOOLS = (
    "edgeslim",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
)
NO_VNNI_NOTE = (
    "ONNX Runtime on x86-64 without VNNI saturates uint8 x int8 products: "
    "golden outputs of the INT8 ONNX file may differ there"
)


@dataclass(frozen=True)
class Made:
    """Everything a build made and found, from which the artifact is written."""

    model: Model  # as it was given
    compressed: Model
    data: Data
    recipe: Recipe
    profile: DeviceProfile
    judged: Sequence[Judged]
    measurements: Sequence[Measurement]
    primary: Judged | None
    reasons: Sequence[str]  # why it is rejected; none for an accepted one


def stage(staging: Path, made: Made) -> Manifest:
    """Write everything but the manifest into `staging`; return the manifest, which `artifact.pack` completes."""
    for folder in ("models", "reference", "golden", "LICENSES", MEASUREMENTS):
        (staging / folder).mkdir(parents=True)
    write_example(staging)
    for one in made.judged:
        for file in one.job.files:
            shutil.copyfile(file, staging / _folder(one) / file.name)
    golden = golden_images(made.data.evaluation)
    _write_golden(staging, made, golden)
    numerics = made.compressed.numerics or Numerics({}, {})
    numerics.save(staging / "numerics.json")
    save_spellings({_path(one): one.spelling for one in made.judged if one.rows}, staging / "ledger.json")
    (staging / "recipe.yaml").write_text(made.recipe.text())
    _write_papers(staging, made)
    save(made.measurements, staging / MEASUREMENTS)
    return _manifest(made)


def golden_images(evaluation: ImageSet) -> list[int]:
    """Return which images become golden vectors: the first ones that share the first one's size."""
    raw = evaluation.raw(GOLDEN_COUNT)
    return [i for i, image in enumerate(raw) if image.shape == raw[0].shape]


def _write_golden(staging: Path, made: Made, chosen: list[int]) -> None:
    raw = made.data.evaluation.raw(GOLDEN_COUNT)
    images = np.stack([raw[i] for i in chosen])
    channels_last = preprocess_batch(images, made.model.preprocessing)
    np.save(staging / GOLDEN_IMAGES, images)
    np.save(staging / GOLDEN_INPUTS["NHWC"], channels_last)
    np.save(staging / GOLDEN_INPUTS["NCHW"], np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)))
    for one in made.judged:
        np.save(staging / _golden_outputs(one), one.logits[chosen])


def _write_papers(staging: Path, made: Made) -> None:
    """Write model card, licences and changelog."""
    if made.model.source == "default" and made.model.weights_source == "bundled":
        shutil.copyfile(default_model_folder() / "MODEL_CARD.md", staging / "MODEL_CARD.md")
        shutil.copyfile(default_model_folder() / "LICENSE", staging / "LICENSES" / "Fashion-MNIST-MIT.txt")
    else:
        (staging / "MODEL_CARD.md").write_text(
            f"# {made.model.source}\n\nWeights: {made.model.weights_source}. "
            "Origin, training data and licence of this model were not given to edgeslim: "
            "ask whoever built this artifact.\n"
        )
    steps = "\n".join(f"- {line}" for line in made.compressed.history)
    (staging / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## {VERSION}\n\nBuilt from `{made.model.source}`:\n\n{steps}\n"
    )


def _manifest(made: Made) -> Manifest:
    model, profile, data = made.model, made.profile, made.data
    macs = macs_of(made.compressed.graph)
    labels = model.labels or tuple(str(i) for i in range(model.classes))
    return Manifest(
        artifact=ArtifactName(name=_name(made), version=VERSION),
        compatible=Compatible(
            device=profile.name,
            architecture=profile.architecture,
            soc=profile.soc,
            profile_sha256=profile_sha256(profile),
        ),
        status="rejected" if made.reasons else "accepted",
        reasons=tuple(made.reasons),
        model=SourceModel(
            source=model.source,
            weights_sha256=model.weights_sha256(),
            parameters=made.compressed.parameters,
            macs=macs,
            flops=2 * macs,
            classes=model.classes,
            inputs=(_tensor("input", model.input_shape, "NCHW"),),
        ),
        labels=labels,
        preprocessing=model.preprocessing,
        data=DataUsed(
            calibration=len(data.calibration),
            selection=len(data.selection),
            evaluation=len(data.evaluation),
            source=data.source,
            synthetic=data.synthetic,
            labelled=data.labelled,
        ),
        models=tuple(_model_file(one, made) for one in made.judged),
        primary=_path(made.primary) if made.primary else None,
        recipe=json.loads(made.recipe.model_dump_json()),
        numerics="numerics.json",
        ledger="ledger.json",
        tool_versions={"python": platform.python_version(), **_versions()},
        host_dependent=(NO_VNNI_NOTE,) if any(one.label == "onnx int8" for one in made.judged) else (),
    )


def _model_file(one: Judged, made: Made) -> ModelFile:
    shape = made.model.input_shape
    channels_last = one.job.format == "tflite"
    support = made.profile.runtime(one.runtime)
    return ModelFile(
        format=one.job.format,
        runtime=one.runtime,
        min_runtime_version=support.min_version if support else made_with(one.runtime),
        precision=one.job.precision,  # type: ignore[arg-type] # checked by pydantic
        path=_path(one),
        companions=tuple(f"{_folder(one)}/{file.name}" for file in one.job.files[1:]),
        bytes=one.size_bytes,
        inputs=(
            _tensor(
                "input",
                (shape[0], shape[2], shape[3], shape[1]) if channels_last else shape,
                "NHWC" if channels_last else "NCHW",
            ),
        ),
        outputs=(_tensor("logits", (1, made.model.classes), "NC"),),
        quality=Quality(
            kind=one.score.kind,  # type: ignore[arg-type]
            top1_pct=one.score.top1_pct,
            top5_pct=one.score.top5_pct,
            ci95_pct=one.score.ci95_pct,
            images=one.score.images,
            agreement_with_fp32_pct=one.agreement_pct if one.job.precision == "int8" else None,
            sqnr_db=one.sqnr_db,
        ),
        integer_layers=IntegerLayers(planned=one.planned, proven=len(one.proven or ()))
        if one.planned is not None
        else None,
        golden_outputs=_golden_outputs(one),
        tolerance=_tolerance(one, made.compressed.numerics),
    )


def _tolerance(one: Judged, numerics: Numerics | None) -> Tolerance:
    """INT8 files whose logits lie on a grid may be off by steps of it; all others by a share of their size."""
    peak = float(np.abs(one.logits).max())
    last = list(numerics.layers.values())[-1].output if numerics else None
    held = next((row for row in one.rows if row.name == last and row.kind == "edge" and row.held_scale), None)
    if one.job.precision == "int8" and held is not None and held.held_scale:
        return LsbTolerance(lsb=GOLDEN_LSB[one.runtime], scale=held.held_scale)
    return RelativeTolerance(rtol=1e-3, atol=float(f"{1e-4 * peak:.3g}"))


def _tensor(name: str, shape: tuple[int, ...], layout: str) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype="float32", layout=layout)  # type: ignore[arg-type] # checked by pydantic


def made_with(package: str) -> str:
    """Return the installed version of a runtime for a device whose profile names no minimum."""
    return importlib.metadata.version({"litert": "ai-edge-litert"}.get(package, package))


def _versions() -> dict[str, str]:
    found = {}
    for name in TOOLS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _name(made: Made) -> str:
    return f"{name_of(made.model.source)}-{made.profile.name}"


def _folder(one: Judged) -> str:
    """The files meant for the device lie in models/, the float ones they are compared with in reference/."""
    return "models" if one.job.precision == "int8" else "reference"


def _path(one: Judged) -> str:
    return f"{_folder(one)}/{one.job.target.name}"


def _golden_outputs(one: Judged) -> str:
    return f"golden/outputs_{one.job.format}_{one.job.precision}.npy"
