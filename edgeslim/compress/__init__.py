"""Compression techniques, one a file or folder: a module with `Settings` and `apply(model, settings, context)`.

Of a folder it is step.py.
"""

import json
import pkgutil
from dataclasses import fields
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgeslim.errors import BadInput, Refused, near_misses
from edgeslim.recipe import StepCall

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


def resolve(call: StepCall) -> tuple[Any, Any]:
    """Return a step's module and its settings; BadInput for what it does not know, Refused for what is REFUSED."""
    if call.step in REFUSED:
        raise Refused(f"the step `{call.step}` is refused:", [REFUSED[call.step]])
    if call.step not in known_steps():
        raise BadInput(
            f"the recipe names a step `{call.step}`{near_misses(call.step, known_steps())}; "
            f"steps are {', '.join(known_steps())}"
        )
    module = technique(call.step)
    known = [f.name for f in fields(module.Settings)]
    for name in call.settings:
        if name not in known:
            raise BadInput(
                f"the recipe's step `{call.step}` has no setting `{name}`{near_misses(name, known)}; "
                f"settings are {', '.join(known) or 'none'}"
            )
    try:
        written = json.dumps(call.settings)
    except (TypeError, ValueError) as error:
        raise BadInput(f"the recipe's step `{call.step}`: its settings are no JSON: {error}") from error
    try:
        return module, TypeAdapter(module.Settings).validate_json(written, strict=True)
    except ValidationError as invalid:
        faults = "; ".join(f"`{'.'.join(map(str, f['loc']))}`: {f['msg']}" for f in invalid.errors())
        raise BadInput(f"the recipe's step `{call.step}`: {faults}") from invalid
