"""What a build made, as a person reads it; cli/ prints what these functions return."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeslim.artifact.archive import archive_path
from edgeslim.artifact.manifest import IntegerLayers, Manifest, ModelFile
from edgeslim.backends import backend_of_artifact
from edgeslim.devices.profile import DeviceProfile, is_this_machine
from edgeslim.measure.measurement import Measurement
from edgeslim.pipeline.latency import DeviceTimes
from edgeslim.report.emulation import time_lines
from edgeslim.report.measurements import latency, measurement_data, place
from edgeslim.table import Table
from edgeslim.tasks.task import measured as measured_value
from edgeslim.units import show_bytes, show_memory

OTHERWISE = {  # what a layer is that is not INT8
    "fp32": "kept in float",
    "fp16": "in float with fp16 weights",
    "w8": "in float with int8 weights",
    "dynamic": "with int8 weights, what it reads ranged at run time where the runtime can",
}


def build_summary(
    folder: Path,
    manifest: Manifest,
    profile: DeviceProfile,
    measured: Sequence[Measurement],
    warnings: Sequence[str],
    times: DeviceTimes,
    data_read: str | None = None,
    in_float: Sequence[str] = (),
    costs: str | None = None,
) -> Table:
    """Return what a build made: each file before (fp32) and after (INT8), then data, warnings and where it lies."""
    here = {m.label: m for m in measured}
    metric = manifest.models[0].quality.metric
    kind = metric if manifest.data.labelled else f"{metric} as fp32"
    quality = (f"{kind}, 95 % interval", "agrees with fp32")
    columns = ("format", "precision", "size", *quality, "int8 layers", "median latency*", "peak RSS*")
    models = sorted(manifest.models, key=lambda m: (m.format, ("fp32", "fp16", "int8").index(m.precision)))
    rows = tuple(_row(model, here.get(f"{model.format} {model.precision}")) for model in models)
    data = manifest.data
    lines = [
        f"* measured on {place(measured, profile.name, here=is_this_machine(profile))}" if measured else "",
        *time_lines(times, profile.title),
        f"data: {data.source}: {data.calibration} images calibrate, {data.selection} select, {data.evaluation} judge"
        + (
            "; SYNTHETIC: they say nothing about accuracy, and the accuracy gate was not applied"
            if data.synthetic
            else ""
        ),
        *([] if data_read is None else [data_read]),
        f"model: {_change(manifest.model.original_parameters, manifest.model.parameters)} parameters, "
        f"{_change(manifest.model.original_macs, manifest.model.macs)} MACs for an image",
        *([] if costs is None else [costs]),
        *(
            f"{pair} agree on {share:.2f} % of the images"
            for pair, share in manifest.agreement_between_formats_pct.items()
        ),
        *backend_of_artifact(manifest).lines(manifest),
        *_not_int8(models),
        *in_float,
        f"primary: {manifest.primary or 'none'}",
        *(f"warning: {warning}" for warning in warnings),
        f"artifact: {folder}",
        f"archive:  {archive_path(folder)}",
        *_next_commands(folder, manifest, profile),
    ]
    return Table(
        f"{manifest.artifact.name} {manifest.artifact.version}: {manifest.status}",
        columns,
        rows,
        tuple(line for line in lines if line),
        whole=frozenset(columns) - {columns[3], columns[6]},  # the interval and the latency, which may break
        bold=frozenset(place for place, model in enumerate(models) if model.path == manifest.primary),
        ends=frozenset(place for place, model in enumerate(models) if model.precision == "int8"),
    )


def _next_commands(folder: Path, manifest: Manifest, profile: DeviceProfile) -> list[str]:
    """Return what to type next, in lines that can be copied."""
    path = shlex.quote(str(folder))
    bench = f"edgeslim bench {path}" + ("" if is_this_machine(profile) else " --on ssh://USER@BOARD")
    commands = [f"edgeslim inspect {path}"] if manifest.status == "rejected" else []
    commands += [bench] if profile.transport != "none" else []
    commands += [f"edgeslim verify {shlex.quote(str(archive_path(folder)))}"]
    return [f"{'next: ' if place == 0 else '      '}{command}" for place, command in enumerate(commands)]


def _row(model: ModelFile, measured: Measurement | None) -> tuple[str, ...]:
    """Return what is known of one file."""
    quality, layers = model.quality, model.integer_layers
    return (
        model.format,
        model.precision,
        show_bytes(model.bytes),
        f"{measured_value(quality.value, quality.unit)} ({quality.ci95[0]:.4g} to {quality.ci95[1]:.4g})",
        "" if quality.agreement_with_fp32_pct is None else f"{quality.agreement_with_fp32_pct:.2f} %",
        _proven(layers) if model.precision == "int8" else "",
        latency(measured) if measured else "not measured",
        show_memory(measured.peak_rss_bytes) if measured else "not measured",
    )


def _proven(layers: IntegerLayers | None) -> str:
    """Return how many of all layers a runtime showed to run on integers."""
    return "not seen" if layers is None else f"{layers.proven} of {layers.layers}"


def _not_int8(models: Sequence[ModelFile]) -> list[str]:
    """Return a line that names every layer that is not INT8, with what it is and why; none where all are."""
    others = next((model.integer_layers.others for model in models if model.integer_layers), ())
    kinds: dict[tuple[str, str], list[str]] = {}
    for one in others:
        kinds.setdefault((one.precision, one.why), []).append(one.layer)
    told = [f"{', '.join(names)} {OTHERWISE[kind]} ({why})" for (kind, why), names in kinds.items()]
    return [f"layers that are not int8: {'; '.join(told)}"] if told else []


def _change(before: int, after: int) -> str:
    return f"{after:,}" if before == after else f"{before:,} to {after:,}"


def summary_data(
    manifest: Manifest, measured: Sequence[Measurement], warnings: Sequence[str], times: DeviceTimes
) -> dict[str, Any]:
    """Return the build's summary as JSON can hold it."""
    section = manifest.accelerator
    return {
        "status": manifest.status,
        "reasons": list(manifest.reasons),
        "primary": manifest.primary,
        "device": manifest.compatible.device,
        "agreement_between_formats_pct": manifest.agreement_between_formats_pct,
        "models": [model.model_dump(mode="json") for model in manifest.models],
        "data": manifest.data.model_dump(mode="json"),
        **({} if section is None else {section.KEY: section.model_dump(mode="json")}),
        "measurements": [measurement_data(one) for one in measured],
        "on_the_device": [asdict(one) for one in times.simulations],
        "not_on_the_device": list(times.missing),
        "warnings": list(warnings),
    }
