"""A classifier with a second head of another range, whose outputs have names."""

from torch import Tensor, nn

PREPROCESSING = {
    "width": 32,
    "height": 32,
    "channels": 3,
    "resize": 32,
    "mean": [0.25, 0.25, 0.25],
    "std": [0.3, 0.3, 0.3],
    "color_order": "RGB",
    "interpolation": "bilinear",
}


class TwoHeads(nn.Module):
    """What it is, as logits of ten classes, and where, as 27 maps in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()
        )
        self.what, self.where = nn.Linear(64, 10), nn.Conv2d(64, 27, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        return {"what": self.what(features.mean((2, 3))), "where": self.where(features) * 100}


def make() -> nn.Module:
    return TwoHeads()
