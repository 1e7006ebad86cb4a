"""Which outputs of a network are taken and what they are called, however it packs them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeslim.errors import BadModel
from edgeslim.model.graph import output_nodes, trace
from edgeslim.model.model import THE_MODULE, Model
from edgeslim.model.sources.user_code import running_code_of
from edgeslim.tasks.task import Output

OUTPUT_NAME = re.compile(r"(?!input$)[A-Za-z][A-Za-z0-9_]{0,62}")
TAKEN = "outputs:"  # what a line of a model's history begins with that says which were


@dataclass(frozen=True, eq=False)
class Part:
    """One thing among those that a network returns: how Python reaches it, its name where it has one, and its value."""

    place: str  # `["boxes"][0]`; "" for all that is returned
    name: str | None
    value: Any

    @property
    def floats(self) -> bool:
        """Tell whether it is a tensor of floats, as an output must be."""
        return isinstance(self.value, Tensor) and self.value.dtype.is_floating_point

    def __str__(self) -> str:
        shown = f"`{self.name or f'returned{self.place}'}`"
        if not isinstance(self.value, Tensor):
            return f"{shown} of type {type(self.value).__name__}"
        return f"{shown} {tuple(self.value.shape)}" + ("" if self.floats else f" of {self.value.dtype}")


def parts_of(returned: Any, place: str = "", name: str | None = None) -> list[Part]:
    """Return all that a network returns, in its order, out of tuples, lists, mappings and dataclasses; None is nothing.

    The outputs of Hugging Face's networks are mappings.
    """
    if returned is None:
        return []
    found: list[tuple[str, str | None, Any]]
    if isinstance(returned, Mapping):
        found = [(f"[{key!r}]", str(key), value) for key, value in returned.items()]
    elif is_dataclass(returned):
        found = [(f".{one.name}", one.name, getattr(returned, one.name)) for one in fields(returned)]
    elif isinstance(returned, tuple) and hasattr(returned, "_fields"):
        found = [(f".{one}", one, getattr(returned, one)) for one in returned._fields]
    elif isinstance(returned, tuple | list):
        found = [(f"[{index}]", None, value) for index, value in enumerate(returned)]
    else:
        return [Part(place, name, returned)]
    return [part for where, known, value in found for part in parts_of(value, f"{place}{where}", known)]


@torch.no_grad()
def with_outputs(model: Model) -> Model:
    """Return the model with its outputs named, and without those that cannot be among them.

    All are taken where they are tensors of floats that suit the task, in their order. Else that one is taken alone, as
    the history then says, which the task calls by its name or which alone suits it; its network's weights keep their
    names. Raises BadModel for outputs of which none or several could be meant, and for names that files cannot have.
    """
    returned = _returned(model)
    parts = parts_of(returned)
    taken = _taken(model, parts)
    if not _is_plain(returned) or len(taken) < len(tree_leaves(returned)):
        model.network.register_forward_hook(partial(_only, tuple(one.place for one in taken)))
    names = tuple(one.name for one in taken if one.name is not None)
    named = replace(
        model,
        output_names=model.output_names or (names if len(set(names)) == len(taken) else ()),
        history=(*model.history, *_said(model, parts, taken)),
    )
    _refuse_odd(named, taken)
    return named


def _is_plain(returned: Any) -> bool:
    """Tell whether the process that writes a file knows how outputs are packed, as it knows no class of others."""
    if type(returned) not in (tuple, list, dict):
        return isinstance(returned, Tensor)
    return all(_is_plain(one) for one in (returned.values() if isinstance(returned, dict) else returned))


def _only(places: Sequence[str], _module: nn.Module, _given: Any, returned: Any) -> Any:
    """Be a network's forward hook: of what it returns give the parts at some places, a single one as it is.

    A hook, for it leaves the names of all weights as they are and travels with copies of the network.
    """
    found = {one.place: one.value for one in parts_of(returned)}
    return found[places[0]] if len(places) == 1 else tuple(found[place] for place in places)


def _taken(model: Model, parts: Sequence[Part]) -> list[Part]:
    """Return the outputs that are taken of all that a network returns."""
    if model.output_names:  # its file says what all of them are
        return list(parts)
    wanted = model.task.OUTPUT
    fitting = [one for one in parts if not _faults(model, [one])]
    called = [one for one in fitting if one.name == wanted]
    if len(called) == 1 and called[0] is not parts[0]:
        return called
    if parts and not _faults(model, parts):
        return list(parts)
    if len(fitting) == 1 or called:
        return called or fitting
    raise BadModel(_which_is_meant(model, parts, fitting))


def _faults(model: Model, parts: Sequence[Part]) -> list[str]:
    """Return why parts of what a network returns, in this order, cannot be its outputs."""
    if foreign := [one for one in parts if not one.floats]:
        return [_no_floats(model, foreign[0])]
    names = (model.task.OUTPUT, *(f"output_{place}" for place in range(1, len(parts))))
    outputs = (Output(one.name or name, tuple(one.value.shape)) for one, name in zip(parts, names, strict=True))
    found: list[str] = model.task.model_faults(model.facts_with(tuple(outputs)))
    return found


def _no_floats(model: Model, part: Part) -> str:
    kind = f"tensor of {part.value.dtype}" if isinstance(part.value, Tensor) else type(part.value).__name__
    return f"{model.source} returns a {kind}; the outputs of a network are tensors of floats"


def _said(model: Model, parts: Sequence[Part], taken: Sequence[Part]) -> list[str]:
    """Return the line of the history that says which outputs were taken, none where nothing was chosen."""
    if left_out := [str(one) for one in parts if one not in taken]:
        return [f"{TAKEN} {' and '.join(map(str, taken))} is taken; left out: {', '.join(left_out)}"]
    could_be = [one for one in taken if not _faults(model, [one])]
    if len(could_be) > 1 and not model.output_names and taken[0].name != model.task.OUTPUT:
        wanted = model.task.OUTPUT
        return [f"{TAKEN} {taken[0]} is taken as `{wanted}`, for it is the first; {could_be[1]} could be it too"]
    return []


def _which_is_meant(model: Model, parts: Sequence[Part], fitting: Sequence[Part]) -> str:
    """Return in words what a network returns, why that leaves open what is meant, and the lines that would say it."""
    if len(parts) < 2:
        faults = [f"{model.source} returns nothing; the outputs of a network are tensors of floats"]
        return "\n".join(_faults(model, parts) if parts else faults)
    wanted, example = model.task.OUTPUT, [*fitting, *(one for one in parts if one.floats), *parts][0]
    why = f"{' and '.join(map(str, fitting))} could each be `{wanted}`" if fitting else f"none can be `{wanted}`"
    returns = f"{model.source} returns {', '.join(map(str, parts))}; {why}"
    hook = f"network.register_forward_hook(lambda module, images, returned: returned{example.place})"
    file, _, name = model.source.rpartition(":")
    if not file.endswith(".py"):
        return f"{returns}. Say which is meant before you give it:\n    {hook}"
    made = name if model.weights_source == THE_MODULE else f"{name}()"
    lines = f"    network = {made}\n    {hook}"
    return f"{returns}. Say which is meant at the end of {file}, and name {file}:network:\n{lines}"


def _refuse_odd(named: Model, taken: Sequence[Part]) -> None:
    """Raise BadModel where outputs of a network are no tensors of their own, or have names that files cannot have."""
    if foreign := [one for one in taken if not one.floats]:
        raise BadModel(_no_floats(named, foreign[0]))
    nodes, names = output_nodes(named.graph), named.output_names
    if len(set(nodes)) != len(taken) or any(node.op == "placeholder" for node in nodes):
        raise BadModel(f"{named.source} returns its input, or one tensor twice; each output is a tensor of its own")
    if names and len(names) != len(nodes):
        raise BadModel(f"{named.source} names {len(names)} outputs, {', '.join(names)}, and returns {len(nodes)}")
    if wrong := [name for name in names if not OUTPUT_NAME.fullmatch(name) or names.count(name) > 1]:
        raise BadModel(
            f"{named.source} calls an output `{wrong[0]}`; expected a name of letters, digits and `_`, another for "
            "each output, and not `input`"
        )


def _returned(model: Model) -> Any:
    """Return what the network itself returns for an image of zeros; BadModel where it cannot be traced or run."""
    model.network.eval()
    try:
        with running_code_of(model.source):
            return model.network(torch.zeros(model.input_shape))
    except BadModel as error:
        if isinstance(error.__cause__, Exception):
            trace(model.network, model.input_shape)  # says what is wrong as for a network that runs and is not traced
        raise
