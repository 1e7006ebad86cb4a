"""Fit a device's estimator on the user's own board: time a few small models there, count them here, solve for costs."""

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edgeslim.deploy.device import Candidate, Device, open_device
from edgeslim.deploy.installed import require_runtime
from edgeslim.deploy.run_model import saved_as_npy
from edgeslim.devices.emulation import Estimator
from edgeslim.devices.machine import CPUINFO
from edgeslim.devices.overlay import Calibrated, is_overlay
from edgeslim.devices.profile import PROFILE_SCHEMA, DeviceProfile, Precision, describes, load_profile
from edgeslim.emulation.core import Emulator, open_emulator, require_emulation
from edgeslim.emulation.estimator import Observation, learn_estimator
from edgeslim.errors import BadInput, InvalidMeasurement, Refused, ToolFailed
from edgeslim.measure.cautions import told_once
from edgeslim.measure.harness import Workload, measure
from edgeslim.measure.measurement import Kind, Measurement
from edgeslim.measure.operators.write import write_probe
from edgeslim.measure.placement import with_placement
from edgeslim.model.operator import Operator
from edgeslim.progress import ProgressCallback, StagedProgress, Tell, silent
from edgeslim.readable import Readable
from edgeslim.resources import whole_file
from edgeslim.strict_yaml import editor_line
from edgeslim.work_folders import work_folder

RUNTIMES = {"litert": ".tflite", "onnxruntime": ".onnx"}
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
REFUSED: tuple[Kind, ...] = ("noisy", "throttled", "clocks")  # cautions that a user may accept; "fallback" never
SERIAL = "/proc/device-tree/serial-number"
INPUTS = 4  # different samples for each model
WORKLOAD = Workload(processes=5, min_duration_s=0.3)

# Small and large, from the first to the last layers of common networks; the second linear layer is beyond any L2.
OPERATORS = (
    Operator("conv", 28, 28, 64, 128),
    Operator("conv", 14, 14, 96, 576),
    Operator("conv", 7, 7, 320, 640),
    Operator("conv", 112, 112, 3, 32, (3, 3), (2, 2), (1, 1)),
    Operator("conv", 28, 28, 32, 64, (3, 3), (1, 1), (1, 1)),
    Operator("conv", 14, 14, 128, 128, (3, 3), (1, 1), (1, 1)),
    Operator("conv", 56, 56, 96, 96, (3, 3), (1, 1), (1, 1), groups=96),
    Operator("conv", 14, 14, 384, 384, (3, 3), (1, 1), (1, 1), groups=384),
    Operator("conv", 28, 28, 128, 128, (5, 5), (1, 1), (2, 2), groups=128),
    Operator("linear", 1, 1, 1024, 512),
    Operator("linear", 1, 1, 2048, 2048),
    Operator("add", 56, 56, 64, 64),
)


@dataclass(frozen=True)
class Calibration(Readable, view="emulation:calibration_lines"):
    """What a calibration found: the estimator, what it was done with, and where the overlay lies."""

    base: str
    estimator: Estimator
    calibrated: Calibrated
    out: Path


