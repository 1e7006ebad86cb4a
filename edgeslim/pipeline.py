"""The whole story: model, data, device and recipe become an artifact in which nothing is believed before it ran."""

import importlib
import pkgutil
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import edgeslim.compress
from edgeslim import checks
from edgeslim.artifact import Artifact, check_destination, pack
from edgeslim.context import Context
from edgeslim.data import Data, ImageSet, load_data
from edgeslim.device_profile import DeviceProfile, is_this_machine, load_profile
from edgeslim.errors import BadInput, Refused, ToolFailed, near_misses
from edgeslim.export import FORMATS, export, require_format
from edgeslim.export.job import Job, Spelling
from edgeslim.graph import program_of
from edgeslim.handover import Made, stage
from edgeslim.harness import Candidate, execution_graph, measure, run_model
from edgeslim.judged import Judged
from edgeslim.ledger import Row, read_ledger
from edgeslim.measurement import Measurement, faster
from edgeslim.model import Model, load_model
from edgeslim.progress import Progress, silent
from edgeslim.proof import proven_layers
from edgeslim.quality import agreement_pct, score, sqnr_db
from edgeslim.recipe import Recipe, StepCall, default_recipe

FP32_SQNR_DB = 60.0  # below it an fp32 export does not compute what the model does
PARITY_IMAGES = 64
TIMED_PROCESSES = 5
TIMED_IMAGES = 32


@dataclass(frozen=True)
class BuildReport:
    """What a build made and what it found; `warnings` are sentences for a person."""

    artifact: Artifact
    profile: DeviceProfile
    measurements: tuple[Measurement, ...]  # taken on this machine
    warnings: tuple[str, ...]


def build(
    source: str | None = None,
    *,
    device: str | Path,
    weights: str | None = None,
    data: str | None = None,
    recipe: Recipe | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    progress: Progress = silent,
) -> BuildReport:
    """Compress a model for a device and write the artifact folder `out` and its archive.

    `source`, `weights`: as `load_model`; `data`: as `load_data`. Raises BadInput before any work, Refused when the
    device cannot have the model or a result falls below a demand (then the artifact is written and marked rejected),
    ToolFailed when an exporter failed (the other formats are written, likewise marked).
    """
    profile = load_profile(device)
    recipe = recipe or default_recipe(profile)
    for name in recipe.formats:
        require_format(name)
    steps = [_resolve(call) for call in recipe.steps]
    destination = _destination(out, source, profile)
    check_destination(destination, overwrite=overwrite)

    progress("loading the model", 0.0)
    model = load_model(source, weights, recipe.seed)
    if reasons := checks.refusals(model, profile):
        raise Refused(f"{model.source} cannot be built for {profile.name}:", reasons)
    images = load_data(
        data,
        model.preprocessing,
        model.classes,
        bundled=source is None,
        random_weights=model.weights_source == "random",
        skip_bad=skip_bad,
        seed=recipe.seed,
    )
    with tempfile.TemporaryDirectory(prefix="edgeslim-") as folder:
        work = Path(folder)
        context = Context(profile, images, recipe.seed, work, progress)
        dense = compressed = model
        for module, settings in steps:
            compressed = module.apply(compressed, settings, context)
            dense = dense if compressed.numerics else compressed
        exported, failures = _export_all(dense, compressed, recipe, context, destination)
        judged = _judge_all(exported, model, compressed, recipe, context)
        measurements = _time_all(judged, recipe, context)
        primary, warnings = choose_primary(judged, measurements, profile)
        reasons = [*failures, *_below_demand(judged, recipe, images)]
        staging = work / "staging"
        manifest = stage(
            staging, Made(model, compressed, images, recipe, profile, judged, measurements, primary, reasons)
        )
        progress("packing the artifact", 0.0)
        artifact = pack(staging, manifest, destination, overwrite=overwrite)
    report = BuildReport(artifact, profile, tuple(measurements), tuple(warnings))
    if failures:
        raise ToolFailed(
            "\n".join([f"the artifact {destination} was written without these formats, rejected:", *failures])
        )
    if reasons:
        raise Rejected(report, reasons)
    return report


def check(
    source: str | None = None, *, device: str | Path, weights: str | None = None, data: str | None = None
) -> list[str]:
    """Return every reason why `device` cannot have a model, in seconds and before any work; none when it can.

    With `data`, that must fit the model too. Raises BadInput for what cannot even be read.
    """
    profile = load_profile(device)
    model = load_model(source, weights)
    if data is not None:
        load_data(data, model.preprocessing, model.classes, bundled=source is None)
    return checks.refusals(model, profile)


class Rejected(Refused):
    """The artifact was written, but falls below what was demanded; `report` says all about it."""

    def __init__(self, report: BuildReport, reasons: Iterable[str]) -> None:
        self.report = report
        super().__init__(f"{report.artifact.folder} was written and marked rejected:", reasons)


def known_steps() -> list[str]:
    """Return the names of the techniques: the modules in `compress/`."""
    return sorted(module.name for module in pkgutil.iter_modules(edgeslim.compress.__path__))


