"""What an artifact says about itself: the models of `manifest.json`, read strictly, and their JSON Schema.

Nothing that depends on the time or on a path of the building machine may enter, so that two builds give equal bytes.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from edgeslim.artifact.format_1 import as_format_2
from edgeslim.artifact.part import Count, Part, Percent, RelativePath
from edgeslim.artifact.sections import CompiledFile, GpuFiles, ReferenceKernels, Sha256
from edgeslim.bounds import MOST_MANIFEST_BYTES, content_of
from edgeslim.errors import IntegrityFailed
from edgeslim.formats import FormatName, RuntimeName
from edgeslim.tasks.preprocessing import Preprocessing

FORMAT: Literal["edgeslim-artifact/2"] = "edgeslim-artifact/2"
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
GOLDEN_IMAGES = "golden/images.npy"
GOLDEN_INPUTS = {"NCHW": "golden/inputs_nchw.npy", "NHWC": "golden/inputs_nhwc.npy"}
GOLDEN_CODES = "golden/inputs_nhwc_int8.npy"  # the same for a file that takes int8
GOLDEN_HALVES = "golden/inputs_nchw_fp16.npy"  # and for one that takes fp16

Positive = Annotated[float, Field(gt=0)]


class ArtifactName(Part):
    """Name and version; together they name the folder inside the archive."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]


class Compatible(Part):
    """The one device this artifact was built for, and the profile that described it."""

    device: str
    title: str | None = None  # what a person calls it; null in artifacts of before it was kept
    architecture: str
    soc: str | None
    profile_sha256: Sha256


class TensorSpec(Part):
    """One input or output; `scale` and `zero_point` give the grid its values lie on, null where there is none.

    An int8 tensor holds the codes: real = scale x (code - zero_point).
    """

    name: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: Literal["float32", "float16", "int8"]
    layout: Literal["NHWC", "NCHW", "NC"] | None  # null where no word is usual
    scale: Positive | None = None
    zero_point: int | None = None

    @model_validator(mode="after")
    def _codes_have_a_grid(self) -> Self:
        if self.dtype == "int8" and (self.scale is None or self.zero_point is None):
            raise ValueError(f"`{self.name}` is int8 and has no scale and zero_point")
        return self

    @property
    def golden_inputs(self) -> str:
        """The file of golden inputs that this input takes."""
        named = {"int8": GOLDEN_CODES, "float16": GOLDEN_HALVES}
        return named.get(self.dtype, GOLDEN_INPUTS[str(self.layout)])


class SourceModel(Part):
    """The model as it was given (`source`, `weights_sha256`, `original_...`), and the costs of the network made of it.

    `macs` for one image, `flops` = 2 x `macs`. `origin` says in words where it came from, `licence` is an SPDX
    expression; null where nobody said.
    """

    source: str
    weights_sha256: Sha256
    parameters: Count
    macs: Count
    flops: Count
    original_parameters: Count
    original_macs: Count
    inputs: tuple[TensorSpec, ...]
    origin: str | None = None
    licence: str | None = None


class Task(Part):
    """What the network is for; `labels` name what it tells apart, in the order of its first output's last axis."""

    name: str
    labels: tuple[str, ...] = ()


class DataUsed(Part):
    """How many images served each purpose; `synthetic` images say nothing about accuracy.

    `how_read`: in words, how they were read, where that had to be decided.
    """

    calibration: Count
    selection: Count
    evaluation: Count
    source: str
    synthetic: bool
    labelled: bool
    how_read: str | None = None


class Quality(Part):
    """What this file answered in its real runtime, in the task's metric: against targets, or the float model's answers.

    `ci95`: the 95 % interval of `value`; `more`: what the task measures besides. `sqnr_images`: on which each output's
    `sqnr_db` was taken.
    """

    kind: Literal["accuracy", "agreement"]
    metric: str
    value: float
    unit: str
    ci95: tuple[float, float]
    more: Annotated[dict[str, float], Field(default_factory=dict)]
    images: Annotated[int, Field(ge=1)]
    agreement_with_fp32_pct: Percent | None
    sqnr_images: Count


