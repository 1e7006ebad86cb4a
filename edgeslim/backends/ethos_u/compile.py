"""Compile an INT8 TFLite file for an Ethos-U with Arm's Vela, in a process of its own, and read what it reports.

Vela ends with exit code 0 on everything, a float network included, which it leaves to the CPU whole: only its reports
say what runs where. Its figures are a simulation, never a measurement.
"""

import importlib.metadata
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeslim.backends.ethos_u.vela_config import CONFIG
from edgeslim.backends.ethos_u.vela_report import Placement, VelaEstimate, read_estimate, read_placement
from edgeslim.devices.profile import Compiler
from edgeslim.errors import MissingPackage, Refused, ToolFailed
from edgeslim.export import tflite_ends
from edgeslim.export.process import run_tool
from edgeslim.resources import python_command
from edgeslim.units import show_memory, show_seconds

PACKAGE, VERSION, EXTRA = "ethos-u-vela", "5.2.0", "ethos-u"
Goal = Literal["Performance", "Size"]
GOALS: tuple[Goal, ...] = ("Performance", "Size")
# How far the simulation is known to be off: `tools/bench_ethos_u.py mobilenet_v2` beside NXP's eiq-model-zoo.
KNOWN_ERROR = "mobilenet_v2 (224x224) on i.MX 93: 3.46 ms published by NXP, 4.90 ms simulated (+42 %)"


@dataclass(frozen=True)
class Compiled:
    """A compiled network: the file, the reports of Vela it was read from, and which goal it was compiled for."""

    goal: Goal
    file: Path
    layers: Path
    summary: Path
    log: Path
    placement: Placement
    estimate: VelaEstimate

    @property
    def flash_bytes(self) -> int:
        """Bytes that storage must hold: the whole file."""
        return self.file.stat().st_size

    def excesses(self, compiler: Compiler) -> list[str]:
        """Return how it exceeds the device's SRAM and flash, with figures; none where it fits or nobody knows."""
        needs = (
            ("SRAM", self.estimate.sram_bytes, compiler.sram.value),
            ("flash", self.flash_bytes, compiler.flash.value),
        )
        return [
            f"needs {show_memory(has)} of {name}, the device has {show_memory(limit)}"
            for name, has, limit in needs
            if limit is not None and has > limit
        ]

    def __str__(self) -> str:
        """Say the goal and its price."""
        return f"{self.goal}: {show_seconds(self.estimate.inference_s)}, SRAM {show_memory(self.estimate.sram_bytes)}"


def require_vela(path: Sequence[str] | None = None) -> None:
    """Raise ToolFailed where Vela is missing or is not the version whose reports and figures edgeslim knows.

    `path` is where packages are looked for, by default where Python looks.
    """
    found = importlib.metadata.distributions(name=PACKAGE, path=list(sys.path if path is None else path))
    version = next((one.version for one in found), None)
    if version is None:
        raise MissingPackage(PACKAGE, EXTRA)
    if version != VERSION:
        raise ToolFailed(
            f"{PACKAGE} {version} is installed; edgeslim knows the reports and figures of {VERSION}: "
            f"pip install '{PACKAGE}=={VERSION}'"
        )


def compile_network(model: Path, compiler: Compiler, folder: Path) -> list[Compiled]:
    """Compile a TFLite file for both goals of Vela; return both, the one to take first.

    That is the fastest that fits the device, of equally fast ones the one with less SRAM; where none fits, the one with
    the least SRAM. Results lie in `folder`, one folder a goal, logs beside it; nothing half-written stays there. Raises
    Refused for a batch above 1 and without a memory mode, ToolFailed where Vela is missing, another version, or fails.
    """
    require_vela()
    if compiler.memory_mode is None:
        raise Refused("the profile's `compiler` names no memory mode, and Vela would guess one: `memory_mode: ...`")
    batch = tflite_ends(model).input.shape[0]
    if batch != 1:
        raise Refused(f"{model.name} takes {batch} images at a time; an Ethos-U takes one: export it for a batch of 1")
    return in_order([_compile(model, compiler, goal, folder) for goal in GOALS], compiler)


def in_order(made: Sequence[Compiled], compiler: Compiler) -> list[Compiled]:
    """Return what was compiled with the one to take first, as `compile_network` says."""

    def rank(one: Compiled) -> tuple[bool, float, float]:
        unfit, sram_bytes = bool(one.excesses(compiler)), one.estimate.sram_bytes
        return unfit, sram_bytes if unfit else one.estimate.inference_s, sram_bytes

    return sorted(made, key=rank)


def _compile(model: Path, compiler: Compiler, goal: Goal, folder: Path) -> Compiled:
    """Run Vela once; its folder gets its name when everything in it was read."""
    work, done = folder / f"{goal}.part", folder / goal
    work.mkdir(parents=True)
    log = folder.with_name(f"vela_{goal}.log")
    try:
        # Relative names: the log becomes part of an artifact, and must not name a folder of this machine.
        shutil.copyfile(model, work / model.name)
        shutil.copyfile(CONFIG, work / CONFIG.name)
        run_tool(_command(model.name, compiler, goal), log, f"Vela (for {goal})", work)
        reports = work / "reports"
        layers = reports / f"{model.stem}_per-layer.csv"
        summary = reports / f"{model.stem}_summary_{compiler.system_config}.csv"
        file = reports / f"{model.stem}_vela.tflite"
        missing = [one.name for one in (layers, summary, file) if not one.is_file()]
        if missing:
            raise ToolFailed(f"Vela (for {goal}) wrote no {', '.join(missing)}; its log: {log}")
        placement = read_placement(layers.read_text(), log.read_text(errors="replace"))
        estimate = read_estimate(summary.read_text())
        reports.replace(done)
    finally:
        shutil.rmtree(work)
    return Compiled(goal, done / file.name, done / layers.name, done / summary.name, log, placement, estimate)


def _command(model: str, compiler: Compiler, goal: str) -> list[str]:
    return [
        *python_command("-m", "ethosu.vela", model),
        *("--config", f"./{CONFIG.name}"),
        *("--accelerator-config", compiler.accelerator_config),
        *("--system-config", compiler.system_config),
        *("--memory-mode", str(compiler.memory_mode)),
        *("--optimise", goal),
        *("--output-dir", "reports"),
        *("--verbose-performance", "--show-cpu-operations"),
    ]
