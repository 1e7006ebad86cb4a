"""Golden vectors: whether a runtime's outputs are those that an artifact promises."""

from collections.abc import Sequence

import numpy as np

from edgeslim.artifact.manifest import LsbTolerance, ModelFile, Tolerance
from edgeslim.devices.machine import Machine


def golden_fault(
    model: ModelFile, outputs: Sequence[np.ndarray], golden: Sequence[np.ndarray], machine: Machine
) -> str | None:
    """Return how the outputs of a file on a machine differ from the golden ones beyond their tolerances, or None."""
    for spec, found, wanted in zip(model.outputs, outputs, golden, strict=True):
        what = "outputs" if len(model.outputs) == 1 else f"outputs of `{spec.name}`"
        if found.shape != wanted.shape:
            return f"{what} have the shape {found.shape}, the golden ones {wanted.shape}"
        if not _within(found, wanted, spec.tolerance):
            error, allowed = largest_error(found, wanted), _spelled(spec.tolerance)
            return f"{what} differ by up to {error:.3g}, allowed is {allowed}{_advice(model, machine)}"
    return None


def passed_by_constants(model: ModelFile, golden: Sequence[np.ndarray]) -> bool:
    """Return whether a file that answers every image alike would agree with several golden vectors of all outputs."""
    if len(golden[0]) < 2:
        return False
    return all(_constant_passes(one, spec.tolerance) for spec, one in zip(model.outputs, golden, strict=True))


def _constant_passes(golden: np.ndarray, tolerance: Tolerance) -> bool:
    allowed = _allowed(golden, tolerance)
    values = golden.astype(np.float64)
    return bool(np.all((values - allowed).max(axis=0) <= (values + allowed).min(axis=0)))


def _within(outputs: np.ndarray, golden: np.ndarray, tolerance: Tolerance) -> bool:
    """Return whether every output is close enough; NaN never is."""
    return bool(np.all(np.abs(outputs.astype(np.float64) - golden) <= _allowed(golden, tolerance)))


def _allowed(golden: np.ndarray, tolerance: Tolerance) -> "np.ndarray | float":
    """Return how far each output may be from its golden value."""
    if isinstance(tolerance, LsbTolerance):
        # A hundredth of a step is left for the rounding of code x scale in float32.
        return (tolerance.lsb + 0.01) * tolerance.scale
    return tolerance.atol + tolerance.rtol * np.abs(golden.astype(np.float64))


def _advice(model: ModelFile, machine: Machine) -> str:
    """Return what is known about integer sums on this machine that explains a difference, or nothing."""
    if model.runtime != "openvino" or model.precision != "int8" or not machine.sums_saturate:
        return ""
    return "; this CPU has no VNNI, and OpenVINO's integer sums saturate there: the difference may be the CPU's"


def _spelled(tolerance: Tolerance) -> str:
    if isinstance(tolerance, LsbTolerance):
        return f"{tolerance.lsb} step(s) of {tolerance.scale:.3g}"
    return f"{tolerance.atol:.3g} + {tolerance.rtol:.3g} x |golden|"


def largest_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference; infinity where the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(actual.astype(np.float64) - expected)))
