"""Networks whose values are too large for fp16, and the device they are for."""

from dataclasses import replace

import torch
from torch import nn

from edgeslim.devices.profile import load_profile
from edgeslim.model.context import Context
from tests.support.small_models import context, headed, random_images


def on_gpu() -> Context:
    return replace(context(random_images(8)), profile=load_profile("jetson-orin-nano"))


def scaled(first: float, second: float) -> nn.Module:
    """Return two layers whose weights are multiplied, so that what lies between them is."""
    torch.manual_seed(0)
    network = headed(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1))
    with torch.no_grad():
        network[0].weight.mul_(first)
        network[0].bias.mul_(first)
        network[1].weight.mul_(second)
    return network
