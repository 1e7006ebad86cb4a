"""Classifiers of torchvision."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from edgeslim.errors import BadModel, MissingPackage, near_misses
from edgeslim.model.model import Model
from edgeslim.model.sources.user_code import nothing_logged
from edgeslim.model.sources.weights import load_weights
from edgeslim.tasks.preprocessing import Preprocessing

_DECLARED: list[torch.library.Library] = []  # a Library undoes its declarations when it is collected


def from_torchvision(source: str, weights: str | None, seed: int) -> Model:
    """Return the classifier NAME of "torchvision:NAME"; nothing is downloaded."""
    name = source.removeprefix("torchvision:")
    models = torchvision_models()
    known = models.list_models(module=models)
    if name not in known:
        raise BadModel(f"torchvision has no classifier `{name}`{near_misses(name, known)}")
    if weights is None:
        raise BadModel(f"{source} needs --weights", "--weights default (torchvision's local cache), random, or a file")
    torch.manual_seed(seed)
    published = models.get_model_weights(name).DEFAULT
    network = models.get_model(name, weights=None, **arguments_of(name, trained=weights != "random"))
    held = weights
    if weights == "default":
        load_weights(network, _cached(published))
        held = published.name
    elif weights != "random":
        held = load_weights(network, Path(weights))
    return Model(
        source,
        held,
        network,
        published_preprocessing(name)[0],
        tuple(published.meta["categories"]),
        preprocessing_from=f"torchvision's transforms of {published}",
        labels_from=f"torchvision's categories of {published}",
    )


def arguments_of(name: str, *, trained: bool) -> dict[str, Any]:
    """Return what a classifier is made with to compute what its published weights, or none (not `trained`), expect."""
    if name in ("googlenet", "inception_v3"):  # whose trained weights expect it to rescale its input
        return {"transform_input": trained, "init_weights": False}
    if name.startswith("vit_"):  # which has a stored position for each patch of its image
        return {"image_size": published_preprocessing(name)[0].width}
    return {}


def published_preprocessing(name: str) -> tuple[Preprocessing, str]:
    """Return what torchvision's own transform of a classifier does, as ours, and the weights that it belongs to."""
    published = torchvision_models().get_model_weights(name).DEFAULT
    transform = published.transforms()
    preprocessing = Preprocessing(
        width=transform.crop_size[0],
        height=transform.crop_size[0],
        channels=3,
        resize=transform.resize_size[0],
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        color_order="RGB",
        interpolation=transform.interpolation.value,
    )
    return preprocessing, str(published)


def torchvision_models() -> Any:
    """Return `torchvision.models`."""
    return import_library("torchvision.models", "torchvision")


def import_library(module: str, extra: str) -> Any:
    """Return a module of a library that builds on torchvision, or torchvision's, importable on a CPU-only torch too.

    MissingPackage names the `extra` that brings it.
    """
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(package, extra)
    make_torchvision_importable()
    with nothing_logged():
        return importlib.import_module(module)


def make_torchvision_importable() -> None:
    """Declare the operators of torchvision's compiled extension where it is installed and its extension cannot load.

    The wheel's extension is built for CUDA; on another torch torchvision's own Python fails on the missing
    operators. Declaring their schemas is all that its classifiers need.
    """
    installed = importlib.util.find_spec("torchvision") is not None
    if installed and "torchvision" not in sys.modules and not _extension_loads():
        _declare_detection_operators()


def _extension_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    for library in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(library))
        except (OSError, ImportError):
            continue
        return True
    return False


def _declare_detection_operators() -> None:
    if _DECLARED:
        return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)


def _cached(published: Any) -> Path:
    """Return the file of published weights in torch's local cache; never downloads."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / published.url.rsplit("/", 1)[-1]
    if not file.is_file():
        raise BadModel(
            f"the weights {published} are not in the local cache ({file.name} under {file.parent}), and edgeslim "
            "downloads nothing",
            f"fetch {published.url} and pass --weights FILE",
        )
    return Path(file)
