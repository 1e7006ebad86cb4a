"""Which runtimes are installed on this machine, looked up without importing one."""

import importlib.metadata

from edgeslim.errors import BadInput, MissingPackage, near_misses

# Runtime -> the extra that installs it, and the packages that hold it, the preferred one first.
_RUNTIMES = {
    "onnxruntime": ("onnx", ("onnxruntime",)),
    "openvino": ("openvino", ("openvino",)),
    "litert": ("tflite", ("ai-edge-litert", "tflite-runtime")),
}
RUNTIMES = tuple(_RUNTIMES)


def runtime_available(runtime: str) -> str | None:
    """Return the installed version of `runtime`, or None; BadInput for an unknown name."""
    for package in _known(runtime)[1]:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def require_runtime(runtime: str) -> None:
    """Raise MissingPackage where `runtime` is not installed, BadInput for an unknown name."""
    if runtime_available(runtime) is None:
        extra, packages = _known(runtime)
        raise MissingPackage(packages[0], extra)


def _known(runtime: str) -> tuple[str, tuple[str, ...]]:
    if runtime not in _RUNTIMES:
        raise BadInput(f"unknown runtime `{runtime}`{near_misses(runtime, _RUNTIMES)}; known: {', '.join(_RUNTIMES)}")
    return _RUNTIMES[runtime]
