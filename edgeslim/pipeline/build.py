"""The whole story: model, data, device and recipe become an artifact in which nothing is believed before it ran."""

import errno
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeslim.artifact.archive import check_destination, pack
from edgeslim.backends import backend_of
from edgeslim.compress import fold, resolve_all
from edgeslim.compress.distill import step as distill
from edgeslim.compress.prune import step as prune
from edgeslim.devices.profile import DeviceProfile, is_this_machine, load_profile
from edgeslim.errors import BadInput, ToolFailed, try_diagnostic
from edgeslim.export import require_format
from edgeslim.export.evaluation.error_by_depth import error_by_depth
from edgeslim.export.evaluation.run import Judged, judge_all
from edgeslim.export.export_all import export_all
from edgeslim.export.operator_facts import fact_name, in_float
from edgeslim.export.process import workers
from edgeslim.formats import FORMATS, FormatName
from edgeslim.measure.operators.used import load_used
from edgeslim.model.context import Context, Demand
from edgeslim.model.equivalence import require_traced
from edgeslim.model.graph import macs_of
from edgeslim.model.load import Source, load_data, load_model, name_of
from edgeslim.model.model import Model, Stages
from edgeslim.model.sources.outputs import TAKEN
from edgeslim.pipeline.cut import without_probabilities
from edgeslim.pipeline.documents.provenance import provenance, spdx
from edgeslim.pipeline.documents.times import DeviceTimes, Times
from edgeslim.pipeline.gates import advice, below_demand, costs, not_judged, primary_of, worst_beyond_drop
from edgeslim.pipeline.latency import Noted, require_judge, times_on_device
from edgeslim.pipeline.preflight import preflight
from edgeslim.pipeline.preflight.past_builds import note_build, work_of
from edgeslim.pipeline.recipes import recipe_for
from edgeslim.pipeline.result import BuildReport, Built, Incomplete, Rejected, source_of, started_from
from edgeslim.pipeline.rules import require_possible
from edgeslim.pipeline.stage import stage
from edgeslim.pipeline.targets import require_fitting_targets
from edgeslim.progress import ProgressCallback, StagedProgress, silent
from edgeslim.recipe import Recipe, with_pruning, with_step_settings, with_training
from edgeslim.resources import default_store
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.work_folders import work_folder

STAGES_OF_EVERY_BUILD = 8  # beside a recipe's steps


