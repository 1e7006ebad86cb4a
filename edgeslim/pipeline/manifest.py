"""The manifest of a build."""

import json
import platform
from collections.abc import Sequence
from itertools import combinations
from types import ModuleType
from typing import Any, Literal

from edgeslim.artifact.manifest import (
    ArtifactName,
    Compatible,
    DataUsed,
    IntegerLayers,
    Manifest,
    ModelFile,
    OtherLayer,
    OutputSpec,
    Quality,
    SourceModel,
    Task,
    TensorSpec,
)
from edgeslim.backends import backend_named, known_backends
from edgeslim.compress.distill.step import gained
from edgeslim.deploy.installed import runtime_available, version_of
from edgeslim.devices.profile import profile_sha256
from edgeslim.export.evaluation.run import PARITY_IMAGES, Judged, known_failures
from edgeslim.export.job import INPUT
from edgeslim.formats import RUNTIMES, Io, RuntimeName
from edgeslim.grid import Grid
from edgeslim.model.graph import macs_of
from edgeslim.model.load import name_of
from edgeslim.model.numerics import Numerics
from edgeslim.pipeline.golden import golden_path, input_grid, output_grid, tolerance_of
from edgeslim.pipeline.result import Built

VERSION = "1.0.0"
# What the axes of an output are called, by their number: every file keeps the network's own order.
LAYOUTS: dict[int, Literal["NC", "NCHW"]] = {2: "NC", 4: "NCHW"}
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


def manifest_of(made: Built) -> Manifest:
    """Return the manifest of a build, without the hashes of its files."""
    model, profile, data = made.stages.given, made.profile, made.data
    macs, section = macs_of(made.stages.final.graph), made.delivery.section
    accelerator: dict[str, Any] = {} if section is None else {section.KEY: section}
    return Manifest(
        artifact=ArtifactName(name=_name(made), version=VERSION),
        compatible=Compatible(
            device=profile.name,
            title=profile.title,
            architecture=profile.architecture,
            soc=profile.soc,
            profile_sha256=profile_sha256(profile),
        ),
        status="rejected" if made.reasons else "accepted",
        reasons=tuple(made.reasons),
        not_judged=made.not_judged,
        model=SourceModel(
            source=model.source,
            weights_sha256=model.weights_sha256(),
            parameters=made.stages.final.parameters,
            macs=macs,
            flops=2 * macs,
            original_parameters=model.parameters,
            original_macs=macs_of(model.graph),
            inputs=(_input(model.input_shape, "NCHW"),),
            origin=made.provenance.origin,
            licence=made.provenance.licence,
        ),
        task=Task(name=model.task_name, labels=model.labels or data.labels or ()),
        preprocessing=model.preprocessing,
        data=DataUsed(
            calibration=len(data.calibration),
            selection=len(data.selection),
            evaluation=len(data.evaluation),
            source=data.source,
            synthetic=data.synthetic,
            labelled=data.labelled,
            how_read=data.how_read,
        ),
        models=tuple(_model_file(one, made) for one in made.judged),
        **accelerator,
        primary=made.delivery.primary,
        recipe=json.loads(made.recipe.model_dump_json()),
        numerics="numerics.json",
        ledger="ledger.json",
        tool_versions={"python": platform.python_version(), **_versions()},
        agreement_between_formats_pct=agreement_between_formats(made.judged, model.task),
        error_by_depth=made.error_by_depth,
        in_float=tuple(made.in_float),
        costs=made.costs,
        training=gained(made.stages.final),
        warnings=tuple(made.warnings),
        known_failures=tuple(known_failures(made.judged, profile)),
        host_dependent=tuple(
            told
            for one in made.judged
            if one.job.precision == "int8" and (told := RUNTIMES[one.runtime].host_dependent)
        ),
    )


