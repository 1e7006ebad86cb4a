"""Kinds of accelerators: what a build does for each, one file or folder a kind, named by the device's profile.

A module, of a folder its build.py, with these functions; cpu.py is the smallest example. Importing it is light: what
loads a network is imported where it is needed.

`default_recipe(profile)`: what a build does when nothing else is asked for.
`profile_faults(profile)`: why edgeslim cannot build for such a device at all.
`recipe_faults(recipe, profile)`: what of a recipe the device has no use for, in milliseconds; MissingPackage without a
tool that it takes.
`model_faults(model, profile, steps)`: why the device cannot have a network, layer by layer, and what `steps` cure.
`ends(model, precision)`: what a file takes and gives.
`operator_runtime(profile)`: in which runtime single operators are timed, and the multiple of channels that it wants.
`deliver(judged, stages, recipe, context, destination)`: compile, time or simulate; a `Delivery`.
`lines(manifest)`, `bench_lines(manifest)`: the accelerator's part of a build's summary, and what a bench leaves out.
`inspected(artifact)`: what only its artifacts hold, as data and as tables.

`OWN_RULES`: its `model_faults` stand for the rules on operators, averages and weights that hold for the runtimes of a
CPU. `EXTRAS`: edgeslim's extras that bring its tools, `CHECKS`: by package, the code that shows that one works.
"""

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgeslim.artifact.manifest import Manifest, Tolerance
from edgeslim.artifact.sections import AcceleratorSection, ReferenceKernels
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import BadProfile, near_misses
from edgeslim.measure.measurement import Measurement
from edgeslim.recipe import Recipe
from edgeslim.table import Table
from edgeslim.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from edgeslim.export.evaluation.run import Judged

CPU = "cpu"  # of what needs no accelerator


@dataclass(frozen=True)
class Faults:
    """Why a device cannot have a network, and what would be rewritten so that it can, in sentences."""

    reasons: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """What a device gets of the files of a build, and what was found out about them.

    `primary` is the path, in the artifact, of what the device should run, None where there is nothing; `on_cpu` tells
    whether the device's CPU runs it, so that its time can be estimated. `files`: what else goes into the artifact, by
    its path there. `tolerances` (one an output), `reference_kernels`: of model files, by label. `failures` are what
    could not be made, `reasons` what falls below the recipe's demands; `warnings` are the same in every run, `doubts`
    follow from times.
    """

    primary: str | None
    on_cpu: bool = False
    section: AcceleratorSection | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    tolerances: Mapping[str, tuple[Tolerance, ...]] = field(default_factory=dict)
    reference_kernels: Mapping[str, ReferenceKernels] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspected:
    """What only the artifacts of an accelerator hold: as JSON can hold it, by name, and as tables."""

    data: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()


def known_backends() -> list[str]:
    """Return the names of all kinds, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def backend_named(name: str) -> ModuleType:
    """Return the module of a kind of accelerator; BadProfile for a name that none has."""
    if name not in known_backends():
        raise BadProfile(
            f"no backend `{name}`{near_misses(name, known_backends())}; backends are {', '.join(known_backends())}"
        )
    found = import_module(f"{__name__}.{name}")
    return import_module(f"{__name__}.{name}.build") if hasattr(found, "__path__") else found


def backend_of(profile: DeviceProfile) -> ModuleType:
    """Return the module that builds for a device."""
    return backend_named(profile.backend_name)


def backend_of_artifact(manifest: Manifest) -> ModuleType:
    """Return the module that built what an artifact holds."""
    section = manifest.accelerator
    return backend_named(CPU if section is None else section.BACKEND)


def beyond_budget(primary: "Judged | None", recipe: Recipe, measurements: Sequence[Measurement]) -> list[str]:
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
