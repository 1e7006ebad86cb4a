"""What was found before a build, as a person reads it; cli/ prints what these functions return."""

from collections.abc import Mapping

from edgeslim.pipeline.preflight.check import CheckReport, ImagesFound, Layers
from edgeslim.pipeline.preflight.expectation import Expected
from edgeslim.table import Table
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.tasks.task import Score, measured
from edgeslim.units import plain, show_bytes, show_duration, show_seconds


def check_table(report: CheckReport) -> Table:
    """Return what was found of the model and the images, fact by fact."""
    rows = [
        ("model", f"{report.model}, weights: {report.weights}"),
        ("input", _input(report.preprocessing)),
        (
            "preprocessing",
            f"{_preprocessing(report.preprocessing)}; said by {report.preprocessing_from or 'the model'}",
        ),
        ("outputs", ", ".join(f"{one.name} {one.shape}" for one in report.outputs)),
        (report.task, f"{report.meaning}; named by {report.labels_from}" if report.labels else report.meaning),
        ("size", f"{report.parameters:,} parameters, {report.macs:,} MACs for an image"),
        *((f"INT8 as {one.format}", _layers(one)) for one in report.layers),
        *([] if report.images is None else _images(report.images, report.score, report.not_scored)),
        *([] if report.expected is None else _expected(report.expected)),
    ]
    return Table("", ("of", "what was found"), tuple(rows), whole=frozenset({"of"}))


def check_view(report: CheckReport) -> list[Table | str]:
    """Return all that was found, and every reason against it."""
    against = [f"cannot be built: {plain(one)}" for one in report.reasons]
    return [check_table(report), *against, *check_lines(report)]


def check_lines(report: CheckReport) -> list[str]:
    """Return what is to be said below it: what is rewritten, the remarks, and what was not asked; a line each."""
    lines = ["which layers lose too much as INT8 and stay float, only a build finds"] if report.promotes else []
    lines += report.chosen
    lines += [f"rewritten by default: {line}" for line in report.rewrites]
    lines += [f"warning: {line}" for line in report.remarks]
    if report.images is None:
        lines.append("with --data: the images, how good the float model is on them, and what a build would take")
    return [plain(line) for line in lines]


def _input(how: Preprocessing) -> str:
    shape = (1, how.channels, how.height, how.width)
    return f"{how.width}x{how.height} (width x height), {how.color_order}, shape {shape}"


def _preprocessing(how: Preprocessing) -> str:
    side = f"{how.resize[0]}x{how.resize[1]}" if isinstance(how.resize, tuple) else f"shorter side to {how.resize}"
    resized = "" if how.resize is None else f"{side} pixels ({how.interpolation}), "
    mean, std = (", ".join(f"{one:g}" for one in values) for values in (how.mean, how.std))
    return f"{resized}the middle cut out, values in 0..1 less {mean}, divided by {std}"


def _layers(one: Layers) -> str:
    floats = ", ".join(f"{name} ({count}x)" for name, count in one.in_float.items())
    return f"{one.int8} of {one.layers} layers; {f'in float: {floats}' if floats else 'nothing in float'}"


def _images(found: ImagesFound, score: Score | None, not_scored: str | None) -> list[tuple[str, str]]:
    sets = f"{found.calibration:,} calibrate, {found.selection:,} select, {found.evaluation:,} judge"
    rows = [("images", f"{found.total:,} of {found.source}: {sets}")]
    if found.counts:
        rows.append(("", _of_each(found.counts)))
    if found.how_read is not None:
        rows.append(("", found.how_read))
    if score is None:
        rows.append(("float model", f"how good it is cannot be said: {not_scored}"))
    else:
        low, high = score.interval
        value = f"{measured(score.value, score.unit)} {score.metric} {score.kind}"
        some = f"{score.images:,} of the {found.evaluation:,} images that judge"
        rows.append(("float model", f"{value} ({low:.4g} to {high:.4g}, 95 % interval), in PyTorch on {some}"))
    return rows


def _of_each(counts: Mapping[str, int]) -> str:
    fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[fewest] == counts[most]:
        return f"{counts[most]:,} of each"
    return f"{counts[fewest]:,} ({fewest}, the fewest) to {counts[most]:,} ({most}) of each"


def _expected(one: Expected) -> list[tuple[str, str]]:
    disk = (
        f"{show_bytes(one.weights_bytes)} of weights in {one.files} files and their archive, as if nothing were pruned "
        f"(what else lies in an artifact is not counted); {show_bytes(one.temporary_bytes)} of inputs while it runs"
    )
    kept = f"; {show_bytes(one.kept_bytes)} of decoded images, kept for the next" if one.kept_bytes else ""
    return [("time of a build", _time(one)), ("disk of a build", disk + kept)]


def _time(one: Expected) -> str:
    """Return how long a build takes, as far as anybody knows, and how that is known."""
    if one.past_s is not None:
        return f"{show_duration(one.past_s)}, as the last one of this model, recipe and number of images took here"
    taken = one.inference
    judging = (
        f"no build of it was measured here; {show_duration(one.judging_s)} of it for running {one.images:,} images in "
        f"{one.files} files, {one.at_once} at a time, if each takes as PyTorch does: {show_seconds(taken.s)} an image, "
        f"the median of {taken.runs} just now ({show_seconds(taken.least_s)} to {show_seconds(taken.most_s)})"
    )
    if one.alike is None:
        return f"{judging}; how long compressing and exporting take besides, nobody knows yet"
    work = one.alike.work
    return (
        f"{judging}; the build most like it here, of {work.source} for {work.device} with {work.macs:,} MACs and "
        f"{sum(work.images):,} images, took {show_duration(one.alike.seconds)} in all"
    )
