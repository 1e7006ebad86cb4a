"""Where the files that travel with edgeslim lie: in its repository, or in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def bundled(name: str) -> Path:
    """Return the folder or file `name` ("device_profiles", "runtimes", "LICENSE")."""
    in_wheel = _PACKAGE / "_bundled" / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / name


def default_model_folder() -> Path:
    """Return the folder of the bundled default model: weights, three data sets, model card."""
    return _PACKAGE / "default_model"
