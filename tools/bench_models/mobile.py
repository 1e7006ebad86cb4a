"""A network of inverted residual blocks for 28x28 grey images: the second model of the compression benchmark.

`edgeslim build tools/bench_models/mobile.py:make --weights tools/bench_models/mobile.safetensors ...` loads it.
"""

from torch import Tensor, nn

from edgeslim.model.sources.bundled import FASHION_LABELS

LABELS = FASHION_LABELS
PREPROCESSING = {
    "width": 28,
    "height": 28,
    "channels": 1,
    "resize": 28,
    "mean": [0.2860],
    "std": [0.3530],
    "color_order": "GRAY",
    "interpolation": "bilinear",
}
BLOCKS = (  # channels, stride, expansion
    (24, 1, 2),
    (24, 1, 4),
    (48, 2, 3),
    (48, 1, 4),
    (48, 1, 4),
    (96, 2, 3),
    (96, 1, 4),
    (96, 1, 4),
)


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a padded convolution and its batch norm."""
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow.

    Source: Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, section 3.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.body = nn.Sequential(
            *convolution(channels_in, hidden, 1),
            nn.ReLU6(),
            *convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            *convolution(hidden, channels_out, 1),
        )
        self.adds_input = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        y: Tensor = self.body(x)
        return x + y if self.adds_input else y


class MobileNet(nn.Module):
    """Stem, inverted residual blocks down to 4x4, a last 1x1 convolution, global average, one linear layer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(*convolution(1, 24, 3, 2), nn.ReLU6())
        blocks, channels = [], 24
        for channels_out, stride, expansion in BLOCKS:
            blocks.append(InvertedResidual(channels, channels_out, stride, expansion))
            channels = channels_out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*convolution(channels, 256, 1), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 28, 28) normalized images to (N, classes) logits."""
        features: Tensor = self.pool(self.head(self.blocks(self.stem(x)))).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits


def make() -> nn.Module:
    """Return the untrained network; its weights are `mobile.safetensors` beside this file."""
    return MobileNet()
