"""The bundled default model."""

from pathlib import Path

import torch

from edgeslim.model.model import BUNDLED, Model
from edgeslim.model.sources.weights import load_weights
from edgeslim.resources import default_model_folder
from edgeslim.tasks.preprocessing import Preprocessing

FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def bundled_model(weights: str | None, seed: int) -> Model:
    """Return the network that edgeslim ships, with its trained weights, random ones or those of a file."""
    from edgeslim.model.default.network import make

    torch.manual_seed(seed)
    network = make()
    held = weights or "bundled"
    if weights is None:
        load_weights(network, default_model_folder() / "weights.safetensors")
    elif weights != "random":
        held = load_weights(network, Path(weights))
    preprocessing = Preprocessing(
        width=28,
        height=28,
        channels=1,
        resize=28,
        mean=(0.2860,),
        std=(0.3530,),
        color_order="GRAY",
        interpolation="bilinear",
    )
    told = "the bundled model"
    return Model(BUNDLED, held, network, preprocessing, FASHION_LABELS, preprocessing_from=told, labels_from=told)
