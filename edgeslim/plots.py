"""Figures as PNG files, drawn with matplotlib where it is installed."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeslim.errors import BadInput, MissingPackage
from edgeslim.sensitivity_report import GroupLoss, LayerLoss, SensitivityReport
from edgeslim.units import show_seconds

ROW_INCHES, CELL_INCHES, NAME_INCHES = 0.5, 1.45, 2.6
LEAST_NATS = 1e-5  # what is less has the colour of nothing
HEAT, DARK_FROM = "YlOrRd", 0.6


def require_matplotlib() -> None:
    """Raise MissingPackage where nothing can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackage("matplotlib", "plot")


def sensitivity_plot(report: SensitivityReport, file: Path) -> None:
    """Draw a report: a row for each group and a cell for each width, below them a bar for each layer as INT8.

    Raises MissingPackage, and BadInput where the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = max((len(group.widths) - 1 for group in report.groups), default=5)
    heights = [ROW_INCHES * (len(rows) + 2) for rows in (report.groups, report.layers)]
    figure = Figure((NAME_INCHES + CELL_INCHES * cells, sum(heights) + 1), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=heights)
    _draw_groups(figure, above, report, cells)
    _draw_layers(below, report)
    images = f"SYNTHETIC images ({report.data}): they say nothing about accuracy" if report.synthetic else report.data
    figure.suptitle(f"{report.model} for {report.device}: what is lost where; {images}", fontsize=11)
    try:
        figure.savefig(file, dpi=110, metadata={"Software": None})
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}; name a place with --out") from error


def _draw_groups(figure: Any, axes: Any, report: SensitivityReport, cells: int) -> None:
    if not report.groups:
        axes.axis("off")
        axes.text(0.5, 0.5, f"no groups of channels: {report.not_pruned}", ha="center", va="center", wrap=True)
        return
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    most = max(one.divergence_nats for group in report.groups for one in group.widths)
    scale = LogNorm(LEAST_NATS, max(most, 10 * LEAST_NATS), clip=True)
    heat = colormaps[HEAT]
    for row, group in enumerate(report.groups):
        for column, text, nats in _cells(group):
            share = float(scale(max(nats, LEAST_NATS)))
            axes.add_patch(_rectangle(column, row, heat(share)))
            color = "white" if share > DARK_FROM else "black"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7.5, color=color)
    axes.set(xlim=(0, cells), ylim=(len(report.groups), 0), xticks=[])
    axes.set_yticks([row + 0.5 for row in range(len(report.groups))], [group.title for group in report.groups])
    axes.tick_params(left=False, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    where = report.measured_on + ("" if report.measured_on_device else f", NOT on a {report.device}")
    axes.set_title(
        "groups of channels and residual blocks, one narrower or gone at a time: width, points of top-1 "
        f"{report.kind} lost, INT8 time saved\n"
        f"(operators in {report.runtime} on {where}; the dense network takes {show_seconds(report.dense_int8_s or 0)})",
        fontsize=9, loc="left",
    )  # fmt: skip
    bar = figure.colorbar(ScalarMappable(scale, heat), ax=axes, shrink=0.9, pad=0.01)
    bar.set_label("divergence from the dense network, nats", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _cells(group: GroupLoss) -> list[tuple[int, str, float]]:
    """Return column, words and divergence of every width narrower than the group's own."""
    found = []
    for column, one in enumerate(group.widths[1:]):
        saved = f"{show_seconds(abs(one.saved_s))} {'saved' if one.saved_s >= 0 else 'SLOWER'}"
        found.append((column, f"{one.title}: {one.lost_points:+.2f} points\n{saved}", one.divergence_nats))
    return found


def _rectangle(column: int, row: int, color: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column + 0.02, row + 0.05), 0.96, 0.9, facecolor=color)


def _draw_layers(axes: Any, report: SensitivityReport) -> None:
    layers: Sequence[LayerLoss] = report.layers
    rows = range(len(layers))
    bars = axes.barh(rows, [one.sqnr_db for one in layers], height=0.7, color="#7f9fc6")
    words = [f"{one.lost_points:+.2f} points, at most {one.lost_points_at_most:+.2f}" for one in layers]
    axes.bar_label(bars, words, padding=4, fontsize=7.5)
    axes.margins(x=0.3)
    axes.set_yticks(list(rows), [one.module for one in layers])
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", lw=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("SQNR at the logits, dB: the shorter, the more a layer disturbs", fontsize=8)
    axes.set_title(
        f"layers, one at a time as INT8 (simulated): points of top-1 {report.kind} lost on {report.images} selection "
        "images,\nand at most with 95 % confidence", fontsize=9, loc="left",
    )  # fmt: skip
