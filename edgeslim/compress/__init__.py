"""Compression techniques, one a file or folder: a module with `Settings` and `apply(model, settings, context)`.

Of a folder it is step.py. Where the device decides a setting, or only a build does, the module has
`foresee(settings, profile, runtimes)` too: the settings as they are for that device, and in words, by their names, what
is left to the build.
"""

import json
import pkgutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, fields
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import BadInput, Refused, near_misses
from edgeslim.recipe import StepCall
from edgeslim.strict_yaml import KeyPath

# What others call a step, and why it is none here: by the measurement of tools/bench_sparse.py (docs/measured.md).
REFUSED = {
    "sparsify": "weights that are zero in no order make no runtime faster: with 90 % of them zero LiteRT takes 0.97 to "
    "0.99 of dense fp32's time, where INT8 takes 0.28 to 0.34, OpenVINO 0.97 of dense INT8's, and ONNX Runtime has no "
    "such kernel; compressed, the file is half of INT8's (162 of 329 KB). `prune` removes whole channels",
}


def known_steps() -> list[str]:
    """Return the names of the techniques: the modules and folders in `compress/`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def technique(name: str) -> Any:
    """Return the module of a technique."""
    found = import_module(f"edgeslim.compress.{name}")
    return import_module(f"edgeslim.compress.{name}.step") if hasattr(found, "__path__") else found


def resolve_all(calls: Sequence[StepCall]) -> list[tuple[Any, Any]]:
    """Return the modules of steps and their settings; BadInput with every fault, Refused for what is REFUSED."""
    if refused := [call.step for call in calls if call.step in REFUSED]:
        raise Refused(f"the step `{refused[0]}` is refused:", [REFUSED[refused[0]]])
    if faults := [text for call in calls for _, text in step_faults(call)]:
        raise BadInput("\n".join(faults))
    return [(technique(call.step), _settings(call)) for call in calls]


def step_faults(call: StepCall) -> list[tuple[KeyPath, str]]:
    """Return what is wrong with a step: the path to it, and a sentence; nothing where the step is REFUSED."""
    if call.step in REFUSED:
        return []
    if call.step not in known_steps():
        told = f"the recipe names a step `{call.step}`{near_misses(call.step, known_steps())}; "
        return [(("step",), f"{told}steps are {', '.join(known_steps())}")]
    known = [f.name for f in fields(technique(call.step).Settings)]
    unknown: list[tuple[KeyPath, str]] = [
        (
            ("settings", name),
            f"the recipe's step `{call.step}` has no setting `{name}`{near_misses(name, known)}; "
            f"settings are {', '.join(known) or 'none'}",
        )
        for name in call.settings
        if name not in known
    ]
    return unknown + list(_faults_of_values(call))


def _faults_of_values(call: StepCall) -> Iterator[tuple[KeyPath, str]]:
    said = f"the recipe's step `{call.step}`"
    try:
        _settings(call)
    except ValidationError as invalid:
        for one in invalid.errors():
            yield ("settings", *one["loc"]), f"{said}: `{'.'.join(map(str, one['loc']))}`: {one['msg']}"
    except BadInput as unfit:
        for line in str(unfit).splitlines():
            yield ("settings",), line
    except (TypeError, ValueError) as error:
        yield ("settings",), f"{said}: its settings are no JSON: {error}"


def _settings(call: StepCall) -> Any:
    """Return the settings of a step, read strictly, but for keys that it does not know."""
    return TypeAdapter(technique(call.step).Settings).validate_json(json.dumps(call.settings), strict=True)


def foreseen(call: StepCall, profile: DeviceProfile, runtimes: Collection[str]) -> tuple[StepCall, dict[str, str]]:
    """Return a step with every setting as a build for a device would have it, and what only that build decides.

    The latter in words, by the setting. `runtimes` are those that files are written for.
    """
    ((module, settings),) = resolve_all([call])
    left: dict[str, str] = {}
    if hasattr(module, "foresee"):
        settings, left = module.foresee(settings, profile, runtimes)
    return StepCall(step=call.step, settings=json.loads(json.dumps(asdict(settings)))), left
