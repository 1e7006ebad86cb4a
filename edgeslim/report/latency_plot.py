"""The raw times of measurements as one figure: every process of every file, fp32 beside INT8."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeslim.errors import BadInput
from edgeslim.measure.measurement import FEWEST_FOR_P99, Measurement
from edgeslim.report.plots import require_drawable, save_figure
from edgeslim.units import show_seconds

ROW_INCHES, WIDE_RANGE = 0.85, 8.0
NEAR = 1.2  # times the 99th percentile: a slower time than that stretches the axis
MARGIN = 1.03  # what the axis is longer than what lies on it
UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
COLOURS = {"fp32": "#4477aa", "int8": "#ee7733"}
OTHER = "#777777"
# A row is one high: the boxes from its top, below them the median.
BOXES_TOP, BOXES_HEIGHT, MEDIAN_AT = -0.42, 0.64, 0.34


def distributions(measured: Sequence[Measurement], file: Path) -> None:
    """Draw a box for the raw times of each process, a row for each file, and below it the median with its interval.

    Boxes span the quartiles, whiskers the 5th to the 95th percentile, and a point is the slowest time of a process. The
    axis ends behind the 99th percentile of every file, whose label counts what lies beyond; it is logarithmic where the
    medians lie far apart. The file's ending says the format, .svg, .png or .pdf; the same measurements give the same
    bytes. Raises MissingPackage, and BadInput where the file cannot be written or the
    measurements are none, or not of one machine and one way of running.
    """
    require_drawable(file)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    title = _title(measured)
    medians = [one.median_s for one in measured]
    unit, factor = next(((name, by) for name, by in UNITS if min(medians) * by >= 1), UNITS[-1])
    figure = Figure((9, ROW_INCHES * len(measured) + 2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    end_s = max(_end_s(one) for one in measured)
    for row, one in enumerate(measured):
        _draw_row(axes, row, one, factor, end_s)
    _scale(axes, logarithmic=max(medians) > WIDE_RANGE * min(medians))
    axes.set_xlim(right=MARGIN * factor * end_s)
    axes.set_yticks(range(len(measured)), [_label(one, end_s) for one in measured])
    axes.set_ylim(len(measured) - 0.5, -0.5)
    axes.set_xlabel(f"time of an inference, {unit}", fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", lw=0.3)
    axes.tick_params(labelsize=8)
    _draw_key(figure, {one.precision_requested for one in measured})
    save_figure(figure, file)


def _title(measured: Sequence[Measurement]) -> str:
    ways = dict.fromkeys(
        f"{one.place.name}; these are times of that machine\n{one.scenario}, "
        f"{one.threads} thread{'s' if one.threads > 1 else ''}"
        f"{f' in each of {one.streams} streams' if one.streams > 1 else ''}"
        for one in measured
    )
    if not ways:
        raise BadInput("nothing to draw: no measurement is complete")
    if len(ways) > 1:
        said = " and ".join(way.replace("; these are times of that machine\n", ", ") for way in ways)
        raise BadInput(f"one figure cannot hold what was measured differently: {said}")
    return f"measured on {next(iter(ways))}"


def _end_s(one: Measurement) -> float:
    """Return the time behind which a file needs no room: its 99th percentile, or what else is drawn of it.

    Fewer times than that percentile needs, and those that all lie near it, are drawn all.
    """
    times = _times(one)
    end_s = np.percentile(times, 99)
    if len(times) < FEWEST_FOR_P99 or max(times) <= NEAR * end_s:
        return max(times)
    boxes = (np.percentile(run.samples_s, 95) for run in one.processes)
    return float(max(end_s, *boxes, one.median_interval_s[1]))


def _times(one: Measurement) -> list[float]:
    return [time for run in one.processes for time in run.samples_s]


def _label(one: Measurement, end_s: float) -> str:
    """Return what stands beside a row: name, median with its interval, how much lies beyond the axis, all doubts."""
    times = _times(one)
    beyond = sum(time > end_s for time in times)
    cut = f"\n{beyond:,} of {len(times):,} beyond, to {show_seconds(max(times))}" if beyond else ""
    doubts = "".join(f"\n{kind}" for kind in dict.fromkeys(caution.kind for caution in one.cautions))
    low, high = (show_seconds(bound) for bound in one.median_interval_s)
    return f"{one.label}\n{show_seconds(one.median_s)} ({low} to {high}){cut}{doubts}"


def _draw_row(axes: Any, row: int, one: Measurement, factor: float, end_s: float) -> None:
    colour = COLOURS.get(one.precision_requested, OTHER)
    step = BOXES_HEIGHT / len(one.processes)
    heights = [row + BOXES_TOP + step * (number + 0.5) for number in range(len(one.processes))]
    line = {"color": colour, "linewidth": 0.8}
    axes.boxplot(
        [factor * np.array(run.samples_s) for run in one.processes],
        positions=heights,
        widths=0.75 * step,
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.6},
        medianprops={"color": "white"},
        whiskerprops=line,
        capprops=line,
    )
    for run, height in zip(one.processes, heights, strict=True):
        if max(run.samples_s) <= end_s:
            axes.plot(factor * max(run.samples_s), height, ".", color=colour, markersize=3.5)
    low, high = (factor * bound for bound in one.median_interval_s)
    axes.plot([low, high], [row + MEDIAN_AT] * 2, color="black", linewidth=2, solid_capstyle="butt")
    axes.plot(factor * one.median_s, row + MEDIAN_AT, "d", color="black", markersize=5)


def _scale(axes: Any, *, logarithmic: bool) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    if not logarithmic:
        axes.set_xlim(left=0)
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_key(figure: Any, precisions: set[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    boxes = [Patch(color=COLOURS.get(name, OTHER), alpha=0.6, label=name) for name in sorted(precisions)]
    box = Patch(facecolor="none", edgecolor="black", label="a process: quartiles, 5 to 95 %")
    slowest = Line2D([], [], color="black", marker=".", markersize=3.5, linestyle="", label="its slowest time")
    median = Line2D([], [], color="black", marker="d", markersize=5, linewidth=2, label="median, 95 % interval")
    figure.legend(
        handles=[*boxes, box, slowest, median], loc="outside lower center", ncols=5, fontsize=8, frameon=False
    )