class OtherLayer(Part):
    """A layer that was not to run on integers: its name in the network, what it is instead, and why."""

    layer: str
    precision: Literal["dynamic", "w8", "fp16", "fp32"]
    why: str


class IntegerLayers(Part):
    """How many layers were to run on integers, how many the runtime itself showed to do so, and where it did.

    `others`: the layers of the network that were not to; artifacts of older versions do not name them.
    """

    planned: Count
    proven: Count
    proven_on: str
    others: tuple[OtherLayer, ...] = ()

    @property
    def layers(self) -> int:
        """How many layers the network has."""
        return self.planned + len(self.others)


class LsbTolerance(Part):
    """Outputs lie on a grid of step `scale` (1 for int8 codes) and may be `lsb` steps away from the golden ones."""

    kind: Literal["lsb"] = "lsb"
    lsb: Count
    scale: Positive


class RelativeTolerance(Part):
    """Outputs may differ by `atol` + `rtol` x |golden|."""

    kind: Literal["relative"] = "relative"
    rtol: Annotated[float, Field(ge=0)]
    atol: Annotated[float, Field(ge=0)]


Tolerance = Annotated[LsbTolerance | RelativeTolerance, Field(discriminator="kind")]


class OutputSpec(TensorSpec):
    """One output: its golden values, how far a runtime may be from them, and its SQNR against the model in PyTorch."""

    golden: RelativePath
    tolerance: Tolerance
    sqnr_db: float | None


class ModelFile(Part):
    """One model in one format; `bytes` counts `path` and its `companions` (the .bin of an OpenVINO .xml)."""

    format: FormatName
    runtime: RuntimeName
    min_runtime_version: str
    precision: Literal["fp32", "fp16", "int8"]
    path: RelativePath
    companions: tuple[RelativePath, ...] = ()
    bytes: Count
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    quality: Quality
    integer_layers: IntegerLayers | None
    reference_kernels: ReferenceKernels | None = None  # null where they were not installed, or take no such file

    @property
    def label(self) -> str:
        """Format and precision: "onnx int8"."""
        return f"{self.format} {self.precision}"

    @model_validator(mode="after")
    def _takes_one_image_batch(self) -> Self:
        if len(self.inputs) != 1 or self.inputs[0].layout not in GOLDEN_INPUTS:
            raise ValueError("a model takes exactly one input, laid out NHWC or NCHW")
        if len({one.name for one in self.outputs}) != len(self.outputs):
            raise ValueError("two outputs have the same name")
        return self


class LayerError(Part):
    """What quantization does at one layer's output: SQNR in dB against the float network, higher is better.

    `layer_db`: only this layer quantized; null where it stays float. `cumulative_db`: the whole plan simulated.
    `exported_db`: in each INT8 file, run in its runtime; null where it has no such tensor to be read.
    """

    name: str
    layer_db: float | None
    cumulative_db: float
    exported_db: dict[FormatName, float | None]


class ErrorByDepth(Part):
    """How quantization error gathers from layer to layer, in graph order, on the first images of the selection set."""

    images: Annotated[int, Field(ge=1)]
    layers: tuple[LayerError, ...]


class FileEntry(Part):
    """One file of the artifact; all are listed but manifest.json and SHA256SUMS themselves."""

    path: RelativePath
    sha256: Sha256
    bytes: Count


