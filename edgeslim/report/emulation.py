"""What emulation found, as a person reads it and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeslim.devices.emulation import MISSES
from edgeslim.emulation.bench import EmulationReport, Skipped
from edgeslim.emulation.calibrate import Calibration
from edgeslim.emulation.estimator import EnergyEstimate, Estimate
from edgeslim.emulation.fits import FitReport, MemoryFit
from edgeslim.emulation.inference import EmulatedInference
from edgeslim.emulation.operator_profile import SUFFIX, OperatorCounts, OperatorProfile, missed_bytes
from edgeslim.report.measurements import doubt_lines
from edgeslim.table import Table
from edgeslim.units import show_bytes, show_memory

LEVELS = dict(zip(MISSES, ("L1", "L2", "L3"), strict=True))


def emulation_table(report: EmulationReport) -> Table:
    """Return counts and estimates of every file, how they were obtained, and what could not be run."""
    counts = ("multiplies with", "instructions", "moved", "misses")
    columns = ("file", "ran as", *counts, "golden vectors", "time")
    rows = tuple(
        (
            one.label,
            one.precision_actual,
            ", ".join(one.kernels),
            show_count(one.counts["insns"]),
            show_bytes(one.counts.get("mem_bytes", 0)),
            misses(one.counts),
            "wrong" if one.failing(("golden",)) else f"{one.golden_samples} of {one.golden_samples}",
            time(one.estimate),
        )
        for one in report.simulations
    )
    return Table("", columns, rows, tuple(_lines(report)), whole=frozenset({"file"}))


def time(one: Estimate | None) -> str:
    """Return the interval of an estimate, or the figure that has none, and what it lacks."""
    if one is None:
        return "unknown"
    return f"{one.interval}{'' if one.decisive else ', not calibrated'}"


def misses(counts: dict[str, int]) -> str:
    """Return the misses of the modelled caches: "L1 98.3 k, L2 1"."""
    return ", ".join(f"{name} {show_count(counts[key])}" for key, name in LEVELS.items() if key in counts)


def show_count(count: float) -> str:
    """Return a count as "812", "98.3 k" or "10.1 M"."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= factor:
            return f"{count / factor:.3g}{unit}"
    return f"{count:.0f}"


def emulation_data(report: EmulationReport) -> dict[str, Any]:
    """Return everything that emulation found as JSON can hold it."""
    return {
        "device": report.device.name,
        "files": [{**asdict(one), "kernels": one.kernels} for one in report.simulations],
        "skipped": [asdict(one) for one in report.skipped],
    }


def profile_table(found: OperatorProfile) -> Table:
    """Return what every operator takes, how that came about, and what to try with those that are worth it."""
    columns = ("name", "operator", "precision", "share", "instructions", "per MAC", "moved", "missed", "of bound")
    rows = tuple(
        (
            _short(one),
            one.op,
            one.precision,
            f"{one.share:.1%}",
            show_count(one.counts["insns"]),
            "" if one.instructions_per_mac is None else f"{one.instructions_per_mac:.2f}",
            show_bytes(one.counts.get("mem_bytes", 0)),
            show_bytes(missed_bytes(one.counts)),
            "" if one.bound is None else f"{one.bound:.0%}",
        )
        for one in found.operators
    )
    core, device = found.device.cores[0].name, found.device.title
    fitted = "" if found.device.estimator is None else f", with costs fitted on {found.device.estimator.runtime}"
    lines = [
        f"simulated: one inference of {found.file}, caches cold, by {found.emulator} as a {core} of a {device}",
        f"share: each operator's of the {found.by}{fitted}; per MAC: instructions for a multiply-add",
        "moved: bytes read and written, missed: those that no modelled cache held",
        "of bound: the roofline's least time, for the core's peak or the memory's bandwidth, over the estimated one",
        *(f"try: {_short(one)}: {one.advice}" for one in found.operators if one.advice),
    ]
    return Table("", columns, rows, tuple(lines), whole=frozenset(columns))


def _short(one: OperatorCounts) -> str:
    return one.name.partition(SUFFIX)[0]


def _lines(report: EmulationReport) -> list[str]:
    found, device = report.simulations, report.device
    first = found[0]
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    caches = "; ".join(f"L{level} {cache}" for level, cache in enumerate(first.caches, start=1))
    return [
        f"simulated: counts of one inference on 1 thread, by {first.emulator} as a {first.core}, caches {caches}",
        *([f"estimated: times on {threads} of a {device.title}"] if any(one.estimate for one in found) else []),
        *_once([one.estimate.note for one in report.simulations if one.estimate and one.estimate.note], "  "),
        *_once([one.no_estimate for one in report.simulations if one.no_estimate], "no times: "),
        *_energies(report.simulations),
        *doubt_lines([(one.label, one.seen) for one in report.simulations]),
        *_skipped(report.skipped),
        *_kept(report.folder),
    ]


