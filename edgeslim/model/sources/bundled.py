"""The bundled default model."""

from pathlib import Path

import torch

from edgeslim.model.model import BUNDLED, Model
from edgeslim.model.sources.weights import load_weights, weights_name
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
    if weights != "random":
        load_weights(network, Path(weights) if weights else default_model_folder() / "weights.safetensors")
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
    return Model(BUNDLED, weights_name(weights, "bundled"), network, preprocessing, FASHION_LABELS)
