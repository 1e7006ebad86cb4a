"""Measurements, comparisons and probes as a person reads them, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeslim.artifact.manifest import Manifest
from edgeslim.backends import backend_of_artifact
from edgeslim.devices.profile import known_devices, load_profile
from edgeslim.measure.artifact_changes import ArtifactChanges
from edgeslim.measure.bench import BenchReport
from edgeslim.measure.cautions import told_once
from edgeslim.measure.comparison import Comparison
from edgeslim.measure.measurement import Caution, Measurement, Place
from edgeslim.measure.probe import Finding
from edgeslim.pipeline.documents.times import latency, place
from edgeslim.table import Table
from edgeslim.tasks.task import between, points, with_interval
from edgeslim.units import show_bytes, show_memory, show_rate, show_seconds

DIFFERS = {True: "differs", False: "no difference"}
OTHER_IMAGES = "score: as if other images had judged each; where they are the same, the interval is too wide"


def place_of(measured: Sequence[Measurement], manifest: Manifest) -> str:
    """Say where an artifact's figures were taken, and whether that is the device it was built for."""
    device = manifest.compatible.device
    return place(measured, device, here=_on_a(device, measured[0].place))


def _on_a(device: str, where: Place) -> bool:
    """Return whether a place is a device, as `device_profile.describes` says it of a running machine."""
    if device not in known_devices():
        return False
    profile = load_profile(device)
    marks = profile.identification
    named = (
        *(mark in where.name for mark in marks.device_tree_models),
        *(mark in where.cpu_model for mark in marks.cpu_models),
    )
    return where.architecture == profile.architecture and (marks.any_machine or any(named))


def measurement_table(
    measured: Sequence[Measurement], where: str, folder: Path | None = None, notes: Sequence[str] = ()
) -> Table:
    """Return latency, memory and energy of every file, where and how they were taken, and every doubt about them.

    `folder` is where the raw times are kept, `notes` what else a reader must know.
    """
    metered = any(one.power is not None for one in measured)
    figures = ("median", "p90", "p99", "fps", "first", "init", "peak RSS")
    columns = ("file", "ran as", *figures, *(["energy"] if metered else []), "status")
    rows = tuple(
        (
            one.label,
            one.precision_actual,
            latency(one),
            show_seconds(one.p90_s),
            "too few" if one.p99_s is None else show_seconds(one.p99_s),
            show_rate(one.frames_per_second),
            show_seconds(one.first_s),
            show_seconds(one.init_s),
            show_memory(one.peak_rss_bytes),
            *([_energy(one)] if metered else []),
            one.status,
        )
        for one in measured
    )
    agents = dict.fromkeys(f"{one.runtime}: agent {one.agent}; {one.library}" for one in measured)
    powers = dict.fromkeys(f"energy: {_meter(one)}" for one in measured)
    kept = [] if folder is None else [f"raw times: {folder}"]
    doubts = doubt_lines([(one.label, one.cautions) for one in measured])
    lines = (f"measured on {where}", *agents, *powers, *doubts, *notes, *kept)
    return Table("", columns, rows, lines, whole=frozenset({"file", "median"}))


def bench_view(report: BenchReport) -> Table:
    """Return the figures of a bench, where they were taken, and what was not timed."""
    measured, manifest = report.measurements, report.manifest
    where = place_of(measured, manifest) if measured else "a device that was lost before the first file was done"
    return measurement_table(measured, where, report.folder, backend_of_artifact(manifest).bench_lines(manifest))


def doubt_lines(found: Sequence[tuple[str, Sequence[Caution]]]) -> list[str]:
    """Return every doubt about some files once, with the files it is about, and below it what to do."""
    return [line for words, advice in told_once(found, "every file") for line in (f"doubt: {words}", f"  -> {advice}")]


def _meter(one: Measurement) -> str:
    return "not measured (--meter does)" if one.power is None else f"by {one.power.meter}: {one.power.scope}"


def _energy(one: Measurement) -> str:
    found = one.net_mj
    if found is None:
        return "not measured"
    value, (low, high) = found
    return f"{value:.3g} mJ ({low:.3g} to {high:.3g})"


