"""Which files fit into a memory, as a person reads it and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeslim.emulation.fits import Fit, FitReport
from edgeslim.units import show_bytes


def fit_table(report: FitReport) -> RenderableType:
    """Return for every file whether it fits and what it takes, how that was found, and what could not be run."""
    table = Table()
    for column in ("file", "", "peak memory", "of it the runtime alone", "tensors", "golden"):
        table.add_column(column, no_wrap=column in ("file", ""))
    for one in report.found:
        table.add_row(
            one.label, "fits" if one.fits else "DOES NOT FIT", _size(one.peak_rss_bytes, one),
            _size(one.runtime_rss_bytes, one), _size(one.arena_bytes, one), _golden(one),
        )  # fmt: skip
    first = report.found[0]
    lines = [
        f"simulated: a Linux on an emulated {first.core} of a {report.device.title}, with "
        f"{show_bytes(first.ram_bytes)} of memory, of which the system left {show_bytes(first.available_bytes)}; "
        "nothing is timed there",
        *(f"does not fit: {one.label}: {one.reason}" for one in report.found if not one.fits),
        *(f"doubt: {one.label}: {doubt.kind}: {doubt.text}" for one in report.found for doubt in one.seen),
        *(f"not run: {one.label}: {one.reason}" for one in report.skipped),
        *([] if report.folder is None else [f"kept in: {report.folder}"]),
    ]
    return Group(table, *(Text(line) for line in lines))


def fit_data(report: FitReport) -> dict[str, Any]:
    """Return everything that was found as JSON can hold it."""
    return {
        "device": report.device.name,
        "files": [asdict(one) for one in report.found],
        "skipped": [asdict(one) for one in report.skipped],
    }


def _size(count: int | None, of: Fit) -> str:
    if not of.fits:
        return "unknown"
    return "not told" if count is None else show_bytes(count)


def _golden(one: Fit) -> str:
    if not one.fits:
        return "unknown"
    return "wrong" if one.failing(("golden",)) else f"{one.golden_samples} of {one.golden_samples}"
