"""What goes into an artifact's folder: model files, golden vectors, the plan, the recipe, the model card, licences."""

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from edgeslim.artifact.archive import MEASUREMENTS, write_example
from edgeslim.artifact.manifest import (
    GOLDEN_CODES,
    GOLDEN_HALVES,
    GOLDEN_IMAGES,
    GOLDEN_INPUTS,
    ArtifactName,
    Compatible,
    DataUsed,
    ErrorByDepth,
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
from edgeslim.artifact.records import save
from edgeslim.artifact.sections import GpuFiles, HalfCheck
from edgeslim.backends.ethos_u.build import NpuFile
from edgeslim.backends.ethos_u.section import compiled_file, compiled_path, copy_compiled, simulation
from edgeslim.backends.ethos_u.simulation import save_simulation
from edgeslim.backends.tensorrt.section import copy_builder, gpu_files
from edgeslim.devices.profile import DeviceProfile, profile_sha256
from edgeslim.emulation.inference import EmulatedInference
from edgeslim.export.evaluation.ledger import save_spellings
from edgeslim.export.evaluation.run import PARITY_IMAGES, Judged, known_failures
from edgeslim.grid import Grid
from edgeslim.measure.measurement import Measurement
from edgeslim.model.graph import macs_of, output_of
from edgeslim.model.load import name_of
from edgeslim.model.model import Model
from edgeslim.model.numerics import Numerics
from edgeslim.model.trials import save_trials
from edgeslim.recipe import Recipe
from edgeslim.resources import bundled, default_model_folder
from edgeslim.tasks.classification import agreement_pct
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.tasks.preprocessing import preprocess_batch

VERSION = "1.0.0"
EMULATED = "emulated"  # the folder of what was counted, beside that of what was measured
GOLDEN_COUNT, GOLDEN_SEARCHED = 8, 256
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
    "ethos-u-vela",
    "tflite-micro",
)
# Label of a file -> what its outputs depend on beside the file.
HOST_DEPENDENT = {
    "onnx int8": "ONNX Runtime on x86-64 without VNNI saturates sums of uint8 x int8 products unless a session sets "
    "`session.x64quantprecision` to `1`, as run.py does: without it outputs of the INT8 ONNX file differ there",
    "openvino int8": "OpenVINO on x86-64 without VNNI saturates sums of uint8 x int8 products: outputs of the INT8 "
    "OpenVINO file differ there",
}


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
    error_by_depth: ErrorByDepth | None  # None where nothing was quantized
    npu: NpuFile | None = None  # of a device with an NPU
    half: HalfCheck | None = None  # of one with a GPU
    simulations: Sequence[EmulatedInference] = ()  # on the device's emulated core


def stage(staging: Path, made: Made) -> Manifest:
    """Write everything but the manifest into `staging`; return the manifest, which `artifact.pack` completes."""
    for folder in ("models", "reference", "golden", "LICENSES", MEASUREMENTS):
        (staging / folder).mkdir(parents=True)
    write_example(staging)
    for one in made.judged:
        for file in one.job.files:
            shutil.copyfile(file, staging / _folder(one) / file.name)
    if made.npu is not None:
        copy_compiled(made.npu, staging)
        save_simulation(simulation(made.npu, made.profile.name), staging / MEASUREMENTS)
    if made.half is not None:
        copy_builder(staging)
    golden = golden_images(made.data.evaluation)
    _write_golden(staging, made, golden)
    numerics = made.compressed.numerics or Numerics({}, {})
    numerics.save(staging / "numerics.json")
    save_spellings({_path(one): one.spelling for one in made.judged if one.rows}, staging / "ledger.json")
    (staging / "recipe.yaml").write_text(made.recipe.text())
    _write_papers(staging, made)
    save(made.measurements, staging / MEASUREMENTS)
    if made.simulations:
        save(made.simulations, staging / MEASUREMENTS / EMULATED)
    save_trials(made.compressed.trials, staging / MEASUREMENTS)
    return _manifest(made)


def golden_images(evaluation: ImageSet) -> list[int]:
    """Return which images become golden vectors: the first eight of the size most frequent among the first 256."""
    shapes = [image.shape for image in evaluation.raw(GOLDEN_SEARCHED)]
    wanted = max(set(shapes), key=shapes.count)
    return [i for i, shape in enumerate(shapes) if shape == wanted][:GOLDEN_COUNT]


def _write_golden(staging: Path, made: Made, chosen: list[int]) -> None:
    raw = made.data.evaluation.raw(max(chosen) + 1)
    images = np.stack([raw[i] for i in chosen])
    channels_last = preprocess_batch(images, made.model.preprocessing)
    np.save(staging / GOLDEN_IMAGES, images)
    np.save(staging / GOLDEN_INPUTS["NHWC"], channels_last)
    np.save(staging / GOLDEN_INPUTS["NCHW"], np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)))
    for one in made.judged:
        taken, given = grids_of(one)
        if taken is not None:
            np.save(staging / GOLDEN_CODES, taken.codes(channels_last))
        outputs = one.logits[chosen]
        if one.job.io == "float16":
            halves = np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)).astype(np.float16)
            np.save(staging / GOLDEN_HALVES, halves)
            outputs = outputs.astype(np.float16)
        np.save(staging / _golden_outputs(one), outputs if given is None else given.codes(outputs))


