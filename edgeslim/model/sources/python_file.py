"""A PyTorch module that a user's Python file makes."""

import copy
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from edgeslim.errors import BadModel, near_misses
from edgeslim.model.model import THE_MODULE, Model
from edgeslim.model.sources.advice import advice
from edgeslim.model.sources.torchvision import make_torchvision_importable
from edgeslim.model.sources.user_code import running_code_of
from edgeslim.model.sources.weights import load_weights
from edgeslim.tasks import DEFAULT_TASK, task_named
from edgeslim.tasks.preprocessing import Preprocessing

FOREIGN_FORMATS = {".onnx": "ONNX", ".tflite": "TFLite", ".xml": "OpenVINO", ".pt2": "torch.export", ".h5": "Keras"}


def from_python_file(source: str, weights: str | None, seed: int) -> Model:
    """Return the module that "FILE.py:NAME" names, or that its function or class NAME makes; the file is run."""
    namespace, network, held = named_in_file(source, seed)
    file, _, factory = source.rpartition(":")
    path = Path(file)
    if weights == "default":
        raise BadModel("--weights default is for torchvision and timm; pass a file, `random`, or nothing")
    held = held if weights is None else weights
    if weights not in (None, "random"):
        held = load_weights(network, Path(str(weights)))
    labels = _names_in(namespace, file, "LABELS", "one for each class")
    return Model(
        f"{path.name}:{factory}",
        held,
        network,
        preprocessing_of(namespace, file, "PREPROCESSING"),
        labels,
        preprocessing_from=f"PREPROCESSING in {path.name}",
        labels_from=f"LABELS in {path.name}" if labels else "",
        task_name=_task_in(namespace, file),
        output_names=_names_in(namespace, file, "OUTPUTS", "one for each output, in the order they are returned") or (),
    )


def named_in_file(source: str, seed: int) -> tuple[dict[str, Any], nn.Module, str]:
    """Return what the file of "FILE.py:NAME" defines, the network that NAME is or makes, and whence its weights are."""
    suffix = Path(source.partition(":")[0]).suffix
    if suffix in FOREIGN_FORMATS:
        raise BadModel(
            f"{source} is a file in the {FOREIGN_FORMATS[suffix]} format; edgeslim takes PyTorch modules: "
            "FILE.py:NAME, torchvision:NAME, timm:NAME, or an image classifier's folder"
        )
    file, colon, factory = source.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise BadModel(advice(source))
    path = Path(file)
    if not path.is_file():
        raise BadModel(f"{file} does not exist or is no file")
    torch.manual_seed(seed)
    with _importing_from(path.resolve().parent):
        namespace = _run(path)
        if factory not in namespace:
            known = [n for n, v in namespace.items() if callable(v) and not n.startswith("_")]
            raise BadModel(f"{file} defines no `{factory}`{near_misses(factory, known)}")
        network, held = _network(namespace[factory], f"{path.name}:{factory}", source)
    require_shapes(network, f"{path.name}:{factory}")
    return namespace, network, held


def _network(named: Any, shown: str, source: str) -> tuple[nn.Module, str]:
    """Return the network that a name of a file stands for, made or a copy of it, and where its weights come from."""
    if isinstance(named, nn.Module):  # which another load of the file may find again, where it was imported
        return copied(named, shown), THE_MODULE
    if not callable(named):
        raise BadModel(f"{shown} is of type {type(named).__name__}; expected a function, a class or a torch.nn.Module")
    if needed := arguments_needed(named):
        file, _, name = shown.rpartition(":")
        call = f"{name}({', '.join(f'{one}=...' for one in needed)})"
        raise BadModel(
            f"{shown} needs {', '.join(f'`{one}`' for one in needed)}, and edgeslim calls it without arguments; say "
            f"them at the end of {file}, and name {file}:network:\n    network = {call}"
        )
    with running_code_of(source):
        network = named()
    if not isinstance(network, nn.Module):
        raise BadModel(f"{source} returned a {type(network).__name__}, expected a torch.nn.Module")
    return network, "factory"


def arguments_needed(maker: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments that a function or class cannot be called without."""
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):  # of what is written in C; calling it tells
        return []
    varied = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in varied]


def copied(network: nn.Module, name: str) -> nn.Module:
    """Return a copy of a module that is there already; BadModel, with `name`, where it cannot be copied."""
    try:
        return copy.deepcopy(network)
    except Exception as error:
        raise BadModel(f"{name} cannot be copied, and edgeslim changes no module of yours: {error}") from error


def require_shapes(network: nn.Module, name: str) -> None:
    """Raise BadModel, with `name`, for a lazy module whose weights have no shape yet."""
    for weight, value in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(value):
            raise BadModel(
                f"{name} is lazy: its `{weight}` has no shape, for no image has run through it",
                "run it on one where it is made: network(torch.zeros(1, 3, 224, 224))",
            )


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let a user's file import what lies beside it, as it can when Python runs it, and torchvision on any torch."""
    make_torchvision_importable()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _run(path: Path) -> dict[str, Any]:
    """Run a user's Python file and return what it defines."""
    spec = importlib.util.spec_from_file_location(f"edgeslim_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadModel(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with running_code_of(str(path), " while it was loaded"):
        spec.loader.exec_module(module)
    return vars(module)


def _names_in(namespace: Mapping[str, Any], file: str, constant: str, what: str) -> tuple[str, ...] | None:
    """Return a list of names that the file defines, None where it defines none."""
    names = namespace.get(constant)
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)):
        raise BadModel(f"{file} [{constant}]: expected a list of names, {what}")
    return tuple(names) if names else None


def _task_in(namespace: Mapping[str, Any], file: str) -> str:
    """Return the name of the task that the file defines."""
    name = namespace.get("TASK", DEFAULT_TASK)
    try:
        task_named(str(name))
    except BadModel as error:
        raise BadModel(f"{file} [TASK]: {error.sentence}") from error
    return str(name)


def preprocessing_of(said: Mapping[str, Any], of: str, where: str) -> Preprocessing:
    """Return how images become inputs, as `said[where]`, a dictionary, has it; `of` names who says it.

    Raises BadModel, with an example, where nothing is said or something is wrong with it.
    """
    example = (
        f'{where} = {{"width": 224, "height": 224, "channels": 3, "resize": 256, "mean": [0.485, 0.456, 0.406], '
        '"std": [0.229, 0.224, 0.225], "color_order": "RGB", "interpolation": "bilinear"}'
    )
    if where not in said:
        raise BadModel(f"{of} does not say how images become inputs", f"define, for example: {example}")
    try:
        return Preprocessing.from_dict(said[where])
    except (ValueError, TypeError) as error:
        raise BadModel(f"{of} [{where}]: {error}", f"define, for example: {example}") from error
