"""Why a device cannot have a model, before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeslim.backends import backend_of
from edgeslim.compress import resolve_all, technique
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.formats import FormatName
from edgeslim.model.load import Source, load_data, load_model
from edgeslim.model.model import Model
from edgeslim.pipeline.rules import refusals
from edgeslim.pipeline.targets import require_fitting_targets
from edgeslim.tasks.preprocessing import Preprocessing


@dataclass(frozen=True)
class Preflight:
    """What was found before any work: why a device cannot have a model, and what will be rewritten so that it can.

    `chosen`: what was taken of a model that could have been read otherwise.
    """

    reasons: tuple[str, ...]
    rewrites: tuple[str, ...]
    chosen: tuple[str, ...] = ()


def check(
    source: Source = None,
    *,
    device: str | Path,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    data: str | Path | None = None,
    formats: Sequence[FormatName] | None = None,
    trust_labels: bool = False,
) -> Preflight:
    """Return every reason why `device` cannot have a model, in seconds and before any work; none when it can.

    For an NPU, every layer that breaks one of its rules is named: with a reason, or with the rewrite that cures it.
    `source` to `task`: as `load_model`. With `data`, that must fit the model too, and its labels what the model
    answers but with `trust_labels`. `formats`: those that are wanted, None for the device's default. Raises BadInput
    for what cannot even be read.
    """
    profile = load_profile(device)
    if weights is None and str(source).startswith("torchvision:"):
        weights = "random"  # only the rule `weight_sums` looks at values, and random ones say what trained ones do
    model = load_model(source, weights, preprocessing=preprocessing, labels=labels, task=task)
    if data is not None:
        images = load_data(model, data)
        if not trust_labels:
            require_fitting_targets(model, images)
    recipe = backend_of(profile).default_recipe(profile)
    return preflight(model, profile, resolve_all(recipe.steps), formats or recipe.formats)


def preflight(
    model: Model, profile: DeviceProfile, steps: Sequence[tuple[Any, Any]], formats: Sequence[FormatName]
) -> Preflight:
    """Ask every rule of the pipeline and of the device's accelerator; what `steps` cure is no reason."""
    faults = backend_of(profile).model_faults(model, profile, steps)
    modules = {module for module, _ in steps}
    value_bytes = 1 if technique("quantize") in modules else 2 if technique("mixed_precision") in modules else 4
    reasons = (*refusals(model, profile, formats, value_bytes), *faults.reasons)
    return Preflight(reasons, faults.rewrites, model.history)
