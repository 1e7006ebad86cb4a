"""A small network with SiLU, hard-swish and squeeze-and-excite for 28x28 grey images: what inexact rewrites change.

`tools/bench_legalize.py` trains it; no weights are kept.
"""

from bench_models.mobile import LABELS, PREPROCESSING, convolution
from torch import Tensor, nn

__all__ = ["LABELS", "PREPROCESSING", "make"]

BLOCKS = (  # channels, stride, expansion, activation, gate
    (16, 1, 2, nn.SiLU, nn.Sigmoid),
    (24, 2, 3, nn.SiLU, nn.Sigmoid),
    (24, 1, 3, nn.Hardswish, nn.Hardsigmoid),
    (40, 2, 3, nn.Hardswish, nn.Hardsigmoid),
    (40, 1, 3, nn.Hardswish, nn.Hardsigmoid),
)
SQUEEZED = 4  # a gate is computed from a quarter of the channels


class SqueezeExcite(nn.Module):
    """Multiply each channel by a gate computed from the means of all (Hu et al. 2018, section 3)."""

    def __init__(self, channels: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.gates = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // SQUEEZED, 1),
            nn.ReLU(),
            nn.Conv2d(channels // SQUEEZED, channels, 1),
            gate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        gated: Tensor = x * self.gates(x)
        return gated


class GatedBlock(nn.Module):
    """Expand, filter each channel, gate, project; the input is added where shapes allow.

    Source: Howard et al. 2019, Searching for MobileNetV3, section 5.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        expansion: int,
        activation: type[nn.Module],
        gate: type[nn.Module],
    ) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.body = nn.Sequential(
            *convolution(channels_in, hidden, 1),
            activation(),
            *convolution(hidden, hidden, 3, stride, groups=hidden),
            activation(),
            SqueezeExcite(hidden, gate),
            *convolution(hidden, channels_out, 1),
        )
        self.adds_input = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        y: Tensor = self.body(x)
        return x + y if self.adds_input else y


class GatedNet(nn.Module):
    """Stem, gated blocks down to 4x4, a last 1x1 convolution, global average, one linear layer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(*convolution(1, 16, 3, 2), nn.SiLU())
        blocks, channels = [], 16
        for channels_out, stride, expansion, activation, gate in BLOCKS:
            blocks.append(GatedBlock(channels, channels_out, stride, expansion, activation, gate))
            channels = channels_out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*convolution(channels, 128, 1), nn.Hardswish())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 28, 28) normalized images to (N, classes) logits."""
        features: Tensor = self.pool(self.head(self.blocks(self.stem(x)))).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits


def make() -> nn.Module:
    """Return the untrained network."""
    return GatedNet()
