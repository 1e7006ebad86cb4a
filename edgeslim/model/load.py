"""Models: an image classifier given as a PyTorch module, with everything needed to feed it."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeslim.errors import BadModel
from edgeslim.model.graph import output_of, shape_of
from edgeslim.model.model import Model
from edgeslim.model.sources.bundled import bundled_model
from edgeslim.model.sources.python_file import from_python_file
from edgeslim.model.sources.torchvision import from_torchvision


def name_of(source: str | None) -> str:
    """Return a short name for what `load_model` would load: "default", "resnet50", a file's stem."""
    if source is None:
        return "default"
    file, _, name = source.rpartition(":")
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(file).stem if file.endswith(".py") else name).strip("-.")
    return plain or "model"


def load_model(source: str | None = None, weights: str | None = None, seed: int = 0) -> Model:
    """Return the model that `source` and `weights` name.

    `source`: None (the bundled default) · "torchvision:NAME" · "FILE.py:FACTORY".
    `weights`: "random" · "default" (torchvision: from its local cache, never downloaded) · a file:
    safetensors, or a .pt state dict read with `weights_only=True`.
    Raises BadModel with what is wrong and what was expected.
    """
    if source is None:
        model = bundled_model(weights, seed)
    elif source.startswith("torchvision:"):
        model = from_torchvision(source, weights, seed)
    else:
        model = from_python_file(source, weights, seed)
    _refuse_broken(model)
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


def _refuse_broken(model: Model) -> None:
    for name, value in model.network.state_dict().items():
        if value.dtype.is_floating_point and not bool(torch.isfinite(value).all()):
            raise BadModel(f"weight `{name}` of {model.source} holds NaN or infinite values")
    shape = _output_shape(model)
    if isinstance(shape, str) or len(shape) != 2 or shape[0] != 1:
        raise BadModel(
            f"{model.source} returns {shape if isinstance(shape, str) else f'a tensor of shape {shape}'}; "
            "edgeslim takes image classifiers, which return (N, classes)"
        )
    if shape[1] < 2:
        raise BadModel(f"{model.source} has one class; edgeslim compares top-1 answers, which takes at least two")
    if model.labels is not None and len(model.labels) != shape[1]:
        raise BadModel(f"{model.source} has {len(model.labels)} labels and {shape[1]} classes")


@torch.no_grad()
def _output_shape(model: Model) -> tuple[int, ...] | str:
    """Return the shape of the tensor the network returns, or in words what it returns instead.

    The network itself is asked: its graph holds the same node whether a tensor is returned bare or in a container.
    """
    graph = model.graph  # first of all: a network that cannot be traced is refused with the reason
    output = model.network(torch.zeros(model.input_shape))
    return shape_of(output_of(graph)) if isinstance(output, Tensor) else f"a {type(output).__name__}"
