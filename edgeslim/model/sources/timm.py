"""Classifiers of timm: those that it knows by name, and folders in which it saved one."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from edgeslim.errors import BadModel, near_misses
from edgeslim.model.model import Model
from edgeslim.model.sources.torchvision import import_library
from edgeslim.model.sources.user_code import nothing_logged
from edgeslim.model.sources.weights import load_weights
from edgeslim.tasks.preprocessing import Interpolation, Preprocessing

PREFIX = "timm:"
SAFETENSORS = "model.safetensors"  # what the file of weights is called in a folder, and on Hugging Face's hub


def from_timm(source: str, weights: str | None, seed: int) -> Model:
    """Return the classifier NAME of "timm:NAME" (with a tag or without); nothing is downloaded."""
    name = source.removeprefix(PREFIX)
    timm = timm_package()
    if not timm.is_model(name):
        raise BadModel(f"timm has no network `{name}`{near_misses(name, timm.list_models())}")
    if weights is None:
        raise BadModel(f"{source} needs --weights: default (the cache of Hugging Face's hub), random, or a file")
    torch.manual_seed(seed)
    network = _made(timm, name, source)
    published: Mapping[str, Any] = network.pretrained_cfg
    held = weights
    if weights == "default":
        load_weights(network, _cached(source, published))
        held = f"{published['architecture']}.{published['tag']}"
    elif weights != "random":
        held = load_weights(network, Path(weights))
    return _model(timm, source, held, network)


def from_timm_folder(folder: Path, weights: str | None, seed: int) -> Model:
    """Return the classifier that timm saved in a folder (config.json with `architecture`, model.safetensors)."""
    timm = timm_package()
    file = folder / SAFETENSORS
    if weights is None and not file.is_file():
        raise BadModel(f"{folder} holds no weights ({SAFETENSORS}); give a file of them with --weights, or `random`")
    torch.manual_seed(seed)
    network = _made(timm, f"local-dir:{folder}", str(folder))
    held = weights or SAFETENSORS
    if weights != "random":
        load_weights(network, Path(weights) if weights else file)
    return _model(timm, folder.resolve().name, held, network)


def timm_package() -> Any:
    """Return `timm`."""
    return import_library("timm", "timm")


def _made(timm: Any, name: str, source: str) -> Any:
    """Return a network of timm with random weights; its activations are those that can be traced as one operator."""
    try:
        with nothing_logged():
            network = timm.create_model(name, pretrained=False, exportable=True)
    except Exception as error:
        raise BadModel(f"timm cannot make {source}: {type(error).__name__}: {error}") from error
    if getattr(network, "num_classes", None) == 0:
        raise BadModel(f"{source} is made without a head: it returns features, and says no class")
    return network


def _model(timm: Any, source: str, held: str, network: Any) -> Model:
    data = timm.data.resolve_data_config({}, model=network)
    labels, told = _labels(timm, network), f"timm's configuration of {source.removeprefix(PREFIX)}"
    return Model(
        source,
        held,
        network,
        preprocessing_of(data, source),
        labels,
        preprocessing_from=told,
        labels_from=told if labels else "",
    )


def preprocessing_of(data: Mapping[str, Any], source: str) -> Preprocessing:
    """Return what timm's own transform for evaluation does, as ours; BadModel for what ours cannot do."""
    channels, height, width = data["input_size"]
    sides = (math.floor(width / data["crop_pct"]), math.floor(height / data["crop_pct"]))
    way, interpolation = data["crop_mode"], data["interpolation"]
    known = way == "squash" or (way == "center" and width == height)
    if not known or interpolation not in get_args(Interpolation):
        raise BadModel(
            f"{source} was trained on images of another preparation than edgeslim has (crop mode {way} to "
            f"{width}x{height}, {interpolation}); make it in a file of your own (FILE.py:NAME), with PREPROCESSING"
        )
    try:
        return Preprocessing(
            width=width,
            height=height,
            channels=channels,
            resize=sides[0] if way == "center" else sides,
            mean=tuple(map(float, data["mean"])),
            std=tuple(map(float, data["std"])),
            color_order="GRAY" if channels == 1 else "RGB",
            interpolation=interpolation,
        )
    except ValueError as error:
        raise BadModel(f"{source}: {error}") from error


def _labels(timm: Any, network: Any) -> tuple[str, ...] | None:
    """Return the labels that a network's configuration holds, ImageNet's where it has as many classes, or none."""
    published: Mapping[str, Any] = network.pretrained_cfg
    own = published.get("label_names")
    if own:
        words = published.get("label_descriptions") or {}
        names = [own[str(place)] for place in range(len(own))] if isinstance(own, dict) else own
        return tuple(str(words.get(name, name)) for name in names)
    subset = timm.data.infer_imagenet_subset(network)
    return tuple(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else None


def _cached(source: str, published: Mapping[str, Any]) -> Path:
    """Return the file of published weights in a local cache, of Hugging Face's hub or torch's; never downloads."""
    from huggingface_hub import try_to_load_from_cache

    hub, url = published.get("hf_hub_id"), published.get("url")
    if not hub and not url:
        raise BadModel(f"nobody published weights for {source}; pass --weights FILE, or random")
    if hub:
        kept = try_to_load_from_cache(hub, SAFETENSORS)
        fetch = f"https://huggingface.co/{hub}/resolve/main/{SAFETENSORS}"
    else:
        file = Path(torch.hub.get_dir()) / "checkpoints" / str(url).rpartition("/")[2]
        kept, fetch = (str(file) if file.is_file() else None), str(url)
    if not isinstance(kept, str):
        raise BadModel(
            f"the weights of {source} are not in the local cache, and edgeslim downloads nothing: fetch {fetch} and "
            "pass --weights FILE"
        )
    return Path(kept)
