"""A small classifier with what makes quantization hard: residual, concatenation, depthwise, gates; a model source."""

import torch
from torch import Tensor, nn

PREPROCESSING = {
    "width": 16, "height": 16, "channels": 3, "resize": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
    "color_order": "RGB", "interpolation": "bilinear",
}  # fmt: skip
LABELS = ("boot", "shirt", "coat", "bag")


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 8, 1)
        self.excite = nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.excite(gate))


class MixedNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.gate = Gate(16)
        self.left = nn.Conv2d(16, 8, 3, padding=1)
        self.right = nn.Conv2d(16, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = nn.functional.silu(self.norm(self.depthwise(x)))
        x = torch.relu(self.pointwise(y) + x)
        x = self.gate(x)
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return self.classifier(self.pool(x).mean((2, 3)))


def make() -> nn.Module:
    return MixedNet()