def _resolve(call: StepCall) -> tuple[Any, Any]:
    """Return a step's module and its settings; BadInput for a name or a setting it does not know."""
    if call.step not in known_steps():
        raise BadInput(
            f"the recipe names a step `{call.step}`{near_misses(call.step, known_steps())}; "
            f"steps are {', '.join(known_steps())}"
        )
    module = importlib.import_module(f"edgeslim.compress.{call.step}")
    known = [f.name for f in fields(module.Settings)]
    for name in call.settings:
        if name not in known:
            raise BadInput(
                f"the recipe's step `{call.step}` has no setting `{name}`{near_misses(name, known)}; "
                f"settings are {', '.join(known) or 'none'}"
            )
    return module, module.Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in call.settings.items()})


def _destination(out: Path | None, source: str | None, profile: DeviceProfile) -> Path:
    """Return where the artifact goes: as asked, or artifacts/MODEL-DEVICE here."""
    if out is not None:
        return out
    name = (source or "default").rpartition(":")[2].replace("/", "-")
    folder = Path("artifacts")
    folder.mkdir(exist_ok=True)
    return folder / f"{name}-{profile.name}"


def _export_all(
    dense: Model, compressed: Model, recipe: Recipe, context: Context, destination: Path
) -> tuple[list[tuple[Job, Spelling]], list[str]]:
    """Write every format in fp32 and, where there is a plan, in int8; return them and what failed."""
    work = context.work
    probe = work / "probe.npy"
    image = next(iter(context.data.calibration.tensors()))[:1]
    np.save(probe, image.numpy())
    precisions = {"fp32": dense, **({"int8": compressed} if compressed.numerics else {})}
    for precision, model in precisions.items():
        torch.export.save(program_of(model.graph, image), work / f"{precision}.pt2")
    if compressed.numerics:
        compressed.numerics.save(work / "numerics.json")
    wanted = [(name, precision) for name in _in_order(recipe.formats) for precision in precisions]
    done: dict[tuple[str, str], tuple[Job, Spelling]] = {}
    failures = []
    for number, (name, precision) in enumerate(wanted):
        context.progress(f"exporting {name} {precision}", number / len(wanted))
        try:
            job = _job(name, precision, work)
            if name == "openvino":
                onnx = done.get(("onnx", precision)) or _export(_job("onnx", precision, work), work)
                onnx[1].save(work / f"{precision}.onnx-spelling.json")
            done[name, precision] = _export(job, work)
        except ToolFailed as error:
            failures.append(_keep_logs(str(error), work, destination))
    return list(done.values()), failures


def _in_order(formats: Iterable[str]) -> list[str]:
    """Return the formats with ONNX before OpenVINO, which is made from it."""
    return sorted(formats, key=list(FORMATS).index)


def _job(name: str, precision: str, work: Path) -> Job:
    numerics = work / "numerics.json" if precision == "int8" else None
    target = work / name / f"model_{precision}{FORMATS[name].suffix}"
    if name == "openvino":
        source = work / "onnx" / f"model_{precision}.onnx"
        return Job(
            name, precision, source, target, work / "probe.npy", numerics, work / f"{precision}.onnx-spelling.json"
        )
    return Job(name, precision, work / f"{precision}.pt2", target, work / "probe.npy", numerics)


def _export(job: Job, work: Path) -> tuple[Job, Spelling]:
    return job, export(job, work / f"{job.format}_{job.precision}.log")


def _keep_logs(message: str, work: Path, destination: Path) -> str:
    """Copy the exporters' logs beside the artifact, and return the message with their lasting path."""
    logs = destination.with_name(destination.name + ".logs")
    logs.mkdir(exist_ok=True)
    for log in work.glob("*.log"):
        shutil.copy(log, logs)
    return message.replace(str(work), str(logs))


def _judge_all(
    exported: Sequence[tuple[Job, Spelling]], model: Model, compressed: Model, recipe: Recipe, context: Context
) -> list[Judged]:
    """Run every file in its real runtime on the whole evaluation set, and hold it against model, labels and plan."""
    evaluation = context.data.evaluation
    inputs = np.concatenate(list(evaluation.inputs()))
    eager = eager_logits(model, evaluation)
    judged: list[Judged] = []
    float_logits: dict[str, NDArray[np.float32]] = {}
    for number, (job, spelling) in enumerate(sorted(exported, key=lambda e: e[0].precision)):
        context.progress(f"evaluating {job.format} {job.precision}", number / len(exported))
        runtime = FORMATS[job.format].runtime
        fed = inputs if job.format == "tflite" else np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        logits = run_model(runtime, job.target, fed, precision=job.precision, threads=recipe.threads)
        parity = sqnr_db(eager, logits[: len(eager)])
        rows: tuple[Row, ...] = ()
        proven = None
        if job.precision == "fp32":
            float_logits[job.format] = logits
            if parity < FP32_SQNR_DB:
                raise Refused(
                    f"the {job.format} fp32 export does not compute what the model does: "
                    f"SQNR {parity} dB over {len(eager)} images, {FP32_SQNR_DB} dB demanded"
                )
        elif compressed.numerics:
            proven = proven_layers(execution_graph(runtime, job.target, fed[:1], job.precision), spelling)
            rows = tuple(read_ledger(job.format, job.target, compressed.numerics, spelling))
        reference = float_logits.get(job.format, logits)
        judged.append(
            Judged(
                job, runtime, spelling, logits, score(logits, evaluation.labels, reference),
                agreement_pct(logits, reference), parity,
                len(compressed.numerics.integer_layers) if compressed.numerics and proven is not None else None,
                tuple(proven) if proven is not None else None, rows,
            )
        )  # fmt: skip
    return judged