class Manifest(Part):
    """Everything an artifact says about itself; `files` is filled in by `artifact.pack`."""

    format: Literal["edgeslim-artifact/2"] = FORMAT
    artifact: ArtifactName
    compatible: Compatible
    status: Literal["accepted", "rejected"]
    reasons: tuple[str, ...] = ()
    not_judged: str | None = None  # why too few images say nothing of what INT8 loses; null where they do
    model: SourceModel
    task: Task
    preprocessing: Preprocessing
    data: DataUsed
    models: Annotated[tuple[ModelFile, ...], Field(min_length=1)]
    compiled: CompiledFile | None = None  # null for a device without an NPU, or where compiling failed
    gpu: GpuFiles | None = None  # null for a device without a GPU, or where no operator was decided on
    primary: RelativePath | None
    recipe: dict[str, JsonValue]
    numerics: RelativePath
    ledger: RelativePath
    tool_versions: dict[str, str]
    agreement_between_formats_pct: dict[str, Percent]
    error_by_depth: ErrorByDepth | None = None  # null where nothing was quantized
    in_float: tuple[str, ...] = ()  # in words, what INT8 files compute in float
    costs: str | None = None  # in words, what pruning and what INT8 costs; null where nothing was pruned
    training: str | None = None  # in words, what training gave back; null where nothing was trained
    warnings: tuple[str, ...] | None = None  # all that are the same in every run; null where none were kept
    known_failures: tuple[str, ...] = ()
    host_dependent: tuple[str, ...] = ()
    files: tuple[FileEntry, ...] = ()

    def __repr_args__(self) -> list[tuple[str, str]]:
        """Name what it is of; the whole is `model_dump_json`."""
        return [("artifact", f"{self.artifact.name} {self.artifact.version}"), ("status", self.status)]

    @property
    def accelerator(self) -> CompiledFile | GpuFiles | None:
        """What the device's accelerator adds; None for a CPU."""
        return self.compiled or self.gpu

    @property
    def answering(self) -> ModelFile | None:
        """The model file that answers as the primary one does: itself, or what it was compiled from."""
        path, section = self.primary, self.accelerator
        if section is not None and section.compiled_from is not None and section.compiled_from[0] == path:
            path = section.compiled_from[1]
        return next((model for model in self.models if model.path == path), None)

    @property
    def primary_bytes(self) -> int:
        """Bytes of the primary file and its companions, 0 where there is none."""
        compiled = {} if self.accelerator is None else self.accelerator.sizes
        sizes = {model.path: model.bytes for model in self.models} | compiled
        return 0 if self.primary is None else sizes[self.primary]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        paths = [model.path for model in self.models]
        section = self.accelerator
        if section is not None and section.compiled_from is not None:
            made, source = section.compiled_from
            if source not in paths:
                raise ValueError(f"{section.KEY}: `{source}` is none of the models: {', '.join(paths)}")
            paths.append(made)
        if len(set(paths)) != len(paths):
            raise ValueError("two models have the same path")
        if self.primary is not None and self.primary not in paths:
            raise ValueError(f"primary: `{self.primary}` is none of the models: {', '.join(paths)}")
        if (self.status == "rejected") != bool(self.reasons):
            raise ValueError("a rejected artifact has reasons, an accepted one has none")
        names = [[one.name for one in model.outputs] for model in self.models]
        if any(one != names[0] for one in names):
            raise ValueError(f"`{paths[0]}` has the outputs {', '.join(names[0])}, another file has others")
        told = self.models[0].outputs[0].shape[-1]
        if self.task.labels and len(self.task.labels) != told:
            raise ValueError(f"task: {len(self.task.labels)} labels for {told} values of `{names[0][0]}`")
        if self.model.flops != 2 * self.model.macs:
            raise ValueError(f"model: flops is {self.model.flops}; expected 2 x macs = {2 * self.model.macs}")
        return self


def manifest_text(manifest: Manifest) -> str:
    """Return the manifest as canonical JSON: sorted keys, two spaces, one newline at the end."""
    return _canonical(manifest.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of an artifact's folder; IntegrityFailed if it is missing, or names every wrong key."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(as_format_2(content_of(path, MOST_MANIFEST_BYTES)))
    except ValidationError as error:
        problems = "; ".join(_problem(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors())
        raise IntegrityFailed(f"{path}: {problems}") from error
    except ValueError as error:
        raise IntegrityFailed(f"{path}: {error}") from error
    except OSError as error:
        raise IntegrityFailed(f"{folder}: is no artifact, its {MANIFEST} cannot be read: {error.strerror}") from error


def schema_text() -> str:
    """Return the JSON Schema (draft 2020-12) of the manifest, as `manifest.schema.json` holds it."""
    schema = Manifest.model_json_schema(mode="validation")
    return _canonical({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(str(part) for part in location)
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key `{where}`"
    return f"[{where}] {message}" if where else message
