"""What a build does for an Arm Ethos-U: INT8 in and out, compiled by Vela, held against the device's memories."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeslim.artifact.archive import MEASUREMENTS, Artifact
from edgeslim.backends import Delivery, Faults, Inspected, cpu
from edgeslim.backends.ethos_u import tables
from edgeslim.backends.ethos_u.simulation import FILE, load_simulation, save_simulation
from edgeslim.backends.ethos_u.vela_config import profile_faults as config_faults
from edgeslim.devices.profile import DeviceProfile
from edgeslim.formats import Io
from edgeslim.recipe import Recipe, StepCall

if TYPE_CHECKING:
    from edgeslim.export.evaluation.run import Judged
    from edgeslim.model.context import Context
    from edgeslim.model.model import Model, Stages

OWN_RULES = True
EXTRAS = {"ethos-u": ("ethos-u-vela",), "micro": ("tflite-micro",)}
CHECKS = {
    "ethos-u-vela": "from edgeslim.backends.ethos_u.compile import require_vela; require_vela(); import ethosu.vela",
    "tflite-micro": "import tflite_micro",
}
operator_runtime = cpu.operator_runtime  # its own operators are simulated whole, never one by one
lines, bench_lines = tables.compiled_lines, tables.untimed_lines


def default_recipe(profile: DeviceProfile) -> Recipe:
    """Rewrite what the NPU refuses, then quantize.

    No `prune`: it goes by measured operator times, and here an NPU has none. No `promote`: it runs no floats.
    """
    quantize = StepCall(step="quantize", settings={"promote": False})
    return Recipe(steps=(StepCall(step="fold"), StepCall(step="legalize"), quantize), formats=("tflite",))


def profile_faults(profile: DeviceProfile) -> list[str]:
    """Return what Vela's configuration lacks for the device."""
    return config_faults(profile)


def recipe_faults(recipe: Recipe, profile: DeviceProfile) -> list[str]:
    """Refuse a recipe that gives an NPU nothing to run; MissingPackage without the compiler."""
    from edgeslim.backends.ethos_u.compile import require_vela

    require_vela()
    faults = []
    if recipe.formats != ("tflite",):
        faults.append(
            f"{profile.name} runs what Vela compiles from TFLite; the recipe writes {', '.join(recipe.formats)} "
            "(--format tflite)"
        )
    if all(call.step != "quantize" for call in recipe.steps):
        faults.append(f"{profile.name} has an NPU, which runs INT8 alone; the recipe has no step `quantize`")
    if recipe.max_latency_s is not None:
        faults.append(
            f"--max-latency cannot be judged for {profile.name}: its NPU's time is simulated here, never measured"
        )
    return faults


def model_faults(model: "Model", profile: DeviceProfile, steps: Sequence[tuple[Any, Any]]) -> Faults:
    """Ask every rule of the NPU; what the wanted rewrites cure is no reason."""
    from edgeslim.compress import fold
    from edgeslim.compress.legalize import step as legalize
    from edgeslim.compress.legalize.rules import violations
    from edgeslim.model.graph import copy_of

    wanted = next((settings for module, settings in steps if module is legalize), legalize.Settings(("none",)))
    graph, _ = fold.folded_graph(copy_of(model.graph), model.input_shape)  # not traced once more: it takes seconds
    found = violations(graph, profile)
    return Faults(
        tuple(str(one) for one in found if not wanted.cures(one)), tuple(str(one) for one in found if wanted.cures(one))
    )


def ends(model: "Model", precision: str) -> Io:
    """The INT8 file of an NPU has no floats at its ends."""
    return "int8" if precision == "int8" else "float32"


def deliver(
    judged: "Sequence[Judged]", stages: "Stages", recipe: Recipe, context: "Context", destination: Path
) -> Delivery:
    """Compile the INT8 file for each goal, keep the better one, and run it in reference kernels."""
    from edgeslim.backends.ethos_u.compiled import compile_best, unfit
    from edgeslim.backends.ethos_u.section import compiled_file, compiled_path, files_of, simulation
    from edgeslim.export.evaluation.run import known_failures

    made, failures = compile_best(judged, context, destination)
    warnings = known_failures(judged, context.profile)
    if made is None:
        return Delivery(primary=None, failures=tuple(failures), warnings=tuple(warnings))
    save_simulation(simulation(made, context.profile.name), context.work)
    reference = {} if made.reference is None else {made.made_from.label: made.reference}
    return Delivery(
        primary=compiled_path(made),
        section=compiled_file(made, made.made_from.path),
        files={**files_of(made), f"{MEASUREMENTS}/{FILE}": context.work / FILE},
        reference_kernels=reference,
        failures=tuple(failures),
        reasons=tuple(unfit(made, recipe)),
        warnings=(*warnings, *made.warnings),
    )


def inspected(artifact: Artifact) -> Inspected:
    """Return what the compiler simulates for each of its goals."""
    found = load_simulation(artifact.folder / MEASUREMENTS)
    if found is None:  # an archive holds no measurements
        return Inspected({"simulated": None})
    return Inspected({"simulated": asdict(found)}, (tables.simulation_table(found),))
