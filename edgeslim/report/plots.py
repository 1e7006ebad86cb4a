"""Figures as files, drawn with matplotlib where it is installed."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeslim.errors import BadInput, MissingPackage
from edgeslim.model.trials import pareto
from edgeslim.pipeline.sensitivity import GroupLoss, LayerLoss, SensitivityReport
from edgeslim.report.inspection import Inspection
from edgeslim.resources import whole_file
from edgeslim.tasks.task import points
from edgeslim.units import show_seconds

ROW_INCHES, CELL_INCHES, NAME_INCHES = 0.5, 1.45, 2.6
ENDINGS = (".svg", ".png", ".pdf")
LEAST_SHOWN = 1e-5  # what is less has the colour of nothing
HEAT, DARK_FROM = "YlOrRd", 0.6


def require_drawable(file: Path) -> None:
    """Raise MissingPackage where nothing can be drawn, and BadInput for a file of another kind than is drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackage("matplotlib", "plot")
    if file.suffix.lower() not in ENDINGS:
        raise BadInput(f"--plot {file}: expected a file that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


def sensitivity_plot(report: SensitivityReport, file: Path) -> None:
    """Draw a report: a row for each group and a cell for each width, below them a bar for each layer as INT8.

    Raises MissingPackage, and BadInput where the file cannot be written.
    """
    require_drawable(file)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cells = max((len(group.widths) - 1 for group in report.groups), default=5)
    layers = [one for one in report.layers if one.precision == "int8"]
    heights = [ROW_INCHES * (count + 2) for count in (len(report.groups), len(layers))]
    figure = Figure((NAME_INCHES + CELL_INCHES * cells, sum(heights) + 1), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=heights)
    _draw_groups(figure, above, report, cells)
    _draw_layers(below, report, layers)
    images = f"SYNTHETIC images ({report.data}): they say nothing about accuracy" if report.synthetic else report.data
    figure.suptitle(f"{report.model} for {report.device}: what is lost where; {images}", fontsize=11)
    save_figure(figure, file)


def inspection_plot(found: Inspection, file: Path) -> None:
    """Draw what pruning tried, time against points lost, and below it the error of quantization along the depth.

    Raises as `sensitivity_plot`, and BadInput for an inspection that holds neither.
    """
    require_drawable(file)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = [draw for draw, held in ((_draw_trials, found.trials), (_draw_depth, found.error_by_depth)) if held]
    if not parts:
        raise BadInput("nothing to draw: the artifact holds no trials of pruning and no error by depth")
    figure = Figure((9, 4.5 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    for draw, axes in zip(parts, figure.subplots(len(parts), 1, squeeze=False)[:, 0], strict=True):
        draw(axes, found)
    save_figure(figure, file)


def save_figure(figure: Any, file: Path) -> None:
    """Write a figure in the format of the file's ending, the same bytes each time; BadInput where it cannot be."""
    import matplotlib as mpl

    form = file.suffix.lower().lstrip(".")
    told: dict[str, None] = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}[form]
    try:
        with mpl.rc_context({"svg.hashsalt": "edgeslim"}), whole_file(file) as part:
            figure.savefig(part, dpi=110, metadata=told, format=form)
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}; name a place with --plot") from error


def _draw_trials(axes: Any, found: Inspection) -> None:
    for accepted, colour, label in ((True, "#3a6ea5", "accepted"), (False, "#c05a4a", "loses too much")):
        some = [one for one in found.trials if one.accepted == accepted]
        if some:
            above = [max(one.drop_at_most_points - one.drop_points, 0.0) for one in some]
            times = [1e6 * one.latency_s for one in some]
            lost = [one.drop_points for one in some]
            axes.errorbar(times, lost, yerr=[[0.0] * len(some), above], fmt="o", capsize=3, color=colour, label=label)
    best = pareto(found.trials)
    front = ([1e6 * one.latency_s for one in best], [one.drop_points for one in best])
    axes.plot(*front, lw=1, color="black", alpha=0.5, zorder=0, label="Pareto front")
    axes.set_xlabel("INT8 time, by single operators, µs", fontsize=8)
    axes.set_ylabel("points lost, and at most (95 %)", fontsize=8)
    axes.set_title("pruned networks that were tried; the slowest is the dense one", fontsize=9, loc="left")
    axes.legend(fontsize=8)
    axes.grid(lw=0.3)
    axes.tick_params(labelsize=8)


def _draw_depth(axes: Any, found: Inspection) -> None:
    rows = range(len(found.error_by_depth))
    errors = [row.error for row in found.error_by_depth]
    lines: dict[str, list[float | None]] = {
        "this layer alone (simulated)": [one.layer_db for one in errors],
        "all up to here (simulated)": [one.cumulative_db for one in errors],
    }
    for name in errors[0].exported_db:
        lines[f"{name} file"] = [one.exported_db.get(name) for one in errors]
    for label, values in lines.items():
        axes.plot(rows, [math.nan if v is None else v for v in values], marker="o", ms=3, lw=1, label=label)
    axes.set_xticks(list(rows), [row.module for row in found.error_by_depth], rotation=45, ha="right")
    axes.set_ylabel("SQNR, dB", fontsize=8)
    axes.set_title(
        f"error of quantization along the depth, on {found.error_images} images; higher is better",
        fontsize=9,
        loc="left",
    )
    axes.legend(fontsize=8)
    axes.grid(lw=0.3)
    axes.tick_params(labelsize=8)


def _draw_groups(figure: Any, axes: Any, report: SensitivityReport, cells: int) -> None:
    if not report.groups:
        axes.axis("off")
        axes.text(0.5, 0.5, f"no groups of channels: {report.not_pruned}", ha="center", va="center", wrap=True)
        return
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm

    most = max(one.divergence for group in report.groups for one in group.widths)
    scale = LogNorm(LEAST_SHOWN, max(most, 10 * LEAST_SHOWN), clip=True)
    heat = colormaps[HEAT]
    for row, group in enumerate(report.groups):
        for column, text, divergence in _cells(group, report.unit):
            share = float(scale(max(divergence, LEAST_SHOWN)))
            axes.add_patch(_rectangle(column, row, heat(share)))
            color = "white" if share > DARK_FROM else "black"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7.5, color=color)
    axes.set(xlim=(0, cells), ylim=(len(report.groups), 0), xticks=[])
    axes.set_yticks([row + 0.5 for row in range(len(report.groups))], [group.title for group in report.groups])
    axes.tick_params(left=False, labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(
        "groups of channels and residual blocks, one narrower or gone at a time: width, "
        f"{report.metric} {report.kind} lost, INT8 time saved\n"
        f"(operators in {report.runtime}, {report.times_are}; dense {show_seconds(report.dense_int8_s or 0)})",
        fontsize=9,
        loc="left",
    )
    bar = figure.colorbar(ScalarMappable(scale, heat), ax=axes, shrink=0.9, pad=0.01)
    bar.set_label("divergence from the dense network", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _cells(group: GroupLoss, unit: str) -> list[tuple[int, str, float]]:
    """Return column, words and divergence of every width narrower than the group's own."""
    found = []
    for column, one in enumerate(group.widths[1:]):
        saved = f"{show_seconds(abs(one.saved_s))} {'saved' if one.saved_s >= 0 else 'SLOWER'}"
        found.append((column, f"{one.title}: {points(one.lost_points, unit, signed=True)}\n{saved}", one.divergence))
    return found


def _rectangle(column: int, row: int, color: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column + 0.02, row + 0.05), 0.96, 0.9, facecolor=color)


def _draw_layers(axes: Any, report: SensitivityReport, layers: Sequence[LayerLoss]) -> None:
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
    axes.set_xlabel("SQNR at the outputs, dB: the shorter, the more a layer disturbs", fontsize=8)
    axes.set_title(
        f"layers, one at a time as INT8 (simulated): points of {report.metric} {report.kind} lost on {report.images} "
        "selection images,\nand at most with 95 % confidence",
        fontsize=9,
        loc="left",
    )