def _energies(found: Sequence[EmulatedInference]) -> list[str]:
    """Return what is known of each file's energy; files of which nothing is share a line for each reason."""
    known = [(one.label, one.energy) for one in found if one.energy is not None and one.energy.known]
    unknown: dict[str, list[str]] = {}
    for one in found:
        if one.energy is not None and not one.energy.known:
            unknown.setdefault("; ".join(one.energy.unknown), []).append(one.label)
    return [
        *(f"energy, {label}: {energy(of)}" for label, of in known),
        *(f"energy, {', '.join(labels)}: unknown: {why}" for why, labels in unknown.items()),
    ]


def energy(one: EnergyEstimate) -> str:
    """Return an estimate of an inference's energy with its band, or what is unknown about it and why."""
    low, high, net = one.gross_low_mj, one.gross_high_mj, one.net_high_mj
    board = "unknown" if high is None else f"up to {high:.3g} mJ" if low is None else f"{low:.3g} to {high:.3g} mJ"
    above = "unknown" if net is None else f"up to {net:.3g} mJ"
    why = f" ({'; '.join(one.unknown)})" if one.unknown else ""
    return f"board {board}, above rest {above}{why}"


def _once(texts: Sequence[str], before: str) -> list[str]:
    return [f"{before}{text}" for text in dict.fromkeys(texts)]


def _skipped(skipped: Sequence[Skipped]) -> list[str]:
    return [f"not run: {one.label}: {one.reason}" for one in skipped]


def _kept(folder: Path | None) -> list[str]:
    return [] if folder is None else [f"all counts: {folder}"]


def fit_table(report: FitReport) -> Table:
    """Return for every file whether it fits and what it takes, how that was found, and what could not be run."""
    columns = ("file", "fits", "peak RSS", "runtime RSS", "arena", "golden vectors")
    rows = tuple(
        (
            one.label,
            "yes" if one.fits else "NO",
            _size(one.peak_rss_bytes, one),
            _size(one.runtime_rss_bytes, one),
            _size(one.arena_bytes, one),
            _golden(one),
        )
        for one in report.found
    )
    first = report.found[0]
    lines = [
        f"simulated: a Linux on an emulated {first.core} of a {report.device.title}, with "
        f"{show_memory(first.ram_bytes)} of memory, of which the system left {show_memory(first.available_bytes)}; "
        "nothing is timed there",
        *(f"does not fit: {one.label}: {one.reason}" for one in report.found if not one.fits),
        *doubt_lines([(one.label, one.seen) for one in report.found]),
        *(f"not run: {one.label}: {one.reason}" for one in report.skipped),
        *([] if report.folder is None else [f"kept in: {report.folder}"]),
    ]
    return Table("", columns, rows, tuple(lines), whole=frozenset({"file", "fits"}))


def fit_data(report: FitReport) -> dict[str, Any]:
    """Return everything that was found as JSON can hold it."""
    return {
        "device": report.device.name,
        "files": [asdict(one) for one in report.found],
        "skipped": [asdict(one) for one in report.skipped],
    }


def _size(count: int | None, of: MemoryFit) -> str:
    if not of.fits:
        return "unknown"
    return "not told" if count is None else show_memory(count)


def _golden(one: MemoryFit) -> str:
    if not one.fits:
        return "unknown"
    return "wrong" if one.failing(("golden",)) else f"{one.golden_samples} of {one.golden_samples}"


def calibration_lines(found: Calibration) -> list[str]:
    """Return what was fitted, how far off it is, and what to do with it, a line each."""
    estimator, off = found.estimator, found.estimator.networks_left_out
    return [
        f"{estimator.times} times of {estimator.networks} models, {found.calibrated.runtime}, 1 thread:",
        *(f"  {cost.name}: {cost.cycles:.3g} cycles" for cost in estimator.costs),
        f"models left out of the fit: off by {off.mean:.1%} on average, {off.worst:.1%} at most",
        *([f"accepted all the same: {', '.join(found.calibrated.accepted)}"] if found.calibrated.accepted else []),
        f"written to {found.out}, over {found.base}: edgeslim bench ARTIFACT --on emulator:{found.out}",
    ]
