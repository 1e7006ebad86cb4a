"""A first model.py: what edgeslim must know of a network, written for a module of a file's or for a checkpoint."""

import json
import keyword
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgeslim.errors import BadInput, BadModel
from edgeslim.model.sources.advice import advice
from edgeslim.model.sources.huggingface import CONFIG
from edgeslim.model.sources.known import holds_weights
from edgeslim.model.sources.outputs import parts_of
from edgeslim.model.sources.python_file import named_in_file
from edgeslim.model.sources.torchvision import arguments_of, published_preprocessing, torchvision_models
from edgeslim.model.sources.user_code import running_code_of
from edgeslim.model.sources.weights import read_state, without_prefix
from edgeslim.tasks.preprocessing import Preprocessing

SIDES = (224, 32, 28, 64, 96, 128, 160, 192, 227, 256, 299, 320, 384, 48, 112)  # pixels, in the order they are tried
MOST_SIDES = 2  # that are found: with two, one is a guess
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
POSITIONS = "encoder.pos_embedding"  # of a vision transformer: one for the class, and one for each patch
MEAN_AND_STD = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.5,), (0.5,))}
TOLD = {
    "width": "pixels that the network takes",
    "channels": "3, or 1 for grey images",
    "resize": "the shorter side is scaled to this many pixels, then the middle is cut out",
    "mean": "taken off values in 0..1",
    "std": "by which they are divided then",
    "color_order": '"RGB", "BGR" or "GRAY"',
    "interpolation": '"bilinear", "bicubic" or "nearest"',
}
SAID = ("LABELS", "OUTPUTS", "TASK")  # what a file says of its network beside that
LABELS = """
# A name for each class, in the order of the network's answers; without them, classes go by numbers.
# LABELS = ["cat", "dog"]
"""


@dataclass(frozen=True)
class Starter:
    """The text of a first model.py, its network's name in it, what that is, and what was only guessed."""

    text: str
    name: str
    network: str
    guessed: tuple[str, ...]


def starter(source: str, file: Path, tell: Callable[[str], None]) -> Starter:
    """Return a first model.py, to be written to `file`, for "FILE.py:NAME" or the weights of a torchvision classifier.

    `tell` is told what takes seconds. Raises BadInput where nothing is missing, where `file` is there already or would
    not find what it imports; BadModel for what is no network, takes images of no usual size, or for weights of an
    unknown network.
    """
    if holds_weights(source):
        return _of_checkpoint(Path(source), file, tell)
    if source.startswith(("torchvision:", "timm:")) or (Path(source) / CONFIG).is_file():
        raise BadInput(f"{source} says itself how images become inputs; it needs no file")
    if not source.rpartition(":")[0].endswith(".py"):
        raise BadModel(advice(source))
    return _of_module(source, file)


def _require_free(file: Path) -> None:
    if os.path.lexists(file):
        raise BadInput(f"{file} is there already, and is left as it is", f"--out {file.with_stem(file.stem + '_2')}")


def _of_module(source: str, file: Path) -> Starter:
    """Return a model.py that takes a network from the file beside it."""
    own, _, name = source.rpartition(":")
    namespace, network, _ = named_in_file(source, 0)
    if "PREPROCESSING" in namespace:
        raise BadInput(f"{own} says itself how images become inputs; nothing is missing")
    if file.resolve().parent != Path(own).resolve().parent:
        raise BadInput(f"{file} must lie beside {own}, from which it imports `{name}`")
    _require_free(file)
    imported = _import(Path(own), [name, *(one for one in SAID if one in namespace)])
    channels, taken = _images_taken(network.eval(), source)
    side, *others = taken
    mean, std = MEAN_AND_STD[channels]
    classes = _classes(taken[side])
    guessed = (
        f"images of {side}x{side} with {channels} channel{'s'[: channels - 1]}, "
        + (f"but it takes {others[0]}x{others[0]} too" if others else "which it takes"),
        f"mean and std: {'those of ImageNet' if channels == 3 else 'for values in -1..1'}",
    )
    answers = f", which answers {classes} classes" if classes else ""
    return Starter(
        _text(
            f"The network `{name}` of {Path(own).name}",
            imported,
            Preprocessing(side, side, 3 if channels == 3 else 1, side, mean, std, "RGB" if channels == 3 else "GRAY"),
            guessed,
            "" if "LABELS" in namespace else LABELS,
        ),
        name,
        f"`{name}` of {own}{answers}",
        guessed,
    )


def _import(own: Path, names: list[str]) -> str:
    """Return the lines that import some names from a file beside, and export them; BadInput where Python cannot."""
    stem = own.stem
    loaded = getattr(sys.modules.get(stem), "__file__", None)
    if "." in stem or stem in sys.stdlib_module_names or (loaded and Path(loaded).resolve() != own.resolve()):
        why = "a dot is in its name" if "." in stem else f"there is another module `{stem}`"
        raise BadInput(f"{own} cannot be imported, for {why}", "rename it")
    exported = f"__all__ = {json.dumps(names)}"
    if stem.isidentifier() and not keyword.iskeyword(stem):
        return f"from {stem} import {', '.join(names)}\n\n{exported}"
    taken = "".join(f"{one} = _module.{one}\n" for one in names)
    return f"from importlib import import_module\n\n_module = import_module({json.dumps(stem)})\n{taken}\n{exported}"


