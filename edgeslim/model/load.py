"""Models: a network given as a PyTorch module, with everything needed to feed it and to say what it answers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeslim.errors import BadModel
from edgeslim.model.model import Model
from edgeslim.model.sources.bundled import bundled_model
from edgeslim.model.sources.huggingface import CONFIG, from_huggingface
from edgeslim.model.sources.module import from_module
from edgeslim.model.sources.outputs import with_outputs
from edgeslim.model.sources.python_file import from_python_file
from edgeslim.model.sources.timm import from_timm
from edgeslim.model.sources.torchvision import from_torchvision
from edgeslim.tasks.images import Data
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.tasks.sets import named_sets

# What the words for a network begin with that a library knows by name.
NAMED = {"torchvision:": from_torchvision, "timm:": from_timm}

Source = str | Path | nn.Module | None


def name_of(source: Source) -> str:
    """Return a short name for what `load_model` would load: "default", "resnet50", a file's stem."""
    if source is None:
        return "default"
    source = f"module:{type(source).__name__}" if isinstance(source, nn.Module) else str(source)
    file, _, name = source.rpartition(":")
    if not file and Path(source).is_dir():
        name = Path(source).resolve().name
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(file).stem if file.endswith(".py") else name).strip("-.")
    return plain or "model"


def load_model(
    source: Source = None,
    weights: str | Path | None = None,
    seed: int = 0,
    *,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
) -> Model:
    """Return the model that `source` and `weights` name, or that a module with its weights is.

    `source`: None (the bundled default) · "torchvision:NAME" · "timm:NAME" · the folder of an image classifier of
    Hugging Face's · "FILE.py:NAME" · a module, which is left alone; it says nothing of itself, so `preprocessing` (as
    PREPROCESSING of a file), `labels` and `task` do.
    `weights`: "random" · "default" (torchvision, timm: from their local cache, never downloaded) · a file:
    safetensors, or a .pt state dict read with `weights_only=True`.
    Raises BadModel with what is wrong and what was expected.
    """
    weights = None if weights is None else str(weights)
    if isinstance(source, nn.Module):
        return _checked(from_module(source, weights, preprocessing, labels, task), seed)
    if not (preprocessing is None and labels is None and task is None):
        raise BadModel("`preprocessing`, `labels` and `task` are for a module; a file says them itself")
    return _checked(_read(None if source is None else str(source), weights, seed), seed)


def needs_weights(source: Source) -> bool:
    """Tell whether words name a network whose weights must be said, for they are none of its file's."""
    return str(source).startswith(tuple(NAMED))


def _read(source: str | None, weights: str | None, seed: int) -> Model:
    """Return the model that words name, from the source of their kind."""
    if source is None:
        return bundled_model(weights, seed)
    for prefix, named in NAMED.items():
        if source.startswith(prefix):
            return named(source, weights, seed)
    if (Path(source) / CONFIG).is_file():
        return from_huggingface(source, weights, seed)
    return from_python_file(source, weights, seed)


def load_data(
    model: Model,
    data: str | Path | None = None,
    *,
    calibration: str | Path | None = None,
    selection: str | Path | None = None,
    evaluation: str | Path | None = None,
    train: str | Path | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    opened: int | None = None,
) -> Data:
    """Return the images that a model's task reads, in three disjoint sets: they calibrate, select and judge.

    `data`: a folder, an .npz, "synthetic", or None for the bundled set; the others, what a set is read from in place of
    a part of it. `skip_bad` leaves out what cannot be read. With `opened` no more files of a folder are opened, to see
    whether they can be used, the others are believed. BadData, naming the files, says what is wrong.
    """
    own = named_sets(calibration, selection, evaluation, train)
    read: Data = model.task.read(
        None if data is None else str(data), model.facts, own=own, skip_bad=skip_bad, seed=seed, opened=opened
    )
    return read


def _checked(model: Model, seed: int) -> Model:
    """Return a model with its outputs named, if nothing is wrong with it."""
    refuse_broken_weights(model)
    model = with_outputs(model)
    if faults := model.task.model_faults(model.facts):
        raise BadModel("\n".join(faults))
    if model.weights_source == "random":
        _settle_batch_norm(model.network, model.input_shape, seed)
    return model


@torch.no_grad()
def _settle_batch_norm(network: nn.Module, shape: tuple[int, ...], seed: int) -> None:
    """Estimate the statistics of a random network's batch norms on noise, so that its signal does not vanish."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [n.momentum for n in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
        norm.train()
    network(torch.randn((8, *shape[1:]), generator=torch.Generator().manual_seed(seed)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def refuse_broken_weights(model: Model) -> None:
    """Raise BadModel for a weight that is NaN or infinite."""
    for name, value in model.network.state_dict().items():
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            raise BadModel(f"weight `{name}` of {model.source} holds NaN or infinite values")