def measurement_data(one: Measurement) -> dict[str, Any]:
    """Return a measurement's statistics as JSON can hold them; the raw times lie in the saved file."""
    return {
        "label": one.label,
        "status": one.status,
        "cautions": [asdict(caution) for caution in one.cautions],
        "kind": one.kind,
        "place": one.place.name,
        "target": one.place.target,
        "machine": asdict(one.place),
        "agent": one.agent,
        "library": one.library,
        "runtime": f"{one.runtime} {one.runtime_version}",
        "model": one.model,
        "model_sha256": one.model_sha256,
        "scenario": one.scenario,
        "threads": one.threads,
        "streams": one.streams,
        "affinity": one.affinity,
        "memory_limit_bytes": one.memory_limit_bytes,
        "processes": len(one.processes),
        "precision_requested": one.precision_requested,
        "precision_actual": one.precision_actual,
        "executors": one.executors,
        "median_s": one.median_s,
        "median_interval_s": list(one.median_interval_s),
        "p90_s": one.p90_s,
        "p99_s": one.p99_s,
        "iqr_s": one.iqr_s,
        "outliers": one.outliers,
        "first_s": one.first_s,
        "init_s": one.init_s,
        "frames_per_second": one.frames_per_second,
        "frames_per_second_interval": list(one.frames_per_second_interval),
        "drift": one.drift,
        "peak_rss_bytes": one.peak_rss_bytes,
        "runtime_rss_bytes": one.runtime_rss_bytes,
        "arena_bytes": one.arena_bytes,
        "power": None if one.power is None else asdict(one.power),
        **_energy_data("net_mj", one.net_mj),
        **_energy_data("gross_mj", one.gross_mj),
    }


def _energy_data(name: str, found: tuple[float, tuple[float, float]] | None) -> dict[str, Any]:
    value, interval = (None, None) if found is None else (found[0], list(found[1]))
    return {name: value, f"{name}_interval": interval}


def probe_table(findings: Sequence[Finding], target: str, device: str) -> Table:
    """Return every fact of a profile beside the machine's own word."""
    rows = tuple((_loud(one.state, "differs"), one.what, one.profile, one.device) for one in findings)
    return Table(f"{target} beside the profile of {device}", ("state", "what", "profile", "device"), rows)


def _loud(state: str, bad: str) -> str:
    return state.upper() if state == bad else state


def comparison_table(found: Comparison) -> Table:
    """Return each figure of both, by the name that --fail-if takes, its change and whether it is a difference."""
    columns = ("figure", "before", "after", "change", "95 % interval", "p", "outcome")
    rows = [
        (
            name,
            _shown(name, change.a),
            _shown(name, change.b),
            f"{100 * (change.ratio - 1):+.1f} %",
            " to ".join(f"{100 * (ratio - 1):+.1f} %" for ratio in change.interval),
            f"{change.p_value:.3f}",
            DIFFERS[change.different],
        )
        for name, change in found.changes.items()
    ]
    of_artifacts, told = ([], []) if found.artifacts is None else _manifest_rows(found.artifacts)
    how = "interleaved, process by process" if found.paired else "from two runs"
    missing: dict[str, list[str]] = {}
    for name, why in found.missing.items():
        missing.setdefault(why, []).append(name)
    notes = (
        *([f"compared {how}"] if found.changes else []),
        *(f"no {', '.join(names)}: {why}" for why, names in missing.items()),
        *told,
        *(f"note: {note}" for note in found.notes),
    )
    whole = frozenset(columns) - {"before", "after"}  # a score with its interval may break
    return Table(f"{found.b} against {found.a}", columns, (*of_artifacts, *rows), notes, whole=whole)


def _manifest_rows(found: ArtifactChanges) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return verdict, size and score of two artifacts as rows of a comparison, and what is to be said of them."""
    size, score, notes = found.size, found.score, list(found.reasons)
    before, after = found.verdicts
    rows: list[tuple[str, ...]] = [
        ("verdict", before, after, "", "", "", DIFFERS[before != after]),
        ("size", show_bytes(size.a), show_bytes(size.b), str(size), "", "", DIFFERS[size.different]),
    ]
    if score is None:
        return rows, [*notes, f"no score: {found.no_score}"]
    row = (
        f"score ({score.metric})",
        with_interval(score.a, score.unit, score.a_interval),
        with_interval(score.b, score.unit, score.b_interval),
        points(score.difference, score.unit, signed=True),
        between(score.interval, score.unit),
        "",
        DIFFERS[score.different],
    )
    return [*rows, row], [*notes, OTHER_IMAGES]


def _shown(metric: str, value: float) -> str:
    match metric:
        case "peak_rss":
            return show_memory(round(value))
        case "fps":
            return show_rate(value)
        case "energy":
            return f"{value:.3g} mJ"
    return show_seconds(value)


def comparison_data(found: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON can hold it."""
    return asdict(found)