def calibrate(
    on: str,
    *,
    device: str,
    out: str | Path,
    runtime: str = "litert",
    workload: Workload = WORKLOAD,
    operators: Sequence[Operator] = OPERATORS,
    accept: Sequence[Kind] = (),
    overwrite: bool = False,
    progress: ProgressCallback = silent,
) -> Calibration:
    """Fit the estimator of a device on the board at an address, and write it as a profile laid over the device's.

    Each operator becomes a model in fp32 and in INT8, which is counted on the emulated core and timed on the board.
    `accept` names the cautions among REFUSED that may pass. Raises BadInput, Refused for a board that is not the
    device, InvalidMeasurement for times that must not be believed, MissingPackage, ToolFailed and DeviceFailed.
    """
    out = Path(out)
    _require_place(out, overwrite=overwrite)
    if runtime not in RUNTIMES:
        raise BadInput(f"runtime `{runtime}` cannot be calibrated; expected {' or '.join(RUNTIMES)}")
    profile = load_profile(device)
    base = _base(device, profile, out)
    require_emulation(profile)
    require_runtime(runtime)
    stages = StagedProgress(progress, 4)
    stages.begin("looking at the board")
    with open_emulator(profile) as emulator, open_device(on) as board, work_folder() as folder:
        _require_board(board, profile)
        _require_one_library(board, runtime)
        stages.begin("counting on the emulated core")
        models = _models(runtime, operators, folder)
        counts = _counted(models, emulator, folder, stages)
        inputs = {one.label: arrays for one, arrays in models.items()}
        stages.begin("timing on the board")
        measured = measure(list(models), inputs, workload, device=board, progress=stages)
        stages.begin("fitting")
        _require_believed(measured, accept)
        calibrated = _calibrated(measured, board, emulator, runtime, workload, accept)
    clock = profile.cores[0].max_clock
    seen = [_observed(one, counts[one.label], clock.value or 0.0) for one in measured]
    which = f"the board {calibrated.board}" if calibrated.board else "a board without a serial number"
    source = f"edgeslim calibrate on {calibrated.date}: {calibrated.runtime} on {which}"
    estimator = learn_estimator(seen, runtime, clock, source, None)
    _write(out, base, calibrated, estimator)
    return Calibration(base, estimator, calibrated, out)


