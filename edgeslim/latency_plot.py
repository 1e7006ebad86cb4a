"""The raw times of measurements as one figure: every process of every file, fp32 beside INT8."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeslim.measurement import Measurement
from edgeslim.plots import require_matplotlib, save_figure
from edgeslim.units import show_seconds

ROW_INCHES, WIDE_RANGE = 0.55, 8.0
COLOURS = {"fp32": "#4477aa", "int8": "#ee7733"}
OTHER = "#777777"


def distributions(measured: Sequence[Measurement], file: Path) -> None:
    """Draw a box for the raw times of each process, a row for each file, and the median with its 95 % interval.

    Whiskers end at the 5th and 95th percentile. The axis is logarithmic where the medians lie far apart. Raises
    MissingPackage, and BadInput where the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure((9, ROW_INCHES * len(measured) + 1.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for row, one in enumerate(measured):
        colour = COLOURS.get(one.precision_requested, OTHER)
        count = len(one.processes)
        places = [row + 0.7 * ((number + 0.5) / count - 0.5) for number in range(count)]
        boxes = axes.boxplot(
            [np.array(run.samples_s) * 1e3 for run in one.processes], positions=places, widths=0.5 / count,
            orientation="horizontal", whis=(5, 95), showfliers=False, patch_artist=True, manage_ticks=False,
        )  # fmt: skip
        for box in boxes["boxes"]:
            box.set(facecolor=colour, edgecolor=colour, alpha=0.5)
        low, high = (1e3 * bound for bound in one.median_interval_s)
        axes.plot([low, high], [row, row], color="black", linewidth=2.5, solid_capstyle="butt")
        axes.plot(1e3 * one.median_s, row, "o", color="black", markersize=5)
    medians = [one.median_s for one in measured]
    if max(medians) > WIDE_RANGE * min(medians):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(len(measured)), [f"{one.label}\n{show_seconds(one.median_s)}" for one in measured])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds for an inference; a box for each process, in black the median and its 95 % interval")
    first = measured[0]
    axes.set_title(f"measured on {first.place.name}, {first.scenario}, {first.threads} threads", fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    save_figure(figure, file, "--plot")
