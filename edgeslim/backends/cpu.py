"""CPUs: the runtimes of the device's own profile, timed here; what the other kinds of accelerators are written like."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeslim.artifact.archive import Artifact
from edgeslim.artifact.manifest import Manifest
from edgeslim.backends import Delivery, Faults, Inspected, beyond_budget
from edgeslim.deploy.device import Candidate
from edgeslim.devices.machine import this_machine
from edgeslim.devices.profile import DeviceProfile, is_this_machine, known_to_fail
from edgeslim.emulation.estimator import calibrated_for
from edgeslim.errors import Refused
from edgeslim.formats import Io
from edgeslim.measure.comparison import faster
from edgeslim.measure.harness import Workload, measure
from edgeslim.measure.measurement import Measurement
from edgeslim.measure.operators.times import MEASURABLE, measurable
from edgeslim.recipe import Recipe, StepCall

if TYPE_CHECKING:
    from edgeslim.export.evaluation.run import Judged
    from edgeslim.model.context import Context
    from edgeslim.model.model import Model, Stages

OWN_RULES = False
EXTRAS: dict[str, tuple[str, ...]] = {}
CHECKS: dict[str, str] = {}
TIMED_PROCESSES = 5


def default_recipe(profile: DeviceProfile) -> Recipe:
    """Prune by times of single operators, fold, quantize; a device of another class is measured as it is."""
    if profile.device_class != "cpu":
        return Recipe(steps=(StepCall(step="fold"),))
    return Recipe(steps=(StepCall(step="prune"), StepCall(step="fold"), StepCall(step="quantize")))


def profile_faults(profile: DeviceProfile) -> list[str]:
    """Refuse devices whose accelerator no other module knows."""
    if profile.device_class == "cpu":
        return []
    return [
        f"{profile.name} is a device of class {profile.device_class}; building for GPUs without TensorRT and for NPUs "
        "other than Ethos-U is not there yet"
    ]


def recipe_faults(recipe: Recipe, profile: DeviceProfile) -> list[str]:
    """Return nothing: a CPU takes every recipe."""
    return []


def model_faults(model: "Model", profile: DeviceProfile, steps: Sequence[tuple[Any, Any]]) -> Faults:
    """Return nothing: the rules of the pipeline are those of a CPU's runtimes."""
    return Faults()


def ends(model: "Model", precision: str) -> Io:
    """CPU devices want floats in all formats."""
    return "float32"


def operator_runtime(profile: DeviceProfile) -> tuple[str, int]:
    """Return the device's first runtime that runs INT8, of those here where there is one, and its channel multiple."""
    # One whose costs were fitted on the device itself comes first.
    offered = [
        support
        for support in sorted(profile.runtimes, key=lambda one: not calibrated_for(profile, one.name))
        if "int8" in support.precisions and not known_to_fail(profile, support.name, "int8")
    ]
    if not offered:
        raise Refused(
            f"pruning for {profile.name} needs one of its runtimes here, to measure in: "
            f"{', '.join(r.name for r in profile.runtimes)}; edgeslim measures in {', '.join(MEASURABLE)}"
        )
    chosen = next((one for one in offered if measurable(one.name)), offered[0])
    return chosen.name, chosen.channel_multiple["int8"].value or 1


def deliver(
    judged: "Sequence[Judged]", stages: "Stages", recipe: Recipe, context: "Context", destination: Path
) -> Delivery:
    """Time every file on this machine and name the one the device should run."""
    measurements = time_all(judged, recipe.threads, context)
    primary, warnings = choose_primary(judged, measurements, context.profile)
    taken_there = measurements if is_this_machine(context.profile) else []
    return Delivery(
        primary=None if primary is None else primary.path,
        on_cpu=True,
        measurements=tuple(measurements),
        reasons=tuple(beyond_budget(primary, recipe, taken_there)),
        warnings=tuple(warnings),
        doubts=tuple(slower_than_float(judged, measurements, context.profile)),
    )


def time_all(judged: "Sequence[Judged]", threads: int, context: "Context") -> list[Measurement]:
    """Time every judged file on this machine: fresh processes, interleaved."""
    from edgeslim.export.evaluation.inputs import TIMED_IMAGES, first_rows, input_files

    inputs = input_files(context.work)
    return measure(
        [Candidate(j.label, j.runtime, j.job.target, j.job.precision) for j in judged],
        {j.runtime: first_rows(inputs[j.runtime], TIMED_IMAGES) for j in judged},
        Workload(threads=threads, processes=TIMED_PROCESSES, min_duration_s=0.2),
        progress=context.progress,
    )


def choose_primary(
    judged: "Sequence[Judged]", measurements: Sequence[Measurement], profile: DeviceProfile
) -> "tuple[Judged | None, list[str]]":
    """Return the file the device should run, and warnings.

    For this machine: the fastest, beyond noise, of all. For another device the order of its profile decides, without
    what is known to fail on it.
    """
    from edgeslim.export.evaluation.run import known_failures

    ranked = [
        one
        for support in profile.runtimes
        for precision in ("int8", "fp32")
        for one in judged
        if one.runtime == support.name and one.job.precision == precision and precision in support.precisions
        if not known_to_fail(profile, support.name, precision)
    ]
    warnings = [*known_failures(judged, profile), *_saturated(judged)]
    if not ranked:
        return None, [*warnings, f"no file is known to run on {profile.name}: the artifact names no primary"]
    primary = ranked[0]
    if is_this_machine(profile):
        times = {m.label: m for m in measurements}
        for one in ranked[1:]:
            if faster(times[one.label], times[primary.label]).faster == one.label:
                primary = one
    return primary, warnings


def slower_than_float(
    judged: "Sequence[Judged]", measurements: Sequence[Measurement], profile: DeviceProfile
) -> list[str]:
    """Return a warning for every INT8 file that is slower than its float twin, beyond noise, on this machine."""
    from edgeslim.export.evaluation.run import twin_of

    times = {m.label: m for m in measurements}
    where = profile.name if is_this_machine(profile) else f"the machine that built it (no {profile.name})"
    warnings = []
    for one in judged:
        twin = twin_of(one, judged)
        if one.job.precision == "int8" and twin is not None:
            verdict = faster(times[one.label], times[twin.label])
            if verdict.faster == twin.label:
                warnings.append(f"{one.label} is slower than {twin.label} on {where}: {verdict}")
    return warnings


def _saturated(judged: "Sequence[Judged]") -> list[str]:
    """Return what this machine gets wrong with these files, which another would not: none with weights of 7 bits."""
    files = [one.job for one in judged if one.label == "openvino int8"]
    if not this_machine().sums_saturate or not any(one.plan().may_saturate for one in files):
        return []
    return [
        "the CPU of the build has no VNNI: OpenVINO's integer sums saturate there, so accuracy and golden outputs of "
        "the INT8 OpenVINO file are those of saturated arithmetic; build on a CPU with VNNI to judge it, or with "
        "weights of 7 bits (recipe: `quantize`, `reduce_range: true`)"
    ]


def lines(manifest: Manifest) -> list[str]:
    """Return nothing: the summary's table says all."""
    return []


def bench_lines(manifest: Manifest) -> list[str]:
    """Return nothing: a bench times every file."""
    return []


def inspected(artifact: Artifact) -> Inspected:
    """Return nothing beside what every artifact holds."""
    return Inspected()
