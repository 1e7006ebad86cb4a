"""The smallest accelerator: it runs INT8 ONNX files, which a "compiler" of its own compresses; nothing is timed."""

import gzip
from pathlib import Path

from edgeslim.backends import Delivery, Faults, Inspected, cpu
from edgeslim.recipe import Recipe, StepCall

OWN_RULES, EXTRAS, CHECKS = False, {}, {}
operator_runtime = cpu.operator_runtime


def default_recipe(profile):
    steps = (StepCall(step="fold"), StepCall(step="quantize"))
    return Recipe(steps=steps, formats=("onnx",), max_drop_points=100.0)


def profile_faults(profile):
    return []


def recipe_faults(recipe, profile):
    return [] if recipe.formats == ("onnx",) else [f"{profile.name} takes ONNX alone (--format onnx)"]


def model_faults(model, profile, steps):
    most = 100_000
    found = [f"{model.source} has more weights than {most:,}"] if model.parameters > most else []
    return Faults(tuple(found))


def ends(model, precision):
    return "float32"


def deliver(judged, stages, recipe, context, destination):
    (one,) = (one for one in judged if one.job.precision == "int8")
    program = Path(context.work) / "program.toy"
    program.write_bytes(gzip.compress(one.job.target.read_bytes(), mtime=0))
    return Delivery(
        primary=one.path, files={"models/program.toy": program}, warnings=("the toy was never seen by anyone",)
    )


def lines(manifest):
    return []


def bench_lines(manifest):
    return []


def inspected(artifact):
    return Inspected()
