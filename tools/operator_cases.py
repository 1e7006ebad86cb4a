"""A small network for each operator that a normalized network may have: CASES[operator] is made of an activation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS, SIDE, CLASSES = 16, 16, 10
Case = Callable[["Network", Tensor], Tensor]


def _positive(x: Tensor) -> Tensor:
    return x.abs() + 0.1


def _simple(function: Callable[[Tensor], Tensor]) -> Case:
    return lambda _, x: function(x)


def _layer(make: Callable[[], nn.Module]) -> tuple[Case, Callable[[], nn.Module]]:
    return lambda network, x: network.layer(x), make


def _attention(_: "Network", x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2).unflatten(2, (2, 8)).transpose(1, 2)
    mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens).transpose(2, 3).flatten(1, 2)
    image: Tensor = mixed.unflatten(2, (SIDE, SIDE))
    return image


CASES: dict[str, Case | tuple[Case, Callable[[], nn.Module]]] = {
    "conv2d": _layer(lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, dilation=1, groups=2)),
    "linear": _simple(lambda x: x),
    "batch_norm": _layer(lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(CHANNELS))),
    # activations
    "relu": _simple(torch.relu),
    "relu6": _simple(functional.relu6),
    "hardtanh": _simple(lambda x: functional.hardtanh(x, -0.4, 0.7)),
    "hardswish": _simple(functional.hardswish),
    "hardsigmoid": _simple(functional.hardsigmoid),
    "sigmoid": _simple(torch.sigmoid),
    "silu": _simple(functional.silu),
    "leaky_relu": _simple(lambda x: functional.leaky_relu(x, 0.1)),
    "elu": _simple(functional.elu),
    "celu": _simple(functional.celu),
    "selu": _simple(functional.selu),
    "gelu": _simple(functional.gelu),
    "mish": _simple(functional.mish),
    "tanh": _simple(torch.tanh),
    "softplus": _simple(functional.softplus),
    "log_sigmoid": _simple(functional.logsigmoid),
    # arithmetic
    "add": _simple(lambda x: x + x.relu()),
    "mul": _simple(lambda x: x * x.sigmoid()),
    "div": _simple(lambda x: x / _positive(x)),
    "maximum": _simple(lambda x: torch.maximum(x, x.roll(1, 1))),
    "minimum": _simple(lambda x: torch.minimum(x, x.roll(1, 1))),
    "where": _simple(lambda x: torch.where(x > 0.1, x, x.sigmoid())),
    "gt": _simple(lambda x: torch.where(x > 0.1, x, x.sigmoid())),
    "lt": _simple(lambda x: torch.where(x < 0.1, x, x.sigmoid())),
    "abs": _simple(torch.abs),
    "exp": _simple(torch.exp),
    "log": _simple(lambda x: torch.log(_positive(x))),
    "sqrt": _simple(lambda x: torch.sqrt(_positive(x))),
    "rsqrt": _simple(lambda x: torch.rsqrt(_positive(x))),
    "reciprocal": _simple(lambda x: torch.reciprocal(_positive(x))),
    "pow": _simple(lambda x: _positive(x) ** 0.75),
    "matmul": _simple(lambda x: x @ x.roll(1, 1)),
    "softmax": _simple(lambda x: x * x.softmax(1)),
    "log_softmax": _simple(lambda x: x.log_softmax(1)),
    "scaled_dot_product_attention": _attention,
    # norms
    "group_norm": (lambda network, x: network.layer(x).relu(), lambda: nn.GroupNorm(4, CHANNELS)),
    "instance_norm": (lambda network, x: network.layer(x).relu(), lambda: nn.InstanceNorm2d(CHANNELS, affine=True)),
    "layer_norm": (
        lambda network, x: network.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * x,
        lambda: nn.LayerNorm(CHANNELS),
    ),
    # pools and sizes
    "max_pool2d": _simple(lambda x: functional.max_pool2d(x, 3, 2, 1)),
    "avg_pool2d": _simple(lambda x: functional.avg_pool2d(x, 2)),
    "mean": _simple(lambda x: x.mean(2)[:, :, None] + x.mean((2, 3), keepdim=True)),
    "token_mean": _simple(lambda x: (x.flatten(2).mean(2, keepdim=True) + x.flatten(2)).unflatten(2, (SIDE, SIDE))),
    "channel_mean": _simple(lambda x: x.mean(1, keepdim=True) + x),
    "upsample_nearest2d": _simple(lambda x: functional.interpolate(x, scale_factor=2)),
    "upsample_bilinear2d": _simple(lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear")),
    "upsample_bicubic2d": _simple(lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic")),
    "pad": _simple(lambda x: functional.pad(x, (1, 2, 0, 1))),
    # what moves values
    "cat": _simple(lambda x: torch.cat([x, functional.max_pool2d(x, 3, 1, 1)], 1)),
    "chunk": _simple(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "split_with_sizes": _simple(lambda x: torch.cat(torch.split(x, [4, 12], 1)[::-1], 1)),
    "getitem": _simple(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "slice": _simple(lambda x: x[:, :, ::2, 1:]),
    "select": _simple(lambda x: x.unflatten(1, (2, 8))[:, 1]),
    "permute": _simple(lambda x: x.permute(0, 1, 3, 2)),
    "transpose": _simple(lambda x: x.transpose(2, 3)),
    "reshape": _simple(lambda x: x.transpose(2, 3).reshape(1, 8, 32, 16)),
    "view": _simple(lambda x: x.view(1, 8, 32, 16)),
    "flatten": _simple(lambda x: x.flatten(2).unflatten(2, (8, 32))),
    "unsqueeze": _simple(lambda x: x.unsqueeze(1).flatten(1, 2)),
    "squeeze": _simple(lambda x: x.amax(2, keepdim=True).squeeze(2).unsqueeze(2)),
    "expand": _simple(lambda x: torch.cat([x, x.amax((2, 3), keepdim=True).expand(-1, -1, SIDE, SIDE)], 1)),
    "flip": _simple(lambda x: x.flip(3)),
}


class Network(nn.Module):
    """A convolution, the operator, and the head of a classifier."""

    layer: nn.Module

    def __init__(self, case: Case | tuple[Case, Callable[[], nn.Module]]) -> None:
        super().__init__()
        self._case, make = case if isinstance(case, tuple) else (case, nn.Identity)
        self.stem, self.layer = nn.Conv2d(3, CHANNELS, 3, padding=1), make()
        with torch.no_grad():
            width = self._case(self, self.stem(torch.zeros(1, 3, SIDE, SIDE))).shape[1]
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, CLASSES) of images (N, 3, SIDE, SIDE)."""
        made: Tensor = self.head(self._case(self, self.stem(x)).mean((2, 3)))
        return made


def network_of(operator: str) -> Network:
    """Return the network of an operator, with weights that are always the same."""
    torch.manual_seed(0)
    return Network(CASES[operator]).eval()
