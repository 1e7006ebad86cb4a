"""Tiny networks and what a step needs around them; the file is also a model source: FILE.py:FACTORY."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeslim.compress import fold
from edgeslim.devices.profile import load_profile
from edgeslim.model.context import Context
from edgeslim.model.model import Model
from edgeslim.pipeline.latency import operator_latency
from edgeslim.progress import silent
from edgeslim.resources import default_store
from edgeslim.tasks.images import Data, ImageSet
from edgeslim.tasks.preprocessing import Preprocessing

SIDE, CLASSES = 8, 4
PREPROCESSING = {
    "width": SIDE, "height": SIDE, "channels": 3, "resize": SIDE, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
    "color_order": "RGB", "interpolation": "bilinear",
}  # fmt: skip
COLOR = Preprocessing.from_dict(PREPROCESSING)
GREY = Preprocessing(SIDE, SIDE, 1, SIDE, (0.5,), (0.25,), "GRAY")
LABELS = ("boot", "shirt", "coat", "bag")


class Passing(nn.Module):
    """A network given as the function its forward pass is, over the modules it owns."""

    def __init__(self, forward, **modules: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def plain() -> nn.Module:
    """A classifier: convolution, batch norm, ReLU, pooling, one linear layer."""
    return headed(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())


def headed(*body: nn.Module, width: int = 6) -> nn.Sequential:
    """Put the head of a classifier behind a body that ends in `width` channels."""
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def block(inputs: int, outputs: int, kernel: int = 3, **settings: int) -> nn.Sequential:
    """A convolution that keeps the size of its input, batch norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **settings)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def residual() -> nn.Module:
    """Blocks on a stream of 32 channels that is added to."""
    return Passing(
        lambda self, x: self.head(torch.relu(self.second(self.first(y := self.stem(x))) + y)),
        stem=block(3, 32), first=block(32, 32), second=nn.Conv2d(32, 32, 3, padding=1), head=headed(width=32),
    )  # fmt: skip


def depthwise() -> nn.Module:
    """A depthwise convolution between two that mix channels."""
    return headed(block(3, 32), block(32, 32, groups=32), block(32, 32, 1), width=32)


def multiplied() -> nn.Module:
    """A depthwise convolution that has two filters for each of its channels."""
    return headed(block(3, 32), block(32, 64, groups=32), block(64, 32, 1), width=32)


def grouped() -> nn.Module:
    """A convolution in two groups between two others."""
    return headed(block(3, 32), block(32, 32, groups=2), block(32, 32, 1), width=32)


def concatenated() -> nn.Module:
    """Two branches side by side, and the stream they came from."""
    return Passing(
        lambda self, x: self.head(torch.cat([self.one(y := self.stem(x)), self.other(y), y], 1)),
        stem=block(3, 16), one=block(16, 16, 1), other=block(16, 32), head=headed(block(64, 32, 1), width=32),
    )  # fmt: skip


def flattened() -> nn.Module:
    """Places and channels that a linear layer reads together, with a second one behind it."""
    hidden = nn.Linear(16 * 16, 32)
    return nn.Sequential(block(3, 16), nn.MaxPool2d(2), nn.Flatten(), hidden, nn.ReLU(), nn.Linear(32, CLASSES))


def shared() -> nn.Module:
    """A block that the stream passes twice."""
    return Passing(
        lambda self, x: self.head(self.body(self.body(self.stem(x)))),
        stem=block(3, 32), body=block(32, 32), head=headed(width=32),
    )  # fmt: skip


def under_two_names() -> nn.Module:
    """A network that owns one of its blocks under two names."""
    inner = block(3, 32)
    return Passing(lambda self, x: self.head(self.again(x)), inner=inner, again=inner, head=headed(width=32))