def build(
    source: Source = None,
    *,
    start: BuildReport | None = None,
    device: str | Path,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    selection: str | Path | None = None,
    evaluation: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    formats: Sequence[FormatName] | None = None,
    max_drop: float | None = None,
    prune: bool | str | None = None,
    train: str | Path | None = None,
    train_s: float | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    trust_labels: bool = False,
    operator_times: str | Path | None = None,
    estimate: bool = True,
    origin: str | None = None,
    licence: str | None = None,
    progress: ProgressCallback = silent,
) -> BuildReport:
    """Compress a model for a device and write the artifact folder `out` and its archive.

    `source`, `weights`, `preprocessing`, `labels`, `task`: as `load_model`; `start`: the report of an earlier build, in
    place of them, whose `model` is gone on from, trained by then or not; `data`: what the model's task reads,
    whose targets are held against what the model answers but with `trust_labels`; `calibration`, `selection`,
    `evaluation`: what a set is read from in place of a part of `data`; `recipe`: one or a file of one, by default the
    device's, of which `formats`, `max_drop` (points) and `prune` (False: none; "latency=0.5": a share to keep)
    replace a part; `train_s`: seconds of training behind pruning (0: none), on `train` or else on what calibrates;
    `operator_times`: a file of them, or an artifact that carries them, in place of measuring or
    estimating; `estimate`: say what the primary file takes on the device, where that is not demanded anyway; `origin`,
    `licence`: where the network came from, and an SPDX expression, for model card and manifest. Raises
    BadInput before any work, Refused when the device cannot have the model or a result falls below a demand (then the
    artifact is written and marked rejected), ToolFailed when a step changed what the network computes, or an exporter
    failed (then the other formats are written, likewise marked).
    """
    began_s = time.monotonic()
    licence = None if licence is None else spdx(licence)
    profile = load_profile(device)
    backend = backend_of(profile)
    recipe = with_training(
        with_pruning(recipe_for(profile, recipe, formats=formats, max_drop_points=max_drop), prune), train_s
    )
    steps = resolve_all(recipe.steps)
    _require_recipe(recipe, profile, backend, train)
    given = None if operator_times is None else load_used(Path(operator_times))
    said: dict[str, Any] = {"weights": weights, "preprocessing": preprocessing, "labels": labels, "task": task}
    named = source if start is None else source_of(start, source=source, **said)
    destination = _destination(out, named, profile, overwrite=overwrite)

    told = StagedProgress(progress, len(steps) + STAGES_OF_EVERY_BUILD)
    told.begin("loading the model")
    model = load_model(source, seed=recipe.seed, **said) if start is None else started_from(start)
    require_possible(model, profile, preflight(model, profile, steps, recipe.formats).reasons)
    came_from = provenance(model, origin, licence)
    told.begin("reading the images")
    images = load_data(
        model,
        data,
        calibration=calibration,
        selection=selection,
        evaluation=evaluation,
        train=train,
        skip_bad=skip_bad,
        seed=recipe.seed,
    )
    with _work_folder() as work, workers(recipe.formats):
        latency = Noted(profile, recipe.threads, default_store(), told, given)
        context = Context(
            profile,
            images,
            recipe.seed,
            work,
            told,
            Demand(recipe.max_drop_points, recipe.max_latency_s, recipe.max_size_bytes),
            recipe.threads,
            default_store(),
            latency,
            tuple(FORMATS[name].runtime for name in recipe.formats),
            int8_ends=backend.ends(model, "int8") == "int8",
        )
        told.begin("checking trace and labels")
        _require_understood(model, context, trust_labels=trust_labels)
        model = without_probabilities(model) if recipe.cut_probabilities else model
        tried, context = _try_pruned_or_whole(model, steps, recipe, context, destination, told)
        stages, judged = tried.stages, tried.judged
        told.begin(f"finishing for {profile.name}")
        delivery = backend.deliver(judged, stages, recipe, context, destination)
        primary = primary_of(judged, delivery)
        times, too_slow, doubts = (
            times_on_device(primary, judged, recipe, context, time.monotonic() - began_s)
            if delivery.on_cpu and (estimate or recipe.max_latency_s is not None)
            else (DeviceTimes(), [], [])
        )
        told.begin("finding where accuracy is lost")
        depth, unread = try_diagnostic(
            "error by depth", lambda: error_by_depth(stages.unquantized, stages.final, judged, context)
        )
        errors, not_read = depth or (None, [])
        failures = [*tried.failures, *delivery.failures]
        told("what pruning and what INT8 cost")
        lost, not_told = try_diagnostic("what pruning costs", lambda: costs(judged, stages, images, model.task))
        unjudged = not_judged(recipe, images, model.task)
        reasons = [*failures, *below_demand(judged, recipe, images, unjudged), *delivery.reasons, *too_slow]
        warnings = [*filter(None, [unjudged]), *delivery.warnings, *_told(stages.final), *latency.unused]
        told.begin("packing the artifact")
        built = Built(
            stages=stages,
            data=images,
            recipe=_as_done(recipe, stages.final),
            profile=profile,
            judged=judged,
            delivery=delivery,
            times=Times(
                delivery.measurements,
                times,
                is_this_machine(profile),
                (*delivery.doubts, *doubts, *unread, *not_read, *not_told),
            ),
            error_by_depth=errors,
            operator_times=latency.used,
            reasons=reasons,
            not_judged=unjudged,
            provenance=came_from,
            warnings=warnings,
            in_float=_in_float(stages.final, recipe.formats) if delivery.on_cpu else (),
            costs=None if lost is None else str(lost),
        )
        helps = advice(built, lost)  # it looks at the files, which are gone behind this
        artifact = pack(work / "staging", stage(work / "staging", built), destination, overwrite=overwrite)
    note_build(default_store(), work_of(stages.given, profile, recipe, images), time.monotonic() - began_s)
    report = BuildReport(
        artifact,
        profile,
        stages.pruned,
        delivery.measurements,
        (*warnings, *built.times.warnings),
        times,
        images.how_read,
        tuple(built.in_float),
        built.costs,
        helps,
    )
    if failures:
        raise Incomplete(report, reasons)
    if reasons:
        raise Rejected(report, reasons)
    return report


def _in_float(final: Model, formats: Sequence[FormatName]) -> tuple[str, ...]:
    """Return what INT8 files compute in float, a line for each format; nothing where there are none."""
    if final.numerics is None:
        return ()
    return in_float((fact_name(node) for node in final.graph.graph.nodes if node.op == "call_function"), formats)


def _require_recipe(recipe: Recipe, profile: DeviceProfile, backend: ModuleType, train: str | Path | None) -> None:
    """Raise BadInput for a recipe that the device has no use for, before anything is loaded; what it needs is here."""
    if faults := backend.recipe_faults(recipe, profile):
        raise BadInput("\n".join(faults))
    if train is not None and all(call.step != "distill" for call in recipe.steps):
        raise BadInput(
            f"{train} is named to train on, and the recipe has no step `distill`", "say for how long: --train-time 2min"
        )
    if recipe.max_latency_s is not None:
        require_judge(profile, [FORMATS[name].runtime for name in recipe.formats], recipe.threads)
    for name in recipe.formats:
        require_format(name)