def agreement_between_formats(judged: Sequence[Judged], task: ModuleType) -> dict[str, float]:
    """Return for each pair of INT8 files on how many of the evaluation images they answer the same, in percent."""
    files = [one for one in judged if one.job.precision == "int8"]
    return {
        f"{a.job.format} and {b.job.format}": task.agreement_pct(a.outputs, b.outputs)
        for a, b in combinations(files, 2)
    }


def _model_file(one: Judged, made: Built) -> ModelFile:
    shape = made.stages.given.input_shape
    channels_last = RUNTIMES[one.runtime].channels_last
    support = made.profile.runtime(one.runtime)
    grid, io = input_grid(one), one.job.io
    last = (shape[0], shape[2], shape[3], shape[1])
    taken = _input(last, "NHWC", grid, io) if channels_last else _input(shape, "NCHW", grid, io)
    return ModelFile(
        format=one.job.format,
        runtime=one.runtime,
        min_runtime_version=support.min_version if support else made_with(one.runtime),
        precision=one.job.precision,  # type: ignore[arg-type] # checked by pydantic
        path=one.path,
        companions=tuple(f"{one.folder}/{file.name}" for file in one.job.files[1:]),
        bytes=one.size_bytes,
        inputs=(taken,),
        outputs=tuple(_output(one, place, made) for place in range(len(one.outputs))),
        quality=Quality(
            kind=one.score.kind,  # type: ignore[arg-type]
            metric=one.score.metric,
            value=one.score.value,
            unit=one.score.unit,
            ci95=one.score.interval,
            more=dict(one.score.more),
            images=one.score.images,
            agreement_with_fp32_pct=one.agreement_pct if one.job.precision != "fp32" else None,
            sqnr_images=min(PARITY_IMAGES, one.score.images),
        ),
        integer_layers=_integer_layers(one, made.stages.final.numerics),
        reference_kernels=made.delivery.reference_kernels.get(one.label),
    )


def _integer_layers(one: Judged, numerics: Numerics | None) -> IntegerLayers | None:
    if one.planned is None or one.proven is None or numerics is None:
        return None
    where = f"{one.runtime} {made_with(one.runtime)} on {platform.machine()}"
    others = tuple(
        OtherLayer(layer=layer.module, precision=layer.precision, why=layer.why)  # type: ignore[arg-type] # checked by pydantic
        for layer in numerics.layers.values()
        if layer.precision != "int8"
    )
    return IntegerLayers(planned=one.planned, proven=len(one.proven), proven_on=where, others=others)


def _input(
    shape: tuple[int, ...], layout: Literal["NHWC", "NCHW"], grid: Grid | None = None, dtype: Io = "float32"
) -> TensorSpec:
    scale, zero_point = (None, None) if grid is None else (grid.scale, grid.zero_point)
    return TensorSpec(name=INPUT, shape=shape, dtype=dtype, layout=layout, scale=scale, zero_point=zero_point)


def _output(one: Judged, place: int, made: Built) -> OutputSpec:
    name, shape = one.job.outputs[place], (1, *one.outputs[place].shape[1:])
    scale, zero_point = output_grid(one, place, made) or (None, None)
    return OutputSpec(
        name=name,
        shape=shape,
        dtype=one.job.io,
        layout=LAYOUTS.get(len(shape)),
        scale=scale,
        zero_point=zero_point,
        golden=golden_path(one, name),
        tolerance=tolerance_of(one, place, made),
        sqnr_db=one.sqnr_db[place],
    )


def made_with(runtime: RuntimeName) -> str:
    """Return the installed version of a runtime for a device whose profile names no minimum."""
    return str(runtime_available(runtime))


def _versions() -> dict[str, str]:
    accelerators = [package for name in known_backends() for package in backend_named(name).CHECKS]
    return {name: found for name in (*TOOLS, *accelerators) if (found := version_of(name))}


def _name(made: Built) -> str:
    return f"{name_of(made.stages.given.source)}-{made.profile.name}"