class Scaled(nn.Module):
    """Multiplies with a number that is computed from two others while the network runs: channels cannot be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.tensor([0.5])), nn.Parameter(torch.tensor([3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.one * self.other)


def scaled() -> nn.Module:
    return headed(block(3, 32), Scaled(), width=32)


# Wide enough to become narrower in multiples of 8.
WIDE = (residual, depthwise, multiplied, grouped, concatenated, flattened, shared, under_two_names)


def normalized_layers() -> nn.Module:
    """A classifier with a LayerNorm, as vision transformers have."""
    return nn.Sequential(nn.Conv2d(3, 6, SIDE), nn.Flatten(), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, CLASSES))


def boxes_and_classes() -> nn.Module:
    """What a detector returns: several tensors."""
    return Passing(lambda self, x: (self.net(x), x.mean((1, 2))), net=plain())


def classes_and_boxes() -> nn.Module:
    return Passing(lambda self, x: [self.net(x), x.mean((1, 2))], net=plain())


def logits_in_a_dictionary() -> nn.Module:
    return Passing(lambda self, x: {"what": self.net(x), "where": x.mean((1, 2))}, net=plain())


def fails_when_it_runs() -> nn.Module:
    def forward(self, x):
        raise ValueError("no such size")

    return Passing(forward, net=plain())


def odd_names() -> nn.Module:
    return Passing(lambda self, x: {"a b": self.net(x)}, net=plain())


def whole_numbers() -> nn.Module:
    return Passing(lambda self, x: self.net(x).argmax(1), net=plain())


def twice_the_same() -> nn.Module:
    def forward(self, x):
        answer = self.net(x)
        return answer, answer

    return Passing(forward, net=plain())


def features() -> nn.Module:
    return nn.Conv2d(3, 6, 3)


def one_logit() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 1))


def five_classes() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5))


def depends_on_data() -> nn.Module:
    return Passing(lambda self, x: self.net(x) if x.sum() > 0 else self.net(-x), net=plain())


def broken() -> nn.Module:
    network = plain()
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] = float("nan")
    return network


def raises() -> nn.Module:
    raise RuntimeError("no weights today")


def no_module() -> str:
    return "a network"


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every bias and every batch norm numbers that are neither 0 nor 1, as training does."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: Tensor, low: float, high: float) -> None:
        like.copy_(low + (high - low) * torch.rand(like.shape, generator=generator))

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                draw(module.weight, -((6 / fan_in) ** 0.5), (6 / fan_in) ** 0.5)
                if module.bias is not None:
                    draw(module.bias, -0.5, 0.5)
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                draw(module.running_mean, -0.5, 0.5)
                draw(module.running_var, 0.5, 2.0)
                if module.affine:
                    draw(module.weight, 0.5, 1.5)
                    draw(module.bias, -0.5, 0.5)
    return network.eval()


def model_of(network: nn.Module, preprocessing: Preprocessing = COLOR) -> Model:
    return Model("a test", "random", network, preprocessing, None)


def random_images(count: int, preprocessing: Preprocessing = COLOR, seed: int = 0) -> ImageSet:
    """Return seeded images of grey and coloured noise, each with a brightness of its own."""
    generator = np.random.default_rng(seed)
    noise = generator.integers(0, 128, (count, preprocessing.height, preprocessing.width, preprocessing.channels))
    return ImageSet((noise + generator.integers(0, 128, (count, 1, 1, 1))).astype(np.uint8), None, preprocessing)


def context(calibration: ImageSet, work: Path = Path(), device: str = "raspberry-pi") -> Context:
    """Return the surroundings of a step that calibrates on `calibration`.

    Without a folder of its own, what operators take is kept in the store of the run.
    """
    data = Data("a test", False, calibration, calibration, calibration)
    profile = load_profile(device)
    latency = partial(operator_latency, profile, 1, default_store() if work == Path() else work, silent)
    return Context(profile, data, 0, work, silent, operator_latency=latency)


def folded_in(surroundings: Context, network: nn.Module) -> Model:
    """Return a network as a model without batch norms."""
    return fold.apply(model_of(network.eval()), fold.Settings(), surroundings)


def of_every_kind() -> nn.Module:
    """Return a network with dense, depthwise, grouped and 1x1 convolutions, an addition and a concatenation."""

    def forward(self, x):
        x = self.stem(x)
        y = self.depthwise(x).relu()
        z = self.grouped(y) + x
        return self.head(self.pool(torch.cat([self.pointwise(z).relu(), y], 1)))

    return randomized(
        Passing(
            forward,
            stem=nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU6()),
            depthwise=nn.Conv2d(6, 6, 3, padding=1, groups=6),
            grouped=nn.Conv2d(6, 6, 3, padding="same", groups=2),
            pointwise=nn.Conv2d(6, 4, 1),
            pool=nn.MaxPool2d(2),
            head=headed(width=10),
        )
    )
