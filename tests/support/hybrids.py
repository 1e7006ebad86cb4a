"""Blocks that mix convolutions with attention or norms over channels, at small sizes, each between convolutions.

Each network takes images (N, 3, 16, 16) and returns (N, 5).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its common name

SIZE = (3, 16, 16)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, layer norm, two linear layers channels last, layer scale, residual (Liu 2022, figure 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's sum with its input, (N, width, H, W)."""
        inner = self.narrow(F.gelu(self.widen(self.norm(self.spatial(x).permute(0, 2, 3, 1)))))
        return x + (self.scale * inner).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Self-attention over tokens (N, L, width), with a norm before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(width), heads
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens' sum with what they attend to."""
        images, length, width = x.shape
        split = self.joint(self.norm(x)).reshape(images, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        return x + self.out((weights @ value).transpose(1, 2).reshape(images, length, width))


class MobileViTBlock(nn.Module):
    """Convolutions, attention over the pixels of each place of 2x2 patches, a fusing convolution (Mehta 2021, 3.1)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.near, self.enter = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, inner, 1)
        self.attend = Attention(inner, 2)
        self.leave, self.fuse = nn.Conv2d(inner, width, 1), nn.Conv2d(2 * width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the fused image, (N, width, H, W)."""
        y = self.enter(F.silu(self.near(x)))
        images, inner, height, width = y.shape
        patches = y.reshape(images, inner, height // 2, 2, width // 2, 2).permute(0, 3, 5, 2, 4, 1)
        tokens = self.attend(patches.reshape(images * 4, -1, inner))
        back = tokens.reshape(images, 2, 2, height // 2, width // 2, inner).permute(0, 5, 3, 1, 4, 2)
        return F.silu(self.fuse(torch.cat([x, self.leave(back.reshape(images, inner, height, width))], 1)))


class EfficientFormerBlock(nn.Module):
    """An average pool as token mixer, layer scale, and a convolutional MLP (Li 2022, 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.5))
        self.mlp = nn.Sequential(conv(width, 2 * width, 1), nn.GELU(), conv(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's two sums, (N, width, H, W)."""
        x = x + self.scale * (self.pool(x) - x)
        return x + self.scale * self.mlp(x)


class SqueezeExcite(nn.Module):
    """Channels times what their mean says: `gate` ends it, 1x1 convolutions or linear layers (Hu 2018, figure 2)."""

    def __init__(self, width: int, gate: nn.Module, linear: bool) -> None:
        super().__init__()
        layer: Callable[[int, int], nn.Module] = nn.Linear if linear else (lambda one, other: nn.Conv2d(one, other, 1))
        self.linear, self.gate = linear, gate
        self.squeeze, self.excite = layer(width, 8), layer(8, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled image."""
        mean = x.mean((2, 3)) if self.linear else F.adaptive_avg_pool2d(x, 1)
        scale = self.gate(self.excite(F.relu(self.squeeze(mean))))
        return x * (scale[:, :, None, None] if self.linear else scale)


class SpatialSqueeze(nn.Module):
    """Pixels times what their channels say, beside channels times what their mean says (Roy 2018, scSE)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels, self.pixels = SqueezeExcite(width, nn.Sigmoid(), linear=False), nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger of both."""
        return torch.maximum(self.channels(x), x * self.pixels(x).sigmoid())


class EfficientChannelAttention(nn.Module):
    """Channels times what a convolution along them makes of their means (Wang 2020, figure 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled image."""
        means = x.mean((2, 3))[:, None]
        return x * self.along(means).sigmoid().transpose(1, 2)[..., None]


def conv(one: int, other: int, kernel: int, stride: int = 1) -> nn.Module:
    """Return a convolution with the batch norm behind it."""
    return nn.Sequential(nn.Conv2d(one, other, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(other))


WIDTH = 16
BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "ConvNeXt": lambda: ConvNeXtBlock(WIDTH),
    "MobileViT": lambda: MobileViTBlock(WIDTH, 24),
    "EfficientFormer": lambda: EfficientFormerBlock(WIDTH),
    "squeeze-and-excite, sigmoid": lambda: SqueezeExcite(WIDTH, nn.Sigmoid(), linear=True),
    "squeeze-and-excite, hard sigmoid": lambda: SqueezeExcite(WIDTH, nn.Hardsigmoid(), linear=False),
    "squeeze-and-excite, tanh": lambda: SqueezeExcite(WIDTH, nn.Tanh(), linear=False),
    "squeeze-and-excite, of pixels too": lambda: SpatialSqueeze(WIDTH),
    "efficient channel attention": EfficientChannelAttention,
}


def hybrid(name: str) -> nn.Module:
    """Return a network with one of BLOCKS behind a stem of convolutions and before a head."""
    torch.manual_seed(0)
    stem = [conv(3, 24, 3, 2), nn.ReLU(), conv(24, WIDTH, 3), nn.ReLU()]
    head = [conv(WIDTH, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)]
    return nn.Sequential(*stem, BLOCKS[name](), *head).eval()
