"""Tables and summaries as a person reads them; `cli.py` prints what these functions return."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeslim.artifact.archive import archive_path
from edgeslim.artifact.manifest import Manifest
from edgeslim.artifact.verify import VerifyReport
from edgeslim.backends.ethos_u.tables import compiled_lines
from edgeslim.backends.tensorrt.tables import gpu_lines
from edgeslim.devices.profile import DeviceProfile, Fact, describe, is_this_machine
from edgeslim.doctor import Finding
from edgeslim.export.evaluation.ledger import Row
from edgeslim.formats import FORMATS
from edgeslim.inspection import DepthRow, Inspection
from edgeslim.measure.measurement import Measurement
from edgeslim.model.trials import Trial, pareto
from edgeslim.pipeline.latency import DeviceTimes
from edgeslim.show_emulation import time_lines
from edgeslim.show_measurements import latency, measurement_data, place
from edgeslim.units import show_bytes, show_seconds


def build_summary(
    folder: Path, manifest: Manifest, profile: DeviceProfile, measured: Sequence[Measurement],
    warnings: Sequence[str], times: DeviceTimes, class_order: str | None = None,
) -> RenderableType:  # fmt: skip
    """Return what a build made: each file before (fp32) and after (INT8), then data, warnings and where it lies."""
    here = {m.label: m for m in measured}
    table = Table(
        title=f"{manifest.artifact.name} {manifest.artifact.version}: {manifest.status}", title_justify="left"
    )
    kind = "top-1" if manifest.data.labelled else "agreement with fp32"
    for column in (
        "format",
        "precision",
        "size",
        f"{kind}, 95 % interval",
        "as fp32",
        "int8 layers",
        "latency*",
        "memory*",
    ):
        table.add_column(column, no_wrap=True)
    for model in sorted(manifest.models, key=lambda m: (m.format, ("fp32", "fp16", "int8").index(m.precision))):
        one = here.get(f"{model.format} {model.precision}")
        quality, layers = model.quality, model.integer_layers
        table.add_row(
            model.format,
            model.precision,
            show_bytes(model.bytes),
            f"{quality.top1_pct:.2f} % ({quality.ci95_pct[0]:.2f} to {quality.ci95_pct[1]:.2f})",
            "" if quality.agreement_with_fp32_pct is None else f"{quality.agreement_with_fp32_pct:.2f} %",
            "" if layers is None else f"{layers.proven} of {layers.planned}",
            latency(one) if one else "not measured",
            show_bytes(one.peak_rss_bytes) if one else "not measured",
            style="bold" if model.path == manifest.primary else "",
            end_section=model.precision == "int8",
        )
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
        *([] if class_order is None else [f"classes: {class_order}"]),
        f"model: {_change(manifest.model.original_parameters, manifest.model.parameters)} parameters, "
        f"{_change(manifest.model.original_macs, manifest.model.macs)} MACs for an image",
        *(
            f"{pair} agree on {share:.2f} % of the images"
            for pair, share in manifest.agreement_between_formats_pct.items()
        ),
        *compiled_lines(manifest),
        *gpu_lines(manifest),
        f"primary: {manifest.primary or 'none'}",
        *(f"warning: {warning}" for warning in warnings),
        f"artifact: {folder}",
        f"archive:  {archive_path(folder)}",
    ]
    return Group(table, *(Text(line) for line in lines if line))


def _change(before: int, after: int) -> str:
    return f"{after:,}" if before == after else f"{before:,} to {after:,}"


def ledger_table(rows: Mapping[str, Sequence[Row]], *, everything: bool) -> RenderableType:
    """Return the ledger: a count for each file and the rows that depart from the plan, or all of them."""
    parts: list[RenderableType] = []
    for path, lines in rows.items():
        count = {state: sum(row.state == state for row in lines) for state in ("same", "absent", "differs")}
        unexplained = sum(row.unexplained for row in lines)
        parts.append(
            Text(
                f"{path}: {count['same']} as planned, {count['absent']} absent, {count['differs']} differ; "
                f"{unexplained} without a stated reason",
                style="bold",
            )
        )
        shown = [row for row in lines if everything or row.state != "same"]
        if shown:
            parts.append(_ledger_rows(shown))
    return Group(*parts) if parts else Text("this artifact holds no INT8 files")


def _ledger_rows(rows: Sequence[Row]) -> Table:
    table = Table()
    for column in ("", "name", "planned", "operator", "held", "state", "reason"):
        table.add_column(column)
    for row in rows:
        held = "" if row.held_scale is None else f"{row.held_dtype} {row.held_scale:.6g} zp {row.held_zero_point}"
        table.add_row(
            row.kind, row.name, f"{row.planned_dtype} {row.planned_scale:.6g} zp {row.planned_zero_point}",
            row.held_operator or "", held, row.state, row.reason or "",
        )  # fmt: skip
    return table


def depth_table(rows: Sequence[DepthRow], images: int) -> RenderableType:
    """Return where quantization errs: a line a layer, what it adds alone and what has gathered at its output."""
    if not rows:
        return Text("this artifact notes no error by depth")
    formats = [name for name in FORMATS if any(name in row.error.exported_db for row in rows)]
    table = Table(title="quantization error by depth: SQNR in dB, higher is better", title_justify="left")
    for column in ("layer", "module"):
        table.add_column(column, overflow="fold")
    for column in ("alone", "cumulative", "change", *formats):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("own share of the noise", no_wrap=True)
    before = None
    for row in rows:
        one = row.error
        table.add_row(
            one.name, row.module, _decibels(one.layer_db, "float"), _decibels(one.cumulative_db),
            "" if before is None else f"{one.cumulative_db - before:+.1f}",
            *(_decibels(one.exported_db.get(name)) for name in formats), _share(row.own_share_pct),
        )  # fmt: skip
        before = one.cumulative_db
    missing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, why in row.why_none.items():
            missing.setdefault((name, why), []).append(row.error.name)
    return Group(
        table,
        Text(
            f"alone, cumulative: simulated; the formats: their INT8 files in their runtimes; against the float network "
            f"before quantization at the layer's output, first {images} images of the selection set"
        ),
        *(Text(f"none in {name} for {', '.join(layers)}: {why}") for (name, why), layers in missing.items()),
    )


def _decibels(value: float | None, otherwise: str = "none") -> str:
    return otherwise if value is None else f"{value:.1f}"


def _share(percent: float | None) -> str:
    """Return a share as a bar of ten and a number."""
    return "" if percent is None else f"{'█' * round(percent / 10):<10} {percent:3.0f} %"


def inspection_data(found: Inspection) -> dict[str, Any]:
    """Return an inspection as JSON can hold it."""
    return {
        "ledger": {path: [vars(row) for row in rows] for path, rows in found.ledger.items()},
        "error_by_depth": {
            "images": found.error_images,
            "layers": [
                {
                    "module": row.module,
                    **row.error.model_dump(),
                    "own_share_pct": row.own_share_pct,
                    "why_none": dict(row.why_none),
                }
                for row in found.error_by_depth
            ],
        },
        "half_precision": [{"planned": row.planned.model_dump(mode="json"), "held": row.held} for row in found.half],
        "pruning_trials": [asdict(trial) for trial in found.trials],
        "simulated": None if found.simulation is None else asdict(found.simulation),
    }


def trials_table(trials: Sequence[Trial]) -> RenderableType:
    """Return what pruning tried, the slowest first; a star where no other trial is both as fast and as accurate."""
    if not trials:
        return Text("no pruned networks were tried, or this is an archive: times lie beside it, in the folder")
    table = Table(title="pruned networks that were tried (* Pareto)", title_justify="left")
    how = "estimated for the device" if trials[0].estimated else "measured where it was built"
    table.add_column(f"INT8 time, by single operators, {how}")
    for column in ("MACs", "parameters", "top-1 lost", "at most (95 %)"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("", "without"):
        table.add_column(column, no_wrap=True)
    best = pareto(trials)
    for one in sorted(trials, key=lambda trial: -trial.latency_s):
        gone = ", ".join(name for name, width in one.widths.items() if not width)
        table.add_row(
            f"{show_seconds(one.latency_s)}{' *' if one in best else ''}", f"{one.macs:,}", f"{one.parameters:,}",
            f"{one.drop_points:+.2f} points", f"{one.drop_at_most_points:+.2f} points",
            "accepted" if one.accepted else "loses too much", gone,
        )  # fmt: skip
    return table


def verify_text(report: VerifyReport) -> RenderableType:
    """Return what verification found, file by file."""
    table = Table(title=f"{report.name} {report.version}: {report.files} files hashed", title_justify="left")
    for column in ("model", "runtime", "golden vectors", "largest error", "detail"):
        table.add_column(column)
    for one in report.replays:
        error = "" if one.max_abs_error is None else f"{one.max_abs_error:.3g}"
        table.add_row(one.model, one.runtime, one.status, error, one.detail)
    return Group(table, *(Text(note) for note in report.notes))


def verify_data(report: VerifyReport) -> dict[str, Any]:
    """Return what verification found as JSON can hold it."""
    replays = [{**vars(one), "tolerance": one.tolerance.model_dump()} for one in report.replays]
    return {**vars(report), "replays": replays, "failures": list(report.failures)}


def devices_table(profiles: Sequence[DeviceProfile]) -> RenderableType:
    """Return one line a device."""
    table = Table()
    for column in ("device", "aliases", "class", "SoC", "runtimes, preferred first"):
        table.add_column(column)
    for one in profiles:
        runtimes = ", ".join(f"{r.name} ({', '.join(r.precisions)})" for r in one.runtimes)
        table.add_row(one.name, ", ".join(one.aliases), one.device_class, one.soc or "", runtimes)
    return table


def facts_table(profile: DeviceProfile) -> RenderableType:
    """Return everything known about a device, each fact with its source."""
    table = Table(title=f"{profile.name}: {profile.title}", title_justify="left")
    for column in ("", "fact", "value", "source"):
        table.add_column(column, overflow="fold")
    section = None
    for fact in describe(profile):
        table.add_row(fact.section if fact.section != section else "", *_fact(fact))
        section = fact.section
    return table


def _fact(fact: Fact) -> tuple[str, str, str]:
    return fact.name, fact.value, fact.source or ""


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """Return what is installed and usable, with the command that would enable what is not."""
    table = Table()
    for column in ("", "what", "detail", "to enable it"):
        table.add_column(column)
    for one in findings:
        table.add_row(one.state, one.what, one.detail, one.cure or "")
    return table


def summary_data(
    manifest: Manifest, measured: Sequence[Measurement], warnings: Sequence[str], times: DeviceTimes
) -> dict[str, Any]:
    """Return the build's summary as JSON can hold it."""
    return {
        "status": manifest.status,
        "reasons": list(manifest.reasons),
        "primary": manifest.primary,
        "device": manifest.compatible.device,
        "agreement_between_formats_pct": manifest.agreement_between_formats_pct,
        "models": [model.model_dump(mode="json") for model in manifest.models],
        "data": manifest.data.model_dump(mode="json"),
        "gpu": None if manifest.gpu is None else manifest.gpu.model_dump(mode="json"),
        "compiled": None if manifest.compiled is None else manifest.compiled.model_dump(mode="json"),
        "measurements": [measurement_data(one) for one in measured],
        "on_the_device": [asdict(one) for one in times.simulations],
        "not_on_the_device": list(times.missing),
        "warnings": list(warnings),
    }
