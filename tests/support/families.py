"""Three of torchvision's families for small images: residual sums, depthwise layers, splits with shuffles."""

import torchvision
from torch import nn

PREPROCESSING = {
    "width": 64, "height": 64, "channels": 3, "resize": 64, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
    "color_order": "RGB", "interpolation": "bilinear",
}  # fmt: skip


def resnet18() -> nn.Module:
    return torchvision.models.resnet18(num_classes=10)


def mobilenet_v2() -> nn.Module:
    return torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.5)


def shufflenet_v2() -> nn.Module:
    return torchvision.models.shufflenet_v2_x0_5(num_classes=10)
