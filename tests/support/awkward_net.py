"""A small classifier of what is easily built wrong: linear layers along other axes than channels, a pool to 2x3."""

import torch
from torch import Tensor, nn

PREPROCESSING = {
    "width": 16, "height": 16, "channels": 3, "resize": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
    "color_order": "RGB", "interpolation": "bilinear",
}  # fmt: skip


class AwkwardNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.along = nn.Linear(16, 16)  # the width, which is as many as the channels
        self.norm = nn.BatchNorm2d(16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)  # over channels-last rows
        self.narrow = nn.Conv2d(16, 8, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d((2, 3))
        self.classifier = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + torch.relu(self.norm(self.along(x)))
        rows = self.down(torch.relu(self.up(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        x = torch.relu(self.narrow(torch.add(rows, x, alpha=-0.5)))
        return self.classifier(self.pool(x).flatten(1))


def make() -> nn.Module:
    """Return the network with seeded weights and batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(0)
    network = AwkwardNet()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for value, low, high in (
                    (module.weight, 0.5, 2.0),
                    (module.bias, -0.3, 0.3),
                    (module.running_mean, -0.3, 0.3),
                    (module.running_var, 0.3, 3.0),
                ):
                    value.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))
    return network
