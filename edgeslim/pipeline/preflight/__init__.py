"""What is known before a build: why a device cannot have a model, and what a person wants to know besides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeslim.backends import backend_of
from edgeslim.compress import technique
from edgeslim.devices.profile import DeviceProfile
from edgeslim.formats import FormatName
from edgeslim.model.model import Model
from edgeslim.pipeline.rules import refusals


@dataclass(frozen=True)
class Preflight:
    """What was found before any work: why a device cannot have a model, and what will be rewritten so that it can.

    `chosen`: what was taken of a model that could have been read otherwise.
    """

    reasons: tuple[str, ...]
    rewrites: tuple[str, ...]
    chosen: tuple[str, ...] = ()


def preflight(
    model: Model, profile: DeviceProfile, steps: Sequence[tuple[Any, Any]], formats: Sequence[FormatName]
) -> Preflight:
    """Ask every rule of the pipeline and of the device's accelerator; what `steps` cure is no reason."""
    faults = backend_of(profile).model_faults(model, profile, steps)
    modules = {module for module, _ in steps}
    value_bytes = 1 if technique("quantize") in modules else 2 if technique("mixed_precision") in modules else 4
    reasons = (*refusals(model, profile, formats, value_bytes), *faults.reasons)
    return Preflight(reasons, faults.rewrites, model.history)