def _write_papers(staging: Path, made: Made) -> None:
    """Write model card, licences and changelog."""
    shutil.copyfile(bundled("LICENSE"), staging / "LICENSES" / "edgeslim-Apache-2.0.txt")  # run.py, preprocessing.py
    if made.model.source == "default":
        shutil.copyfile(default_model_folder() / "LICENSE", staging / "LICENSES" / "Fashion-MNIST-MIT.txt")
    if made.model.source == "default" and made.model.weights_source == "bundled":
        shutil.copyfile(default_model_folder() / "MODEL_CARD.md", staging / "MODEL_CARD.md")
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
    labels = model.labels or data.class_names or tuple(str(i) for i in range(model.classes))
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
            original_parameters=model.parameters,
            original_macs=macs_of(model.graph),
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
        gpu=_gpu(made),
        compiled=None if made.npu is None else compiled_file(made.npu, _path(made.npu.made_from)),
        primary=_primary(made),
        recipe=json.loads(made.recipe.model_dump_json()),
        numerics="numerics.json",
        ledger="ledger.json",
        tool_versions={"python": platform.python_version(), **_versions()},
        agreement_between_formats_pct=agreement_between_formats(made.judged),
        error_by_depth=made.error_by_depth,
        known_failures=tuple(known_failures(made.judged, profile)),
        host_dependent=tuple(HOST_DEPENDENT[one.label] for one in made.judged if one.label in HOST_DEPENDENT),
    )


def _gpu(made: Made) -> GpuFiles | None:
    plan = made.compressed.half
    return None if plan is None or made.half is None else gpu_files(plan, made.half, made.profile)


def _primary(made: Made) -> str | None:
    """Return what the device should run: the compiled file where it has an NPU."""
    if made.profile.compiler is not None:
        return None if made.npu is None else compiled_path(made.npu)
    return _path(made.primary) if made.primary else None


def agreement_between_formats(judged: Sequence[Judged]) -> dict[str, float]:
    """Return for each pair of INT8 files on how many of the evaluation images they name the same class, in percent."""
    files = [one for one in judged if one.job.precision == "int8"]
    return {f"{a.job.format} and {b.job.format}": agreement_pct(a.logits, b.logits) for a, b in combinations(files, 2)}


def _model_file(one: Judged, made: Made) -> ModelFile:
    shape = made.model.input_shape
    channels_last = one.job.format == "tflite"
    support = made.profile.runtime(one.runtime)
    taken, given = grids_of(one)
    logits = _logits_grid(one, made) if given is None else (given.scale, given.zero_point)
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
                None if taken is None else (taken.scale, taken.zero_point),
                one.job.io,
            ),
        ),
        outputs=(_tensor("logits", (1, made.model.classes), "NC", logits, one.job.io),),
        quality=Quality(
            kind=one.score.kind,  # type: ignore[arg-type]
            top1_pct=one.score.top1_pct,
            top5_pct=one.score.top5_pct,
            ci95_pct=one.score.ci95_pct,
            images=one.score.images,
            agreement_with_fp32_pct=one.agreement_pct if one.job.precision != "fp32" else None,
            sqnr_db=one.sqnr_db,
            sqnr_images=min(PARITY_IMAGES, one.score.images),
        ),
        integer_layers=_integer_layers(one),
        golden_outputs=_golden_outputs(one),
        tolerance=_tolerance(one, made),
        reference_kernels=made.npu.reference if made.npu is not None and made.npu.made_from is one else None,
    )


def _integer_layers(one: Judged) -> IntegerLayers | None:
    if one.planned is None or one.proven is None:
        return None
    where = f"{one.runtime} {made_with(one.runtime)} on {platform.machine()}"
    return IntegerLayers(planned=one.planned, proven=len(one.proven), proven_on=where)


def _tolerance(one: Judged, made: Made) -> Tolerance:
    """INT8 files whose logits lie on a grid may be off by steps of it; all others by a share of their size."""
    if grids_of(one)[1] is not None:
        return LsbTolerance(lsb=GOLDEN_LSB[one.runtime], scale=1.0)
    grid = _logits_grid(one, made)
    if grid is not None:
        return LsbTolerance(lsb=GOLDEN_LSB[one.runtime], scale=grid[0])
    peak = float(np.abs(one.logits).max())
    if made.half is not None and made.half.simulated_max_error is not None and one.job.precision == "fp16":
        # A GPU rounds to fp16 behind every operator, in an order of its own; ONNX Runtime on a CPU does not.
        atol = max(2 * made.half.simulated_max_error, 1e-3 * peak)
        return RelativeTolerance(rtol=1e-3, atol=float(f"{atol:.3g}"))
    return RelativeTolerance(rtol=1e-3, atol=float(f"{1e-4 * peak:.3g}"))


def _logits_grid(one: Judged, made: Made) -> tuple[float, int] | None:
    """Return scale and zero point of the grid on which an INT8 file's logits lie, None where they lie on none."""
    name = output_of(made.compressed.graph).name
    row = next((row for row in one.rows if row.kind == "edge" and row.name == name), None)
    if row is None or row.held_scale is None or row.held_zero_point is None:
        return None
    return row.held_scale, row.held_zero_point


def grids_of(one: Judged) -> tuple[Grid | None, Grid | None]:
    """Return the grids of a file's int8 input and output, None for what is float."""
    return (None, None) if one.ends is None else (one.ends[0].grid, one.ends[1].grid)


def _tensor(
    name: str, shape: tuple[int, ...], layout: str, grid: tuple[float, int] | None = None, dtype: str = "float32"
) -> TensorSpec:
    scale, zero_point = grid or (None, None)
    return TensorSpec(name=name, shape=shape, dtype=dtype, layout=layout, scale=scale, zero_point=zero_point)  # type: ignore[arg-type] # checked by pydantic


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
    return "reference" if one.job.precision == "fp32" else "models"


def _path(one: Judged) -> str:
    return f"{_folder(one)}/{one.job.target.name}"


def _golden_outputs(one: Judged) -> str:
    return f"golden/outputs_{one.job.format}_{one.job.precision}.npy"
