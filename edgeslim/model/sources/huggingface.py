"""Image classifiers of Hugging Face's transformers, each a folder on disk: config.json, weights and preprocessing."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from edgeslim.errors import BadModel
from edgeslim.model.model import Model
from edgeslim.model.sources.timm import SAFETENSORS, from_timm_folder
from edgeslim.model.sources.torchvision import import_library
from edgeslim.model.sources.user_code import nothing_logged
from edgeslim.model.sources.weights import load_weights
from edgeslim.tasks.preprocessing import Interpolation, Preprocessing, preprocess

CONFIG, PROCESSOR, PICKLE = "config.json", "preprocessor_config.json", "pytorch_model.bin"
CLASSIFIER = "ForImageClassification"  # what the names of its architectures end in
OTHER_PROBLEMS = ("multi_label_classification", "regression")
FILTERS: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
WARPED_SIDE = 384  # ConvNextImageProcessor scales both sides from here on, and crops below
SAME = 0.01  # of a standard deviation, beside what a crop differs by that begins a pixel before or after ours
OWN_FILE = "make it in a file of your own (FILE.py:NAME)"


def from_huggingface(source: str, weights: str | None, seed: int) -> Model:
    """Return the image classifier in a folder; what timm saved there, timm reads.

    No code of the folder's is run, and nothing is asked from the network.
    """
    folder = Path(source)
    config = _read_json(folder / CONFIG)
    if "architecture" in config:
        return from_timm_folder(folder, weights, seed)
    _refuse_other(folder, config)
    if weights is None:
        _require_weights(folder)
    elif weights == "default":
        raise BadModel(f"the weights of {source} lie in it; leave --weights out, or pass another file, or random")
    transformers = transformers_package()
    torch.manual_seed(seed)
    with _quiet(transformers):
        network = _network(transformers, folder, own_weights=weights is None)
        preprocessing = _preprocessing(transformers, folder)
    held = weights or SAFETENSORS
    if weights not in (None, "random"):
        held = load_weights(network, Path(str(weights)))
    labels = _labels(config)
    return Model(
        folder.resolve().name,
        held,
        network,
        preprocessing,
        labels,
        preprocessing_from=f"the image processor of {folder.name}",
        labels_from=f"id2label of {folder.name}" if labels else "",
    )


def transformers_package() -> Any:
    """Return `transformers`."""
    return import_library("transformers", "huggingface")


def _read_json(file: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise BadModel(f"{file} holds no object of JSON")
    return found


def _refuse_other(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise BadModel for a folder of something else than an image classifier whose code transformers has."""
    architectures = config.get("architectures") or []
    if "auto_map" in config:
        raise BadModel(
            f"{folder} brings code of its own ({CONFIG}, auto_map), which edgeslim does not run; read it, then "
            f"{OWN_FILE}"
        )
    if not any(str(one).endswith(CLASSIFIER) for one in architectures):
        shown = ", ".join(map(str, architectures)) or "of no architecture"
        raise BadModel(f"{folder} is {shown} ({CONFIG}); expected an architecture that ends in {CLASSIFIER}")
    if (problem := config.get("problem_type")) in OTHER_PROBLEMS:
        raise BadModel(f"{folder} is for {problem} ({CONFIG}, problem_type); edgeslim takes one class an image")
    if "quantization_config" in config:
        raise BadModel(f"{folder} holds weights that are quantized already ({CONFIG}); give those in float")
    if config.get("num_channels", 3) != 3:
        raise BadModel(f"{folder} takes images of {config['num_channels']} channels; {OWN_FILE}, with PREPROCESSING")


def _require_weights(folder: Path) -> None:
    if any(folder.glob(f"{Path(SAFETENSORS).stem}*.safetensors")):
        return
    if (folder / PICKLE).is_file():
        raise BadModel(
            f"{folder} holds its weights as {PICKLE}, a pickle, which may hold code; write them as safetensors once:\n"
            "    from transformers import AutoModelForImageClassification as Classifier\n"
            f'    Classifier.from_pretrained("{folder}").save_pretrained("{folder}")'
        )
    raise BadModel(f"{folder} holds no weights ({SAFETENSORS}); give a file of them with --weights, or `random`")


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from writing to stderr: its progress bars, what it logs and what others log that it loads."""
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with nothing_logged():
            yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _network(transformers: Any, folder: Path, *, own_weights: bool) -> nn.Module:
    """Return the network of a folder in float32, with the folder's weights or random ones."""
    kind = transformers.AutoModelForImageClassification
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **local)
        if not own_weights:
            network: nn.Module = kind.from_config(config, dtype=torch.float32)
            return network
        network, found = kind.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **local
        )
    except Exception as error:
        raise BadModel(f"transformers cannot load {folder}: {type(error).__name__}: {error}") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, found[what])):
            raise BadModel(f"the weights of {folder} do not fit it: {what.partition('_')[0]} {', '.join(names[:5])}")
    return network