@torch.no_grad()
def eager_logits(model: Model, images: ImageSet) -> NDArray[np.float32]:
    """Return the model's own logits in PyTorch for the first images of a set."""
    batch = next(iter(images.tensors()))[:PARITY_IMAGES]
    return np.concatenate([model.graph(row).numpy() for row in batch.split(1)])


def _time_all(judged: Sequence[Judged], recipe: Recipe, context: Context) -> list[Measurement]:
    """Time every file on this machine: fresh processes, interleaved."""
    inputs = np.concatenate(list(context.data.evaluation.inputs()))[:TIMED_IMAGES]
    channels_first = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    return measure(
        [Candidate(j.label, j.runtime, j.job.target, j.job.precision) for j in judged],
        {j.runtime: inputs if j.job.format == "tflite" else channels_first for j in judged},
        threads=recipe.threads,
        processes=TIMED_PROCESSES,
        min_duration_s=0.2,
        progress=lambda label, done, total: context.progress(f"timing {label}", done / total),
    )


def choose_primary(
    judged: Sequence[Judged], measurements: Sequence[Measurement], profile: DeviceProfile
) -> tuple[Judged | None, list[str]]:
    """Return the file the device should run, and warnings.

    For this machine: the fastest, beyond noise, of all. For another device times taken here only warn, and the order
    of its profile decides, without what is known to fail on it.
    """
    ranked = [
        one
        for support in profile.runtimes
        for precision in ("int8", "fp32")
        for one in judged
        if one.runtime == support.name and one.job.precision == precision and precision in support.precisions
        if not _fails(profile, support.name, precision)
    ]
    warnings = [
        f"{support.name} {failure.precision} on {profile.name}: {failure.text} ({failure.source})"
        for support in profile.runtimes
        for failure in support.known_failures
        if any(one.runtime == support.name and one.job.precision == failure.precision for one in judged)
    ]
    times = {m.label: m for m in measurements}
    here = is_this_machine(profile)
    for one in judged:
        twin = next((o for o in judged if o.job.format == one.job.format and o.job.precision == "fp32"), None)
        if one.job.precision == "int8" and twin is not None:
            verdict = faster(times[one.label], times[twin.label])
            if verdict.faster == twin.label:
                where = profile.name if here else f"this machine (not {profile.name})"
                warnings.append(f"{one.label} is slower than {twin.label} on {where}: {verdict}")
    if not ranked:
        return None, [*warnings, f"no file is known to run on {profile.name}: the artifact names no primary"]
    primary = ranked[0]
    if here:
        for one in ranked[1:]:
            if faster(times[one.label], times[primary.label]).faster == one.label:
                primary = one
    return primary, warnings


def _fails(profile: DeviceProfile, runtime: str, precision: str) -> bool:
    failure = profile.failure(runtime, precision)
    return failure is not None and failure.effect == "fails"


def _below_demand(judged: Sequence[Judged], recipe: Recipe, data: Data) -> list[str]:
    """Return every way in which the result falls below the recipe's demands."""
    reasons = []
    for one in judged:
        if one.job.precision != "int8":
            continue
        twin = next((o for o in judged if o.job.format == one.job.format and o.job.precision == "fp32"), None)
        if not data.synthetic:
            base = 100.0 if not data.labelled else twin.score.top1_pct if twin else None
            drop = None if base is None else base - one.score.top1_pct
            if drop is not None and drop > recipe.max_drop_points:
                reasons.append(
                    f"{one.label} loses {drop:.2f} points of top-1 {one.score.kind}, "
                    f"{recipe.max_drop_points:g} are allowed (--max-drop); --keep-float leaves layers in float"
                )
        missing = [name for name in one.spelling.nodes if name not in (one.proven or ())]
        if one.planned is not None and len(one.proven or ()) < one.planned:
            reasons.append(
                f"{one.label}: {one.runtime} ran {len(one.proven or ())} of {one.planned} planned layers on integers"
                f"{'; not: ' + ', '.join(missing[:5]) if missing else ''}"
            )
        unexplained = [row.name for row in one.rows if row.unexplained]
        if recipe.strict and unexplained:
            reasons.append(
                f"{one.label} departs from the plan without a stated reason at {len(unexplained)} places "
                f"(--strict): {', '.join(unexplained[:5])}"
            )
    return reasons
