"""A network of operators that others write; the file is also a model source: FILE.py:make."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

PREPROCESSING = {
    "width": 16, "height": 16, "channels": 3, "resize": 16, "mean": [0.5] * 3, "std": [0.25] * 3,
    "color_order": "RGB", "interpolation": "bilinear",
}  # fmt: skip


class Ordinary(nn.Module):
    """Leaky and parametric ReLU, splits, an upsampled and a transposed branch, a norm over groups, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = parametrizations.weight_norm(nn.Conv2d(3, 16, 3))
        self.up, self.prelu = nn.ConvTranspose2d(8, 16, 2, 2), nn.PReLU(16)
        self.side, self.norm = nn.Conv2d(8, 16, 1), nn.GroupNorm(4, 16)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities (N, 4) of images (N, 3, 16, 16)."""
        x = functional.leaky_relu(self.stem(functional.pad(x, (1, 1, 1, 1))), 0.1)
        one, other = torch.split(functional.avg_pool2d(x, 3, 2, ceil_mode=True), 8, 1)
        up = self.prelu(self.up(one)) - 0.5
        side = self.norm(functional.interpolate(self.side(other), scale_factor=2)) / 2
        return self.head(torch.cat([up, side], 1).amax((2, 3))).softmax(1)


def make() -> nn.Module:
    """Return the network with weights that are always the same."""
    torch.manual_seed(0)
    return Ordinary()
