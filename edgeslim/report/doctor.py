"""What is installed here, what of it works, what the machine can do, and the command that would enable the rest."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeslim.backends import backend_named, known_backends
from edgeslim.deploy.agent_program import ARCHITECTURES, agent_program
from edgeslim.deploy.installed import runtime_available, version_of
from edgeslim.devices.machine import Machine, this_machine
from edgeslim.emulation.core import require_tools
from edgeslim.emulation.virtual_machine import cure, missing_tools
from edgeslim.errors import ToolFailed
from edgeslim.export.process import child_environment
from edgeslim.formats import FORMATS, FormatName
from edgeslim.resources import python_command
from edgeslim.units import show_bytes, show_memory

IMPORT_TIMEOUT_S = 120.0
RAM_WANTED_BYTES = 3e9  # the default build; a network of the size of resnet50 takes twice that
DISK_WANTED_BYTES = 2e9  # the exports of both precisions in all formats, once in the work folder and once packed

_PROBE = "import sys; sys.modules['openvino_telemetry'] = None; "  # importing openvino would report to its maker
# Loaded as edgeslim loads them: a CPU-only torch lacks operators that torchvision's plain import asks for.
_IMPORTS = {
    "torchvision": "from edgeslim.model.sources.torchvision import torchvision_models; torchvision_models()",
    "timm": "from edgeslim.model.sources.timm import timm_package; timm_package()",
    "transformers": "from edgeslim.model.sources.huggingface import transformers_package; transformers_package()",
    **{package: check for name in known_backends() for package, check in backend_named(name).CHECKS.items()},
}
_OTHER_EXTRAS = {
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "huggingface": ("transformers",),
    **{extra: packages for name in known_backends() for extra, packages in backend_named(name).EXTRAS.items()},
}


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at; `cure` is the command that would make it "ok", where there is one."""

    what: str
    state: Literal["ok", "missing", "limited"]
    detail: str
    cure: str | None = None


@dataclass(frozen=True)
class Package:
    """One package by the name it is imported with; `version` is None if it is absent, `fault` says why it is broken."""

    name: str
    version: str | None
    fault: str | None = None


