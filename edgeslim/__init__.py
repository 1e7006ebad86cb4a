"""edgeslim compresses a CNN for one device and hands over an artifact in which nothing is believed before it ran.

The functions behind the command line, loaded at their first use (`import edgeslim` imports no torch):

- `build(source, device=...)`: compress, export, run and pack; a `BuildReport`
- `bench(path, on=...)`: measure an artifact's files on a device; a `BenchReport`
- `emulate(path, device=...)`: count what its files take on an emulated core, estimate times; an `EmulationReport`
- `fits(path, ram_bytes, device=...)`: which of its files run in so much memory, on an emulated machine; a `FitReport`
- `profile(path, device=...)`: what every operator of its ONNX file takes on an emulated core; an `OperatorProfile`
- `calibrate(on, device=..., out=...)`: fit a device's estimator on a board, written as a profile; a `Calibration`
- `compare(a, b)`: two saved measurements, or two artifacts measured interleaved; a `Comparison`
- `probe(address, device=...)`: is a machine what a profile says; a list of findings
- `show(path)`: what its build found, from the artifact alone; a `Shown`
- `verify(path)`: hashes and golden vectors; a `VerifyReport`
- `inspect(path)`: the ledger, plan against file; rows by file
- `check(source, device=...)`: what is known before a build, every reason against it included; a `CheckReport`
- `sensitivity(source, device=...)`: what every group of channels and every layer costs; a `SensitivityReport`
- `load_profile(name)`, `load_recipe(file)`, `load_model(source)`, `load_data(model, source)`: what these work with

What they raise (`BadInput`, `Refused` ...: edgeslim/errors.py), `Recipe`, `Preprocessing` and what `progress` is
called with (`Progress`) are here too.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from edgeslim.errors import (
    BadData,
    BadInput,
    BadModel,
    BadProfile,
    DeviceFailed,
    EdgeslimError,
    IntegrityFailed,
    InvalidMeasurement,
    MissingPackage,
    Refused,
    ToolFailed,
)

if TYPE_CHECKING:
    from edgeslim.artifact.verify import verify
    from edgeslim.devices.profile import load_profile
    from edgeslim.emulation.bench import emulate
    from edgeslim.emulation.calibrate import calibrate
    from edgeslim.emulation.fits import fits
    from edgeslim.emulation.operator_profile import profile
    from edgeslim.measure.bench import bench, compare
    from edgeslim.measure.probe import probe
    from edgeslim.model.load import load_data, load_model
    from edgeslim.pipeline.build import build
    from edgeslim.pipeline.preflight.check import check
    from edgeslim.pipeline.sensitivity import sensitivity
    from edgeslim.progress import Progress
    from edgeslim.recipe import Recipe, load_recipe
    from edgeslim.report.inspection import inspect
    from edgeslim.report.summary import show
    from edgeslim.tasks.preprocessing import Preprocessing

    __version__: str

_HOME = {
    "Preprocessing": "tasks.preprocessing",
    "Progress": "progress",
    "Recipe": "recipe",
    "bench": "measure.bench",
    "build": "pipeline.build",
    "calibrate": "emulation.calibrate",
    "check": "pipeline.preflight.check",
    "compare": "measure.bench",
    "emulate": "emulation.bench",
    "fits": "emulation.fits",
    "inspect": "report.inspection",
    "load_data": "model.load",
    "load_model": "model.load",
    "load_profile": "devices.profile",
    "load_recipe": "recipe",
    "probe": "measure.probe",
    "profile": "emulation.operator_profile",
    "sensitivity": "pipeline.sensitivity",
    "show": "report.summary",
    "verify": "artifact.verify",
}

__all__ = [
    "BadData",
    "BadInput",
    "BadModel",
    "BadProfile",
    "DeviceFailed",
    "EdgeslimError",
    "IntegrityFailed",
    "InvalidMeasurement",
    "MissingPackage",
    "Preprocessing",
    "Progress",
    "Recipe",
    "Refused",
    "ToolFailed",
    "__version__",
    "bench",
    "build",
    "calibrate",
    "check",
    "compare",
    "emulate",
    "fits",
    "inspect",
    "load_data",
    "load_model",
    "load_profile",
    "load_recipe",
    "probe",
    "profile",
    "sensitivity",
    "show",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("edgeslim")
    if name not in _HOME:
        raise AttributeError(f"module `edgeslim` has no attribute `{name}`")
    return getattr(import_module(f"edgeslim.{_HOME[name]}"), name)
