"""What an artifact holds, as a person reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgeslim.artifact.verify import PROVES, VerifyReport
from edgeslim.export.evaluation.ledger import Row
from edgeslim.formats import FORMATS
from edgeslim.model.trials import Trial, pareto
from edgeslim.report.inspection import DepthRow, Inspection
from edgeslim.table import Table
from edgeslim.units import show_seconds


def inspection_view(found: Inspection, *, everything: bool = False) -> list[Table | str]:
    """Return what pruning tried, the error by depth, the accelerator's tables, and the ledger (of `everything`)."""
    return [
        trials_table(found.trials),
        depth_table(found.error_by_depth, found.error_images),
        *found.accelerator.tables,
        *ledger_table(found.ledger, everything=everything),
    ]


def ledger_table(rows: Mapping[str, Sequence[Row]], *, everything: bool) -> list[Table | str]:
    """Return the ledger: a count for each file and the rows that depart from the plan, or all of them."""
    parts: list[Table | str] = []
    for path, lines in rows.items():
        count = {state: sum(row.state == state for row in lines) for state in ("same", "absent", "differs")}
        unexplained = sum(row.unexplained for row in lines)
        parts.append(
            f"{path}: {count['same']} as planned, {count['absent']} absent, {count['differs']} differ; "
            f"{unexplained} without a stated reason"
        )
        shown = [row for row in lines if everything or row.state != "same"]
        if shown:
            parts.append(_ledger_rows(shown))
    return parts or ["this artifact holds no INT8 files"]


def _ledger_rows(rows: Sequence[Row]) -> Table:
    shown = tuple(
        (
            row.kind,
            row.name,
            f"{row.planned_dtype} {row.planned_scale:.6g} zp {row.planned_zero_point}",
            row.held_operator or "",
            "" if row.held_scale is None else f"{row.held_dtype} {row.held_scale:.6g} zp {row.held_zero_point}",
            row.state,
            row.reason or "",
        )
        for row in rows
    )
    return Table("", ("kind", "name", "planned", "operator", "held", "state", "reason"), shown)


def depth_table(rows: Sequence[DepthRow], images: int) -> Table | str:
    """Return where quantization errs: a line a layer, what it adds alone and what has gathered at its output."""
    if not rows:
        return "this artifact notes no error by depth"
    formats = [name for name in FORMATS if any(name in row.error.exported_db for row in rows)]
    figures, share = ("alone", "cumulative", "change", *formats), "own share of the noise"
    shown, before = [], None
    for row in rows:
        one = row.error
        shown.append(
            (
                one.name,
                row.module,
                _decibels(one.layer_db, "float"),
                _decibels(one.cumulative_db),
                "" if before is None else f"{one.cumulative_db - before:+.1f}",
                *(_decibels(one.exported_db.get(name)) for name in formats),
                _share(row.own_share_pct),
            )
        )
        before = one.cumulative_db
    missing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, why in row.why_none.items():
            missing.setdefault((name, why), []).append(row.error.name)
    return Table(
        "quantization error by depth: SQNR in dB, higher is better",
        ("layer", "module", *figures, share),
        tuple(shown),
        (
            "alone, cumulative: simulated; the formats: their INT8 files in their runtimes; against the float network "
            f"before quantization at the layer's output, first {images} images of the selection set",
            *(f"none in {name} for {', '.join(layers)}: {why}" for (name, why), layers in missing.items()),
        ),
        right=frozenset(figures),
        whole=frozenset({*figures, share}),
    )


def _decibels(value: float | None, otherwise: str = "none") -> str:
    return otherwise if value is None else f"{value:.1f}"


def _share(percent: float | None) -> str:
    """Return a share as a bar of ten and a number."""
    return "" if percent is None else f"{'█' * round(percent / 10):<10} {percent:3.0f} %"


def inspection_data(found: Inspection) -> dict[str, Any]:
    """Return an inspection as JSON can hold it."""
    return {
        "changed": found.changed,
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
        "pruning_trials": [asdict(trial) for trial in found.trials],
        **found.accelerator.data,
    }


def trials_table(trials: Sequence[Trial]) -> Table | str:
    """Return what pruning tried, the slowest first; a star where no other trial is both as fast and as accurate."""
    if not trials:
        return "no pruned networks were tried, or this is an archive: times lie beside it, in the folder"
    how = "estimated for the device" if trials[0].estimated else "measured where it was built"
    figures = ("MACs", "parameters", "lost", "at most (95 %)")
    best = pareto(trials)
    rows = tuple(
        (
            f"{show_seconds(one.latency_s)}{' *' if one in best else ''}",
            f"{one.macs:,}",
            f"{one.parameters:,}",
            f"{one.drop_points:+.2f} points",
            f"{one.drop_at_most_points:+.2f} points",
            "yes" if one.accepted else "no, loses too much",
            ", ".join(name for name, width in one.widths.items() if not width),
        )
        for one in sorted(trials, key=lambda trial: -trial.latency_s)
    )
    return Table(
        "pruned networks that were tried (* Pareto)",
        (f"INT8 time, by single operators, {how}", *figures, "accepted", "without"),
        rows,
        right=frozenset(figures),
        whole=frozenset({*figures, "accepted", "without"}),
    )


def verify_text(report: VerifyReport) -> list[Table | str]:
    """Return what a passed check proves, and what verification found, file by file."""
    rows = tuple(
        (
            one.model,
            one.runtime,
            one.status,
            "" if one.max_abs_error is None else f"{one.max_abs_error:.3g}",
            one.detail,
        )
        for one in report.replays
    )
    columns = ("model", "runtime", "golden vectors", "largest error", "detail")
    title = f"{report.name} {report.version}: {report.files} files hashed"
    return [f"An artifact that passes is {PROVES}.", Table(title, columns, rows, report.notes)]


def verify_data(report: VerifyReport) -> dict[str, Any]:
    """Return what verification found as JSON can hold it."""
    replays = [
        {**vars(one), "tolerances": {name: told.model_dump() for name, told in one.tolerances.items()}}
        for one in report.replays
    ]
    return {"proves": PROVES, **vars(report), "replays": replays, "failures": list(report.failures)}
