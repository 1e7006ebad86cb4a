"""What follows from the findings: which file the device should run, and whether the result is good enough."""

from collections.abc import Sequence

from edgeslim.compress.prune.step import AMOUNTS
from edgeslim.devices.machine import this_machine
from edgeslim.devices.profile import DeviceProfile, is_this_machine, known_to_fail
from edgeslim.export.evaluation.run import Judged, known_failures, twin_of
from edgeslim.measure.comparison import faster
from edgeslim.measure.measurement import Measurement
from edgeslim.recipe import Recipe
from edgeslim.tasks.images import Data
from edgeslim.units import show_bytes, show_seconds


def choose_primary(
    judged: Sequence[Judged], measurements: Sequence[Measurement], profile: DeviceProfile
) -> tuple[Judged | None, list[str]]:
    """Return the file the device should run, and warnings.

    For this machine: the fastest, beyond noise, of all. For another device times taken here only warn, and the order
    of its profile decides, without what is known to fail on it. For an NPU it is the file that takes and gives int8,
    for a GPU the fp16 file, else the INT8 one.
    """
    if profile.compiler is not None:
        return next((one for one in judged if one.job.io == "int8"), None), known_failures(judged, profile)
    if profile.tensorrt is not None:
        return _for_gpu(judged, profile), known_failures(judged, profile)
    ranked = [
        one
        for support in profile.runtimes
        for precision in ("int8", "fp32")
        for one in judged
        if one.runtime == support.name and one.job.precision == precision and precision in support.precisions
        if not known_to_fail(profile, support.name, precision)
    ]
    warnings = [*known_failures(judged, profile), *_saturated(judged)]
    times = {m.label: m for m in measurements}
    here = is_this_machine(profile)
    for one in judged:
        twin = twin_of(one, judged)
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


def _for_gpu(judged: Sequence[Judged], profile: DeviceProfile) -> Judged | None:
    """Return the file from which the engine is built; INT8 comes second, for whether it is faster must be measured."""
    offered = () if profile.tensorrt is None else profile.tensorrt.precisions
    for precision in ("fp16", "int8", "fp32"):
        for one in judged:
            if (
                one.job.precision == precision
                and precision in offered
                and not known_to_fail(profile, "tensorrt", precision)
            ):
                return one
    return None


def _saturated(judged: Sequence[Judged]) -> list[str]:
    """Return what this machine gets wrong with these files, which another would not."""
    if not this_machine().saturates_in_openvino or all(one.label != "openvino int8" for one in judged):
        return []
    return [
        "this CPU has no VNNI: OpenVINO's integer sums saturate here, so accuracy and golden outputs of the INT8 "
        "OpenVINO file are those of saturated arithmetic; build on a CPU with VNNI to judge it"
    ]


def lost_points(one: Judged, judged: Sequence[Judged], data: Data) -> float | None:
    """Return the points of top-1 that a file loses against its fp32 twin; None where that cannot be said.

    Without labels they are points of agreement.
    """
    twin = twin_of(one, judged)
    base = 100.0 if not data.labelled else twin.score.top1_pct if twin else None
    return None if data.synthetic or base is None or one is twin else base - one.score.top1_pct


def worst_beyond_drop(judged: Sequence[Judged], recipe: Recipe, data: Data) -> tuple[Judged, float] | None:
    """Return the file that loses most, and the points, where that is more than the recipe allows."""
    lost = [(one, points) for one in judged if (points := lost_points(one, judged, data)) is not None]
    worst = max(lost, key=lambda pair: pair[1], default=None)
    return None if worst is None or worst[1] <= recipe.max_drop_points else worst


def below_demand(judged: Sequence[Judged], recipe: Recipe, data: Data) -> list[str]:
    """Return every way in which the result falls below the recipe's demands."""
    reasons = []
    for one in judged:
        if one.job.precision == "fp32":
            continue
        drop = lost_points(one, judged, data)
        if drop is not None and drop > recipe.max_drop_points:
            asked = any(call.step == "prune" and set(AMOUNTS) & set(call.settings) for call in recipe.steps)
            cures = [*(["--no-prune leaves every channel"] if asked else []), "--keep-float leaves layers in float"]
            reasons.append(
                f"{one.label} loses {drop:.2f} points of top-1 {one.score.kind}, "
                f"{recipe.max_drop_points:g} are allowed (--max-drop); {', '.join(cures)}"
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


def beyond_budget(primary: Judged | None, recipe: Recipe, measurements: Sequence[Measurement]) -> list[str]:
    """Return how the file the device should run exceeds the size and the time that were demanded."""
    if primary is None:
        return []
    reasons = []
    if recipe.max_size_bytes is not None and primary.size_bytes > recipe.max_size_bytes:
        reasons.append(
            f"{primary.label} takes {show_bytes(primary.size_bytes)}, {show_bytes(recipe.max_size_bytes)} are allowed "
            "(--max-size)"
        )
    one = next((m for m in measurements if m.label == primary.label), None)
    if one is not None and recipe.max_latency_s is not None and one.median_s > recipe.max_latency_s:
        reasons.append(
            f"{primary.label} takes {show_seconds(one.median_s)} an image, {show_seconds(recipe.max_latency_s)} are "
            "allowed (--max-latency)"
        )
    return reasons