def _require_understood(model: Model, context: Context, *, trust_labels: bool) -> None:
    """Raise where tracing changed what the network computes, or the targets mean something else than it answers."""
    context.progress("holding the traced network against the module")
    require_traced(model.network, model.graph, model.source, context.images)
    if not trust_labels:
        context.progress("holding the labels against the model's answers")
        require_fitting_targets(model, context.data)


@dataclass(frozen=True)
class _Tried:
    """A compressed network, its files run in their runtimes, and what could not be written or run."""

    stages: Stages
    judged: list[Judged]
    failures: list[str]


def _try(
    model: Model,
    steps: Sequence[tuple[Any, Any]],
    recipe: Recipe,
    context: Context,
    destination: Path,
    told: StagedProgress,
) -> _Tried:
    """Compress a model, write its files and run them on the evaluation images."""
    pruned = unquantized = compressed = model
    context = replace(context, given=model)
    for module, settings in steps:
        told.begin(module.__name__.removeprefix("edgeslim.compress.").removesuffix(".step"))
        compressed = module.apply(compressed, settings, context)
        pruned = compressed if module in (prune, distill) else pruned
        if compressed.rounded_from is not None:
            unquantized = replace(unquantized, network=compressed.rounded_from)
        elif compressed.numerics is None:
            unquantized = compressed
    # What INT8 files are compared with is the network as it was given.
    planned = compressed.numerics or compressed.half
    reference = fold.apply(model, fold.Settings(), context) if planned else unquantized
    ends = partial(backend_of(context.profile).ends, unquantized)
    told.begin("exporting")
    exported, not_written = export_all(reference, compressed, recipe.formats, ends, context, destination, unquantized)
    told.begin("running the files")
    judged, not_run = judge_all(exported, reference, compressed, recipe.threads, context)
    return _Tried(Stages(model, pruned, unquantized, compressed), judged, [*not_written, *not_run])


def _try_pruned_or_whole(
    model: Model,
    steps: Sequence[tuple[Any, Any]],
    recipe: Recipe,
    context: Context,
    destination: Path,
    told: StagedProgress,
) -> tuple[_Tried, Context]:
    """Compress a model as `steps` say; where pruning chose itself how much, and too much is lost, without it.

    How much is chosen on the selection images alone. This fallback is all that the evaluation images choose.
    """
    tried = _try(model, steps, recipe, context, destination, told)
    final = tried.stages.final
    unjudged = not_judged(recipe, context.data, model.task)
    worst = None if unjudged else worst_beyond_drop(tried.judged, recipe, context.data)
    chose = any(_chooses(*step) for step in steps) and macs_of(final.graph) < macs_of(model.graph)
    if worst is None or not chose:
        return tried, context
    one, points = worst
    line = (
        f"prune: nothing: pruned as the selection images allow, {one.label} loses {one.score.amount(points)} on "
        f"the evaluation images, {recipe.max_drop_points:g} are allowed (--max-drop)"
    )
    whole = model.after(line, trials=final.trials)
    context = replace(context, work=context.work / "unpruned")
    context.work.mkdir()
    others = [step for step in steps if not _chooses(*step)]
    told.more(len(others) + 2)  # and the files are written and run again
    again = _try(whole, others, recipe, context, destination, told)
    return replace(again, stages=replace(again.stages, given=model)), context


def _chooses(module: Any, settings: Any) -> bool:
    """Tell whether a step prunes as much as it finds right: the user named no amount."""
    return module is prune and settings.amount is None


def _as_done(recipe: Recipe, final: Model) -> Recipe:
    """Return the recipe with what a build like this one must do as often, whatever time that takes there."""
    return with_step_settings(recipe, "distill", steps=final.trained_steps) if final.trained_steps else recipe


def _told(compressed: Model) -> list[str]:
    """Return which outputs were chosen, what was cut off them, and why nothing was pruned where that was asked for."""
    return [line for line in compressed.history if line.startswith((TAKEN, "cut:", "prune: nothing", distill.NOTHING))]


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Yield a temporary folder; ToolFailed when its disk is full."""
    try:
        with work_folder() as folder:
            yield folder
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ToolFailed(
            f"the disk of {tempfile.gettempdir()} is full; the work of a build needs room there: set TMPDIR"
        ) from error


def place_of(out: str | Path | None, source: Source, profile: DeviceProfile) -> Path:
    """Return where the artifact goes: as asked, or artifacts/MODEL-DEVICE here."""
    return Path("artifacts") / f"{name_of(source)}-{profile.name}" if out is None else Path(out)


def _destination(out: str | Path | None, source: Source, profile: DeviceProfile, *, overwrite: bool) -> Path:
    """Return where the artifact goes, in a folder that is there where nobody named one; BadInput where it cannot be."""
    destination = place_of(out, source, profile)
    if out is None:
        folder = destination.parent
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"cannot make the folder {folder.resolve()}: {error.strerror}; name a place with --out"
            ) from error
    check_destination(destination, overwrite=overwrite)
    return destination
