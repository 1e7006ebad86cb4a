"""A small network for 28x28 grey images, and how images become its inputs: all that edgeslim wants of a model."""

from typing import Any

from torch import Tensor, nn

PREPROCESSING: dict[str, Any] = {
    "width": 28,
    "height": 28,
    "channels": 1,
    "resize": 28,
    "mean": [0.286],
    "std": [0.353],
    "color_order": "GRAY",
    "interpolation": "bilinear",
}
LABELS = ["bag", "boot", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "t-shirt", "trousers"]


class LittleNet(nn.Module):
    """Three convolutions, the mean over the image, one linear layer."""

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(1, 16, 2), convolution(16, 32, 1), convolution(32, 64, 2))
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 28, 28) normalized images to (N, classes) logits."""
        logits: Tensor = self.classifier(self.body(x).mean((2, 3)))
        return logits


def convolution(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def make() -> nn.Module:
    """Return the network, untrained: `little_net.py:make` is what the command line calls it."""
    return LittleNet()
