"""Channels that meet some that cannot go: they must stay too."""

import torch
from torch import nn

from edgeslim.compress.prune.channels import channels_of
from edgeslim.model.graph import trace
from tests.support.small_models import CLASSES, SIDE, Passing


def space_to_depth(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(1, 3, SIDE // 2, 2, SIDE // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 12, SIDE // 2, SIDE // 2)


def test_a_sum_with_the_image_keeps_the_channels_of_the_other_side():
    network = Passing(
        lambda self, x: self.head((self.conv(y := space_to_depth(x)) + y).mean((2, 3))),
        conv=nn.Conv2d(12, 12, 1), head=nn.Linear(12, CLASSES),
    )  # fmt: skip
    assert not channels_of(trace(network, (1, 3, SIDE, SIDE))).groups


def test_a_constant_used_where_nothing_can_go_keeps_the_channels_where_it_is_used_again():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(12, 12, 1), nn.Linear(12, CLASSES)
            self.register_buffer("factor", torch.rand(1, 12, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(space_to_depth(x) * self.factor) * self.factor
            return self.head(y.mean((2, 3)))

    assert not channels_of(trace(Scaled(), (1, 3, SIDE, SIDE))).groups