def _require_place(out: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be written or should not be."""
    if out.suffix not in (".yaml", ".yml"):
        raise BadInput(f"{out}: a profile is written; expected a name that ends in .yaml")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: the folder {out.parent} is missing")
    if out.is_dir() or (out.exists() and not overwrite):
        raise BadInput(f"{out}: exists", "choose another name (--out), or ask to overwrite it (--overwrite)")
    if not os.access(out.parent, os.W_OK):
        raise BadInput(f"{out}: the folder {out.parent} cannot be written to")


def _require_board(board: Device, profile: DeviceProfile) -> None:
    """Refuse a board that the profile does not describe, and a profile without a clock."""
    machine = board.machine
    if not describes(profile, machine):
        raise Refused(
            f"{board.target.address} is not a {profile.name}: it is a {machine.board or machine.cpu_model}, "
            f"{machine.architecture}; its times would be fitted to another core's counts",
            ["name the device that it is with --device; `edgeslim probe` compares the two"],
        )
    if profile.cores[0].max_clock.value is None:
        raise BadInput(f"{profile.name}: the profile knows no `max_clock`, so cycles do not become seconds")


def _require_one_library(board: Device, runtime: str) -> None:
    """Refuse a board that would run another library than the one that is counted here."""
    deployed = board.deployed(runtime)
    if deployed.version is None:
        raise Refused(
            f"{board.target.address} would run {deployed.library}, and another one is counted here",
            ["move it out of the usual places for the time of the calibration; this machine's version then travels"],
        )


def _models(runtime: str, operators: Sequence[Operator], folder: Path) -> dict[Candidate, list[np.ndarray]]:
    """Write a model of each operator in each precision; return it with what feeds each input, samples on axis 0."""
    generator = np.random.default_rng(0)
    found = {}
    for operator in operators:
        for precision in PRECISIONS:
            label = f"{_name(operator)} {precision}"
            file = folder / f"{label.replace(' ', '_')}{RUNTIMES[runtime]}"
            shape, dtype = write_probe(runtime, operator, precision, file)
            candidate = Candidate(label, runtime, file, precision)
            found[candidate] = [_samples(generator, shape, dtype) for _ in range(operator.inputs)]
    return found


def _samples(generator: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return INPUTS samples of noise, as codes that spread over an integer type."""
    samples = generator.standard_normal((INPUTS, *shape[1:]))
    if dtype != np.float32:
        codes = np.iinfo(dtype)
        samples = np.clip(samples * 40 + (codes.max + codes.min) / 2, codes.min, codes.max)
    return samples.astype(dtype)


def _name(operator: Operator) -> str:
    """Return "conv 3x3 28x28 32-64"; a depthwise one says so."""
    size = f"{operator.height}x{operator.width} {operator.channels_in}-{operator.channels_out}"
    if operator.kind != "conv":
        return f"{operator.kind} {size}"
    return f"{'depthwise' if operator.depthwise else 'conv'} {operator.kernel[0]}x{operator.kernel[1]} {size}"


def _counted(
    models: Mapping[Candidate, Sequence[np.ndarray]], emulator: Emulator, folder: Path, progress: Tell
) -> dict[str, dict[str, int]]:
    """Return what one inference of each model takes on the emulated core, caches warm, by its label."""
    found = {}
    for number, (one, arrays) in enumerate(models.items()):
        progress(one.label, number, len(models))
        files = [saved_as_npy(array, folder, f"input_{place}") for place, array in enumerate(arrays)]
        _, found[one.label] = emulator.inference(one, [word for file in files for word in ("--inputs", str(file))])
    return found


def _observed(one: Measurement, counts: Mapping[str, float], clock_hz: float) -> Observation:
    network, _, told = one.label.rpartition(" ")
    precision = next(known for known in PRECISIONS if known == told)
    return Observation(network, precision, counts, one.median_s * clock_hz)


def _require_believed(measured: Sequence[Measurement], accept: Sequence[Kind]) -> None:
    """Raise InvalidMeasurement for every caution that was not accepted; a wrong precision never can be."""
    refused = [kind for kind in (*REFUSED, "fallback") if kind not in accept or kind == "fallback"]
    seen = [with_placement(one, None) for one in measured]
    found = told_once([(one.label, one.failing(refused)) for one in seen], "every model")
    if found:
        kinds = {caution.kind for one in seen for caution in one.failing(refused)}
        may = ",".join(kind for kind in REFUSED if kind in kinds)
        helps = [*dict.fromkeys(advice for _, advice in found)]
        helps += [f"--accept {may} lets these pass, and the profile says so"] if may else []
        head = "nothing was fitted, for the board's times must not be believed:"
        raise InvalidMeasurement("\n".join([head, *(f"  - {words}" for words, _ in found)]), "\n".join(helps))


def _calibrated(
    measured: Sequence[Measurement],
    board: Device,
    emulator: Emulator,
    runtime: str,
    workload: Workload,
    accept: Sequence[Kind],
) -> Calibrated:
    first = measured[0]
    seen = {caution.kind for one in measured for caution in one.cautions}
    return Calibrated(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        board=_board_hash(board),
        machine=first.place.name,
        kernel=first.place.kernel,
        governor=first.place.governor,
        runtime=f"{runtime} {first.runtime_version}",
        agent=first.agent,
        emulator=emulator.name,
        processes=workload.processes,
        accepted=tuple(kind for kind in accept if kind in seen),
    )


def _board_hash(board: Device) -> str | None:
    """Return the begin of the SHA-256 of the board's serial number, which tells boards apart and names none."""
    files = board.target.look([SERIAL, CPUINFO])
    listed = re.search(r"^Serial\s*: *(\S+)", files.get(CPUINFO, ""), re.MULTILINE)
    serial = files.get(SERIAL, "").strip("\0\n ") or (listed[1] if listed else "")
    return hashlib.sha256(serial.encode()).hexdigest()[:16] if serial else None


def _base(device: str, profile: DeviceProfile, out: Path) -> str:
    """Return how the overlay names its base: a bundled device, or the way from the overlay to the profile's file."""
    if device.endswith((".yaml", ".yml")):
        if Path(device).resolve() == out.resolve():
            raise BadInput(f"{out}: is the profile that --device names, which would be lost; choose another name")
        if is_overlay(Path(device)):
            raise BadInput(f"{device}: is laid over another profile; name that one with --device")
        return os.path.relpath(device, out.parent)
    return profile.name  # `device` is an alias of it


def _write(out: Path, base: str, calibrated: Calibrated, estimator: Estimator) -> None:
    """Write the overlay, whole or not at all."""
    section = estimator.model_dump(mode="json", exclude_none=True)
    section["clock"]["value"] = f"{estimator.clock.value:.0f} Hz"
    content = {"base": base, "calibrated": calibrated.model_dump(mode="json"), "estimator": section}
    told = f"# {base} with the costs of {calibrated.runtime} on one board, written by `edgeslim calibrate`.\n"
    head = editor_line(PROFILE_SCHEMA.as_uri()) + told
    try:
        with whole_file(out) as part:
            part.write_text(head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=118), "utf-8")
    except OSError as error:
        raise ToolFailed(f"{out} cannot be written: {error.strerror}") from error
