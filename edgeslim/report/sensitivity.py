"""The sensitivity report as tables; cli/ prints what these functions return."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeslim.pipeline.sensitivity import SensitivityReport, WidthLoss
from edgeslim.tasks.task import points
from edgeslim.units import show_seconds


def sensitivity_table(report: SensitivityReport, files: Sequence[str] = ()) -> RenderableType:
    """Return what groups lose at their widths, what layers lose as INT8, on what, and where the files lie."""
    parts: list[RenderableType] = []
    if report.groups:
        parts.append(_groups_table(report))
    if report.not_pruned is not None:
        parts.append(Text(f"no groups of channels: {report.not_pruned}"))
    parts.append(_layers_table(report))
    lines = [_where(report) if report.groups else "", _on_what(report), *files]
    return Group(*parts, *(Text(line) for line in lines if line))


def _groups_table(report: SensitivityReport) -> Table:
    table = Table(
        title="groups of channels and residual blocks, one narrower or gone at a time (simulated, refitted)",
        title_justify="left",
    )
    table.add_column("group", overflow="fold")
    lost = f"{report.metric} {report.kind} lost"
    for column in ("width", "divergence", lost, "INT8 time saved*", "divergence per ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for group in report.groups:
        for number, one in enumerate(group.widths[1:]):
            table.add_row(
                group.title if number == 0 else "", one.title, f"{one.divergence:.4f}",
                points(one.lost_points, report.unit, signed=True), _saved(one, report), _price(one),
                end_section=number == len(group.widths) - 2,
            )  # fmt: skip
    return table


def _saved(one: WidthLoss, report: SensitivityReport) -> str:
    share = 100 * one.saved_s / report.dense_int8_s if report.dense_int8_s else 0.0
    return f"{'-' if one.saved_s < 0 else ''}{show_seconds(abs(one.saved_s))} ({share:.1f} %)"


def _price(one: WidthLoss) -> str:
    return f"{one.divergence / (1e3 * one.saved_s):.3g}" if one.saved_s > 0 else "not faster"


def _layers_table(report: SensitivityReport) -> Table:
    table = Table(title="layers, one at a time as INT8 (simulated)", title_justify="left")
    for column in ("layer", "module"):
        table.add_column(column, overflow="fold")
    for column in ("SQNR at the outputs", f"{report.metric} {report.kind} lost", "at most (95 %)"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in report.layers:
        table.add_row(
            one.layer, one.module, f"{one.sqnr_db:.1f} dB", points(one.lost_points, report.unit, signed=True),
            points(one.lost_points_at_most, report.unit, signed=True),
        )  # fmt: skip
    return table


def _where(report: SensitivityReport) -> str:
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    return (
        f"* of {show_seconds(report.dense_int8_s or 0)}, the sum over single operators in {report.runtime}, {threads}, "
        f"{report.times_are}"
    )


def _on_what(report: SensitivityReport) -> str:
    warning = "; SYNTHETIC: they say nothing about accuracy" if report.synthetic else ""
    return (
        f"data: {report.data}: {report.images} selection images, {report.images_for_groups} of them for groups{warning}"
    )