def _labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the labels of a configuration in the order of their numbers; none where it holds but placeholders."""
    named = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    names = tuple(named[number] for number in sorted(named))
    said = names != tuple(f"LABEL_{number}" for number in range(len(names)))
    return names if names and said and sorted(named) == list(range(len(names))) else None


def _preprocessing(transformers: Any, folder: Path) -> Preprocessing:
    """Return what a folder's own image processor does, as ours: held against it on images."""
    if not (folder / PROCESSOR).is_file():
        raise BadModel(
            f"{folder} has no {PROCESSOR}, which says how images become inputs; copy it from the model that this one "
            "was trained from"
        )
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
        found = _as_ours(processor)
        _require_same(processor, found)
    except Exception as error:
        raise BadModel(
            f"{folder / PROCESSOR} says what edgeslim cannot do to an image ({error}); {OWN_FILE}, with PREPROCESSING"
        ) from error
    return found


def _as_ours(processor: Any) -> Preprocessing:
    """Return what an image processor's attributes say; ValueError for what ours cannot say."""
    if processor.resample not in FILTERS:
        raise ValueError(f"its resample is {processor.resample}; expected {', '.join(map(str, FILTERS))}")
    resize, size = _sizes(processor)
    scale = 255 * (processor.rescale_factor if processor.do_rescale else 1.0)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    if getattr(processor, "include_top", False):  # EfficientNet's divides once more
        std = [value**2 for value in std]
    return Preprocessing(
        width=size[0],
        height=size[1],
        channels=3,
        resize=resize,
        mean=tuple(float(value) / scale for value in mean),
        std=tuple(float(value) / scale for value in std),
        color_order="BGR" if getattr(processor, "do_flip_channel_order", False) else "RGB",
        interpolation=FILTERS[processor.resample],
    )


def _sizes(processor: Any) -> tuple[int | tuple[int, int] | None, tuple[int, int]]:
    """Return what an image processor scales an image to, as our `resize`, and the (width, height) of its inputs."""
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    side, share = size.shortest_edge, getattr(processor, "crop_pct", None)
    resize: int | tuple[int, int] | None = None
    if not processor.do_resize:
        pass
    elif side and share:
        resize, crop = (int(side / share), size) if side < WARPED_SIDE else ((side, side), None)
    elif side:
        resize = side
    elif size.width and size.height:
        resize = (size.width, size.height)
    else:
        raise ValueError("its size is neither a shortest edge nor a width and a height")
    if crop is not None:
        return resize, (crop.width or crop.shortest_edge, crop.height or crop.shortest_edge)
    if not isinstance(resize, tuple):
        raise ValueError("its inputs have no size of their own")
    return resize, resize


def _require_same(processor: Any, preprocessing: Preprocessing) -> None:
    """Raise ValueError where an image processor makes other inputs of two images than ours does."""
    larger = 2 * max(preprocessing.width, preprocessing.height)
    for width, height in ((larger, larger + larger // 2), (larger + larger // 2, larger)):
        across, down = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
        waves = [np.sin(np.pi * across), np.cos(np.pi * down), np.sin(across + 2 * down)]
        image = (127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)
        theirs = np.asarray(processor(images=Image.fromarray(image), return_tensors="np")["pixel_values"][0])
        ours = preprocess(image, preprocessing).transpose(2, 0, 1)
        if theirs.shape != ours.shape:
            raise ValueError(f"its inputs are {theirs.shape}, ours would be {ours.shape}")
        a_pixel = sum(np.abs(np.diff(ours, axis=axis)).max() for axis in (1, 2))
        if np.abs(theirs - ours).max() > a_pixel + SAME * ours.std():
            raise ValueError(f"{type(processor).__name__} makes other values of an image than its settings tell")