def _images_taken(network: nn.Module, source: str) -> tuple[int, dict[int, Any]]:
    """Return how many channels a network takes, and what it returns for images of some sizes that it takes."""
    reasons = []
    for channels in MEAN_AND_STD:
        taken: dict[int, Any] = {}
        for side in SIDES:
            try:
                with torch.no_grad(), running_code_of(source, f" for images of {side}x{side} with {channels} channels"):
                    taken[side] = network(torch.zeros(2, channels, side, side))
            except BadModel as error:
                reasons.append(error.message)
            if len(taken) == MOST_SIDES:
                break
        if taken:
            return channels, taken
    raise BadModel(
        f"{source} takes images of none of the usual sizes ({', '.join(map(str, sorted(SIDES)))}) with 3 channels or 1",
        f"say in its file how images become inputs, as docs/model.md shows; what was tried first: {reasons[0]}",
    )


def _classes(returned: Any) -> int | None:
    """Return how many classes are answered, where one thing that is returned looks like it."""
    found = [one.value.shape[1] for one in parts_of(returned) if isinstance(one.value, Tensor) and one.value.ndim == 2]
    return found[0] if len(found) == 1 else None


def _of_checkpoint(path: Path, file: Path, tell: Callable[[str], None]) -> Starter:
    """Return a model.py for weights that fit one of torchvision's classifiers."""
    key, state = read_state(path)
    _require_free(file)
    held = {name: tuple(value.shape) for name, value in without_prefix(state).items()}
    models = torchvision_models()
    names = sorted(models.list_models(module=models), key=lambda name: (name not in path.stem, name))
    tell(f"holding the {len(held)} weights of {path} against {len(names)} networks of torchvision's")
    shared: dict[str, int] = {}
    for name in names:
        asked = _asked(name, held)
        shapes = _shapes(name, **asked)
        if held.keys() == shapes.keys():
            asked["num_classes"] = (
                next(iter(held[next(reversed(shapes))]), 0) or 1
            )  # the last weight is the classifier's
            if _shapes(name, **asked) == held:
                return _of_torchvision(path, key, name, asked)
        shared[name] = len(shapes.items() & held.items())
    raise BadModel(
        f"{path} holds {len(held)} weights, which are no torchvision classifier's{_closest(held, shared)}",
        "name the module that they belong to: "
        f"edgeslim init FILE.py:NAME --weights {shlex.quote(str(path))} --device NAME",
    )


def _closest(held: Mapping[str, tuple[int, ...]], shared: Mapping[str, int]) -> str:
    """Return which network has most of some weights, and the first that it has not."""
    closest = max(shared, key=lambda name: shared[name])
    if shared[closest] * 2 <= len(held):
        return ""
    known = _shapes(closest, **_asked(closest, held))
    strange = [f"`{name}` {shape}" for name, shape in held.items() if known.get(name) != shape]
    what = f"but {strange[0]} is not" if strange else "but others of its are missing"
    return f"; {shared[closest]} are {closest}'s by name and shape, {what}"


class _WithoutValues(TorchFunctionMode):
    """While networks are made, their weights take no memory and get no values."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **place})


@cache
def _shapes(name: str, **asked: Any) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of all weights of a torchvision classifier, in its order."""
    with _WithoutValues():
        network = torchvision_models().get_model(name, weights=None, **asked)
    return {one: tuple(value.shape) for one, value in network.state_dict().items()}


def _asked(name: str, held: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the arguments that make a torchvision classifier of some weights, where they are its."""
    asked = arguments_of(name, trained=True)
    if name in WITH_AUXILIARY_HEADS and not any(one.lower().startswith("aux") for one in held):
        asked["aux_logits"] = False
    places = held.get(POSITIONS, ())[1:2]
    if "image_size" in asked and places > (1,):
        asked["image_size"] = math.isqrt(places[0] - 1) * int(name.rpartition("_")[2])  # of a patch, as vit_b_16 says
    return asked


def _of_torchvision(path: Path, key: str, name: str, asked: Mapping[str, Any]) -> Starter:
    """Return a model.py that makes a torchvision classifier."""
    preprocessing, published = published_preprocessing(name)
    guessed = [f"images as torchvision's own weights expect them ({published})"]
    if "transform_input" in asked:
        guessed[0] += ", which the network rescales itself (transform_input)"
    side, classes = asked.get("image_size", preprocessing.width), asked["num_classes"]
    if side != preprocessing.width:
        preprocessing = replace(preprocessing, width=side, height=side, resize=side)
        guessed.append(f"but of {side}x{side}, for which the weights have places, and not cut out of larger ones")
    arguments = ", ".join(f"{argument}={value}" for argument, value in {"weights": None, **asked}.items())
    made = (
        'def make() -> nn.Module:\n    """Return the network; edgeslim loads its weights from the file that --weights '
        f'names."""\n    return get_model("{name}", {arguments})'
    )
    return Starter(
        _text(
            f"Torchvision's {name} for {classes} classes",
            "from torch import nn\nfrom torchvision.models import get_model",
            preprocessing,
            guessed,
            f"{LABELS}\n\n{made}\n",
        ),
        "make",
        f"torchvision's {name} for {classes} classes, which {path.name}{f'[{key}]' if key else ''} fits",
        tuple(guessed),
    )


def _text(what: str, imported: str, preprocessing: Preprocessing, guessed: Sequence[str], end: str) -> str:
    """Return the file."""
    settings = "".join(
        f"    {json.dumps(key)}: {json.dumps(value)},{f'  # {TOLD[key]}' if key in TOLD else ''}\n"
        for key, value in preprocessing.to_dict().items()
    )
    return f'''"""{what}, as edgeslim takes it."""

{imported}

# How an image becomes an input, which must be as the network was trained. Guessed, so look at it:
{"".join(f"#   {line}{chr(10)}" for line in guessed)}PREPROCESSING = {{
{settings}}}
{end}'''
