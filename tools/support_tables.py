"""Tables of what is supported: runtimes and their versions, file formats, machines; for tools/docs_tables.py."""

import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from next_versions import load, page, pinned
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgeslim.artifact import format_1, manifest
from edgeslim.deploy.agent_program import ARCHITECTURES
from edgeslim.devices.profile import all_profiles
from edgeslim.formats import FORMATS, RUNTIMES
from edgeslim.measure import measurement
from edgeslim.recipe import Recipe
from edgeslim.table import markdown_rows as table

REPOSITORY = Path(__file__).resolve().parent.parent


def supported_packages() -> str:
    """One row a package that computes, or writes or reads files: what edgeslim takes, and with which it was checked."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins = pinned((REPOSITORY / "constraints.txt").read_text())
    extras: dict[str, list[str]] = project["optional-dependencies"]
    wanted = [("", "torch", project["dependencies"])]
    wanted += [(one, "", extras[one]) for one in ("onnx", "openvino", "tflite", "torchvision", "ethos-u", "micro")]
    rows = [
        [one.name, f"`{extra}`" if extra else "always", str(one.specifier) or "any", pins[canonicalize_name(one.name)]]
        for extra, only, listed in wanted
        for one in _requirements(listed, only)
    ]
    return table(["package", "extra", "versions taken", "checked with"], rows)


def _requirements(listed: list[str], only: str) -> Iterator[Requirement]:
    """Yield packages of requirements other than edgeslim's own extras, or the one that is named."""
    for one in map(Requirement, listed):
        if one.name != "edgeslim" and only in ("", one.name):
            yield one


def supported_runtimes() -> str:
    """One row a runtime: what it runs, and the packages that hold it where an artifact is verified or run."""
    rows = [
        [name, f"`{form.suffix}`", " or ".join(f"`{package}`" for package in RUNTIMES[name].packages)]
        for name, form in ((one.runtime, one) for one in FORMATS.values())
    ]
    return table(["runtime", "runs", "package that holds it"], rows)


def supported_files() -> str:
    """One row a kind of file that is kept: the format that is written, and older ones that are read."""
    sensitivity = import_module("edgeslim.pipeline.sensitivity").FORMAT
    rows = [
        ["an artifact's manifest", manifest.FORMAT, format_1.FORMAT],
        ["a recipe", Recipe.model_fields["format"].default, ""],
        ["a measurement", measurement.FORMAT, ""],
        ["a sensitivity report", sensitivity, ""],
    ]
    return table(["file", "written", "read as well"], rows)


def supported_machines() -> str:
    """One row an architecture: the devices that have it, and whether the agent that measures there can be compiled."""
    found: dict[str, list[str]] = {}
    for one in all_profiles():
        found.setdefault(one.architecture, []).append(f"`{one.name}`")
    rows = [
        [name, ", ".join(devices), "yes" if name in ARCHITECTURES else "no: nothing runs there, files are compiled"]
        for name, devices in sorted(found.items())
    ]
    return table(["architecture", "devices", "measured there"], rows)


def next_versions() -> str:
    """What the tests said of the newest versions, and when."""
    return page(load())


TABLES = (supported_packages, supported_runtimes, supported_files, supported_machines, next_versions)