def diagnose(root: Path = Path("/")) -> list[Diagnosis]:
    """Return what was found out about this Python, its packages, the formats and the machine.

    Every package is imported in a process of its own, which takes some seconds each. `root` is where /proc lies.
    """
    extras = {form.extra: form.packages for form in FORMATS.values()} | _OTHER_EXTRAS
    names = ["torch", *dict.fromkeys(name for packages in extras.values() for name in packages)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        packages = dict(zip(names, pool.map(examine, names), strict=True))
    found = {extra: [packages[name] for name in names] for extra, names in extras.items()}
    return [
        Diagnosis("Python", "ok", f"{platform.python_version()}, {sys.executable}"),
        of_packages("torch", [packages["torch"]], "pip install edgeslim"),
        *(of_packages(f"extra {extra}", of, f"pip install 'edgeslim[{extra}]'") for extra, of in found.items()),
        *(of_format(name, found[form.extra]) for name, form in FORMATS.items()),
        *(of_agent(architecture) for architecture in ARCHITECTURES),
        of_ssh(),
        of_emulator(),
        of_virtual_machine(),
        *of_machine(root),
        *(_disk(folder, use) for folder, use in ((Path.cwd(), "artifacts"), (Path(tempfile.gettempdir()), "work"))),
    ]


def examine(name: str) -> Package:
    """Return the installed version of the package imported as `name`, and why it is broken if importing it fails."""
    version = version_of(name)
    return Package(name, version, None if version is None else fault_of(_IMPORTS.get(name, f"import {name}")))


def fault_of(code: str, timeout_s: float = IMPORT_TIMEOUT_S) -> str | None:
    """Run a line of Python as an exporter process would run it; return why it failed, or None."""
    try:
        done = subprocess.run(
            python_command("-c", _PROBE + code),
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not finished after {timeout_s:g} s"
    if done.returncode < 0:
        return f"killed by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else None


def of_packages(what: str, packages: Sequence[Package], install: str) -> Diagnosis:
    """Return the state of packages that serve one purpose; `install` is the command for those that are absent."""
    present = ", ".join(f"{package.name} {package.version}" for package in packages if package.version)
    absent = [package.name for package in packages if package.version is None]
    broken = [package for package in packages if package.fault]
    if absent:
        there = f" ({present} is there)" if present else ""
        return Diagnosis(what, "missing", f"not installed: {', '.join(absent)}{there}", install)
    if broken:
        faults = "; ".join(f"{package.name} {package.version}: {package.fault}" for package in broken)
        again = " ".join(f"{package.name}=={package.version}" for package in broken)
        return Diagnosis(what, "missing", f"broken: {faults}", f"pip install --force-reinstall --no-deps {again}")
    return Diagnosis(what, "ok", present)


def of_format(name: FormatName, packages: Sequence[Package]) -> Diagnosis:
    """Return whether files of a format can be written and run here; "limited": existing ones can be run."""
    form = FORMATS[name]
    state = of_packages(name, packages, f"pip install 'edgeslim[{form.extra}]'")
    runtime = f"{form.runtime} {runtime_available(form.runtime)}"
    if state.state == "ok":
        return Diagnosis(f"format {name}", "ok", f"can be written, and run in {runtime}")
    if runtime_available(form.runtime) and not any(package.fault for package in packages):
        return Diagnosis(
            f"format {name}", "limited", f"can be run in {runtime}, not written; {state.detail}", state.cure
        )
    return Diagnosis(f"format {name}", "missing", f"can be neither written nor run; {state.detail}", state.cure)


def of_agent(architecture: str) -> Diagnosis:
    """Return whether the agent in C that runs on devices of an architecture can be compiled here, by compiling it."""
    what = f"agent for {architecture}"
    try:
        program = agent_program(architecture)
    except ToolFailed as error:
        return Diagnosis(what, "limited", f"{error.message}; the agent in Python takes over", "pip install ziglang")
    return Diagnosis(what, "ok", f"{show_bytes(program.stat().st_size)}, {program}")


def of_ssh() -> Diagnosis:
    """Return whether a device can be reached with OpenSSH's client."""
    found = shutil.which("ssh")
    if found is None:
        return Diagnosis(
            "ssh", "missing", "no OpenSSH client, so no device can be reached", "apt-get install openssh-client"
        )
    return Diagnosis("ssh", "ok", found)


def of_emulator() -> Diagnosis:
    """Return whether a device's core can be emulated here, by building the plugin that counts."""
    try:
        tools = require_tools()
    except ToolFailed as error:
        return Diagnosis("emulated core", "missing", error.message, "sudo tools/install_emulator")
    return Diagnosis("emulated core", "ok", f"{tools.qemu} {tools.version}, libraries in {tools.libraries}")


def of_virtual_machine() -> Diagnosis:
    """Return whether a machine can be emulated, to deploy to and to find out what fits into how much memory."""
    missing = missing_tools()
    if missing:
        absent = f"not installed: {', '.join(missing)}; no machine can be emulated (bench --on emulator --ram)"
        return Diagnosis("emulated machine", "missing", absent, cure(missing))
    return Diagnosis("emulated machine", "ok", "qemu-system-aarch64 and what makes the machine are there")


def of_cpu(machine: Machine) -> Diagnosis:
    """Return the processor and, where it lacks instructions for INT8, what that means for figures taken here."""
    detail = f"{machine.cpu_model}, {machine.cores} cores"
    if machine.sums_saturate:
        return Diagnosis(
            "CPU",
            "limited",
            f"{detail}, no VNNI: INT8 is slower than elsewhere, its sums saturate in OpenVINO, and in ONNX Runtime in "
            "sessions that do not set `session.x64quantprecision` to 1, as edgeslim does",
        )
    return Diagnosis("CPU", "ok", detail + (", VNNI" if machine.has_vnni else ""))


def of_ram(machine: Machine) -> Diagnosis:
    """Return how much memory the machine has, held against what a default build takes."""
    there = show_memory(machine.ram_bytes)
    if machine.ram_bytes >= RAM_WANTED_BYTES:
        return Diagnosis("RAM", "ok", there)
    return Diagnosis("RAM", "limited", f"{there}; a build takes {show_memory(RAM_WANTED_BYTES)}")


def of_machine(root: Path) -> list[Diagnosis]:
    """Return processor and memory as /proc under `root` tells them, or the one finding that it cannot be read."""
    try:
        machine = this_machine(root)
    except ToolFailed as error:
        return [Diagnosis("machine", "limited", error.sentence)]
    return [of_cpu(machine), of_ram(machine)]


def _disk(folder: Path, use: str) -> Diagnosis:
    free = shutil.disk_usage(folder).free
    detail = f"{show_bytes(free)} free for {use} in {folder}"
    if free >= DISK_WANTED_BYTES:
        return Diagnosis("disk", "ok", detail)
    return Diagnosis("disk", "limited", f"{detail}; a build takes {show_bytes(DISK_WANTED_BYTES)}")
