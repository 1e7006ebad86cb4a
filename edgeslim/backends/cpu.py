"""CPUs: which file the device should run, and the recipe a build follows when none is given."""

from collections.abc import Sequence

from edgeslim.backends.tensorrt.build import engine_source
from edgeslim.devices.machine import this_machine
from edgeslim.devices.profile import DeviceProfile, is_this_machine, known_to_fail
from edgeslim.export.evaluation.run import Judged, known_failures, twin_of
from edgeslim.measure.comparison import faster
from edgeslim.measure.measurement import Measurement
from edgeslim.recipe import Recipe, StepCall


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
        return engine_source(judged, profile), known_failures(judged, profile)
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


def _saturated(judged: Sequence[Judged]) -> list[str]:
    """Return what this machine gets wrong with these files, which another would not."""
    if not this_machine().saturates_in_openvino or all(one.label != "openvino int8" for one in judged):
        return []
    return [
        "this CPU has no VNNI: OpenVINO's integer sums saturate here, so accuracy and golden outputs of the INT8 "
        "OpenVINO file are those of saturated arithmetic; build on a CPU with VNNI to judge it"
    ]


def default_recipe(profile: DeviceProfile) -> Recipe:
    """Return what edgeslim does for a class of devices when nothing else is asked for."""
    if profile.compiler is not None:
        # No `prune`: it goes by measured operator times, and here an NPU has none. No `promote`: it runs no floats.
        quantize = StepCall(step="quantize", settings={"promote": False})
        return Recipe(steps=(StepCall(step="fold"), StepCall(step="legalize"), quantize), formats=("tflite",))
    if profile.tensorrt is not None:
        quantize = StepCall(step="quantize", settings={"symmetric": True})
        steps = (*(StepCall(step=name) for name in ("prune", "fold", "mixed_precision")), quantize)
        return Recipe(steps=steps, formats=("onnx",))
    if profile.device_class != "cpu":
        return Recipe(steps=(StepCall(step="fold"),))
    return Recipe(steps=(StepCall(step="prune"), StepCall(step="fold"), StepCall(step="quantize")))
