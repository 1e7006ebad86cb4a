"""The recipe of a build: the one that is given or the device's, with what is wished for in place of a part of it."""

from pathlib import Path
from typing import Any

from edgeslim.backends import backend_of
from edgeslim.compress import step_faults
from edgeslim.devices.profile import DeviceProfile
from edgeslim.recipe import Recipe, load_recipe, with_settings


def recipe_for(profile: DeviceProfile, recipe: Recipe | str | Path | None = None, **wishes: Any) -> Recipe:
    """Return a recipe, one or a file of one, by default the device's, with settings as they are wished; None: its own.

    BadInput for a file that cannot be read, with every fault, and for a value that does not fit.
    """
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe, step_faults)
    chosen: Recipe = backend_of(profile).default_recipe(profile) if recipe is None else recipe
    return with_settings(chosen, **{name: value for name, value in wishes.items() if value is not None})
