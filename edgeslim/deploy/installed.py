"""Which runtimes are installed on this machine, looked up without importing one."""

import importlib.metadata

from edgeslim.errors import BadInput, MissingPackage, near_misses
from edgeslim.formats import RUNTIMES, Runtime


def version_of(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def runtime_available(runtime: str) -> str | None:
    """Return the installed version of `runtime`, or None; BadInput for an unknown name."""
    return next((found for package in _known(runtime).packages if (found := version_of(package))), None)


def require_runtime(runtime: str) -> None:
    """Raise MissingPackage where `runtime` is not installed, BadInput for an unknown name."""
    if runtime_available(runtime) is None:
        known = _known(runtime)
        raise MissingPackage(known.packages[0], known.extra)


def _known(runtime: str) -> Runtime:
    for name, known in RUNTIMES.items():
        if name == runtime:
            return known
    raise BadInput(f"unknown runtime `{runtime}`{near_misses(runtime, RUNTIMES)}; known: {', '.join(RUNTIMES)}")
