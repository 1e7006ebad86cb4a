"""The sensitivity report as tables; cli/ prints what these functions return."""

from collections.abc import Sequence

from edgeslim.pipeline.sensitivity import SensitivityReport, WidthLoss
from edgeslim.table import Table
from edgeslim.tasks.task import points
from edgeslim.units import show_bytes, show_seconds

WEIGHTS_ONLY = (
    "w8: INT8 weights of a layer that computes in float; dynamic: what it reads is rounded at run time too; fp16: its "
    "weights are held so"
)


def sensitivity_table(report: SensitivityReport, files: Sequence[str] = ()) -> list[Table | str]:
    """Return what groups lose at their widths, what layers lose as INT8, on what, and where the files lie."""
    parts: list[Table | str] = []
    if report.groups:
        parts.append(_groups_table(report))
    if report.not_pruned is not None:
        parts.append(f"no groups of channels: {report.not_pruned}")
    parts.append(_layers_table(report))
    timed = any(one.seconds is not None for one in report.layers)
    lines = [_where(report) if report.groups or timed else "", WEIGHTS_ONLY, _on_what(report), *files]
    return [*parts, *(line for line in lines if line)]


def _groups_table(report: SensitivityReport) -> Table:
    figures = ("width", "divergence", f"{report.metric} {report.kind} lost", "INT8 time saved*", "divergence per ms")
    rows, ends = [], []
    for group in report.groups:
        for number, one in enumerate(group.widths[1:]):
            rows.append(
                (
                    group.title if number == 0 else "",
                    one.title,
                    f"{one.divergence:.4f}",
                    points(one.lost_points, report.unit, signed=True),
                    _saved(one, report),
                    _price(one),
                )
            )
        ends.append(len(rows) - 1)
    return Table(
        "groups of channels and residual blocks, one narrower or gone at a time (simulated, refitted)",
        ("group", *figures),
        tuple(rows),
        right=frozenset(figures),
        whole=frozenset(figures),
        ends=frozenset(ends),
    )


def _saved(one: WidthLoss, report: SensitivityReport) -> str:
    share = 100 * one.saved_s / report.dense_int8_s if report.dense_int8_s else 0.0
    return f"{'-' if one.saved_s < 0 else ''}{show_seconds(abs(one.saved_s))} ({share:.1f} %)"


def _price(one: WidthLoss) -> str:
    return f"{one.divergence / (1e3 * one.saved_s):.3g}" if one.saved_s > 0 else "not faster"


def _layers_table(report: SensitivityReport) -> Table:
    figures = ("size", "time*", "SQNR", f"{report.metric} {report.kind} lost", "at most (95 %)")
    rows, ends = [], []
    for number, one in enumerate(report.layers):
        first = number == 0 or report.layers[number - 1].layer != one.layer
        ends += [number - 1] if first and number else []
        time = "" if one.seconds is None else show_seconds(one.seconds)
        loss = ["", "", ""]
        if one.sqnr_db is not None:
            lost = [points(figure, report.unit, signed=True) for figure in (one.lost_points, one.lost_points_at_most)]
            loss = [f"{one.sqnr_db:.1f} dB", *lost]
        rows.append((one.module if first else "", one.precision, show_bytes(one.size_bytes), time, *loss))
    return Table(
        "layers, one at a time in another precision than fp32 (loss simulated)",
        ("layer", "precision", *figures),
        tuple(rows),
        right=frozenset(figures),
        whole=frozenset(figures),
        ends=frozenset(ends),
    )


def _where(report: SensitivityReport) -> str:
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    whole = f"of {show_seconds(report.dense_int8_s)}, the sum over the network; " if report.dense_int8_s else ""
    return f"* {whole}single operators in {report.runtime}, {threads}, {report.times_are}"


def _on_what(report: SensitivityReport) -> str:
    warning = "; SYNTHETIC: they say nothing about accuracy" if report.synthetic else ""
    return (
        f"data: {report.data}: {report.images} selection images, {report.images_for_groups} of them for groups{warning}"
    )
