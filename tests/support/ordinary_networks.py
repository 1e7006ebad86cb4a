"""Random networks as people write them: what random_networks has, and all other operators that networks are made of.

A hypothesis strategy like those; blocks are functions (draw, width) -> (module, width after it).
"""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its common name

from tests.support.random_networks import BLOCKS, Draw, Part, branch, head, layer
from tests.support.small_models import Passing, randomized

MOST_SIDE = 40  # beyond it nothing grows
SIDES = st.integers(9, 20)
Network = tuple[nn.Module, tuple[int, int, int]]


@st.composite
def ordinary_networks(draw: Draw) -> Network:
    """Return a network of three to six blocks, with one output or two, and the (channels, height, width) it takes."""
    seed = draw(st.integers(0, 2**31 - 1))
    torch.manual_seed(seed)
    size = (draw(st.sampled_from([1, 3])), draw(SIDES), draw(SIDES))
    first, width = layer(draw, size[0], 8)
    parts: list[nn.Module] = [first]
    for block in draw(st.lists(st.sampled_from((*BLOCKS, *ORDINARY, *ORDINARY)), min_size=2, max_size=5)):
        if min(_shape_of(parts, size)[2:]) < 4:  # too small an image for windows and mirrors
            break
        part, after = block(draw, width)
        if max(_shape_of([*parts, part], size)[2:]) <= MOST_SIDE:
            parts.append(part)
            width = after
    body = nn.Sequential(*parts)
    answers = nn.Sequential(*head(draw, body, (1, *size), width))
    if draw(st.integers(0, 3)):
        return randomized(nn.Sequential(body, answers), seed).eval(), size
    modules = {"body": body, "answers": answers, "second": nn.Conv2d(width, 3, 1)}
    two = Passing(lambda self, x: (self.answers(y := self.body(x)), self.second(y)), **modules)
    return randomized(two, seed).eval(), size


@torch.no_grad()
def _shape_of(parts: list[nn.Module], size: tuple[int, int, int]) -> torch.Size:
    shape: torch.Size = nn.Sequential(*parts).eval()(torch.zeros(1, *size)).shape
    return shape


def _one_of(*functions: Callable[[Tensor], Tensor]) -> Callable[[Draw, int], Part]:
    """Return a block that is one of some functions that keep the width."""

    def block(draw: Draw, width: int) -> Part:
        function = draw(st.sampled_from(functions))
        return Passing(lambda self, x: function(x)), width

    return block


def _one_layer(*makes: Callable[[int], nn.Module]) -> Callable[[Draw, int], Part]:
    """Return a block that is one of some modules, each made for a width, which it keeps."""
    return lambda draw, width: (draw(st.sampled_from(makes))(width), width)


activation = _one_layer(
    lambda _: nn.LeakyReLU(0.1),
    lambda _: nn.PReLU(),
    lambda width: nn.PReLU(width, init=0.2),
    lambda _: nn.Hardtanh(-0.4, 0.7),
    lambda _: nn.ELU(),
    lambda _: nn.GELU(),
    lambda _: nn.Mish(),
    lambda _: nn.Tanh(),
    lambda _: nn.Softplus(),
    lambda _: nn.Hardsigmoid(),
)
pool = _one_layer(
    lambda _: nn.MaxPool2d(3, 2, 1),
    lambda _: nn.MaxPool2d(2, ceil_mode=True),
    lambda _: nn.AvgPool2d(3, 2, 1),
    lambda _: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    lambda _: nn.AvgPool2d((2, 3), 2, ceil_mode=True),
    lambda _: nn.AdaptiveAvgPool2d((5, 7)),
    lambda _: nn.AdaptiveMaxPool2d((7, 5)),
)
resize = _one_layer(
    lambda _: nn.Upsample(scale_factor=2),
    lambda _: nn.Upsample(size=(13, 17)),
    lambda _: nn.Upsample(scale_factor=2, mode="bilinear"),
    lambda _: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
)
norm = _one_layer(
    lambda width: nn.GroupNorm(1, width),
    lambda width: nn.InstanceNorm2d(width, affine=True),
    lambda _: nn.LocalResponseNorm(3),
    nn.BatchNorm2d,
)
arithmetic = _one_of(
    lambda x: torch.maximum(x, x.roll(1, 1)),
    lambda x: torch.minimum(x, 0.5 * x + 0.1),
    lambda x: x - 0.3 * x.relu(),
    lambda x: x / (x.abs() + 1.0),
    lambda x: (x.abs() + 0.1).sqrt(),
    lambda x: torch.exp(-x.abs()),
    lambda x: torch.where(x > 0, x, 0.1 * x),
    lambda x: x.clamp(-0.5, 0.9),
    lambda x: x.clamp(min=-0.2),
    lambda x: x * x,
    lambda x: F.normalize(x, dim=1),
)
moved = _one_of(
    lambda x: x.roll((1, -2), (2, 3)),
    lambda x: x.flip(3),
    lambda x: x.transpose(2, 3),
    lambda x: x[:, :, ::2, 1:],
    lambda x: x[:, torch.arange(x.shape[1] - 1, -1, -1)],
    lambda x: torch.stack([x, x.relu()], 2).flatten(1, 2)[:, ::2],
    lambda x: torch.cat([one[:, None] for one in x.unbind(1)], 1),
)
weighed = _one_of(
    lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    lambda x: x * x.amax((2, 3), keepdim=True),
    lambda x: x + x.mean(1, keepdim=True),
    lambda x: x * x.amax(1, keepdim=True).sigmoid(),
    lambda x: x * x.flatten(2).softmax(-1).unflatten(2, x.shape[2:]),
    lambda x: x + x.mean((2, 3), keepdim=True).expand_as(x),
)


def convolution(draw: Draw, width: int) -> Part:
    """A convolution with a kernel, stride, dilation or padding that is seldom seen, and an activation."""
    after = draw(st.integers(2, 8))
    settings = draw(
        st.sampled_from(
            [
                {"kernel_size": (1, 3), "padding": (0, 1)},
                {"kernel_size": 3, "stride": 2},
                {"kernel_size": 3, "padding": 2, "dilation": 2},
                {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
                {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
                {"kernel_size": 4, "stride": 2, "padding": 1},
            ]
        )
    )
    return nn.Sequential(nn.Conv2d(width, after, **settings), draw(st.sampled_from([nn.ReLU, nn.SiLU]))()), after


def padded(draw: Draw, width: int) -> Part:
    """Zeros or another number around an image, alike on all sides or not, and a convolution."""
    around = draw(st.sampled_from([(0, 1, 0, 1), (1, 1, 1, 1), (2, 1, 0, 0)]))
    after, value = draw(st.integers(2, 8)), draw(st.sampled_from([0.0, 0.0, 0.5]))
    return nn.Sequential(nn.ConstantPad2d(around, value), nn.Conv2d(width, after, 3), nn.ReLU()), after


def transposed(draw: Draw, width: int) -> Part:
    """A transposed convolution."""
    settings = draw(st.sampled_from([(2, 2), (3, 2, 1, 1), (4, 2, 1), (3, 1, 1)]))
    after = draw(st.integers(2, 6))
    return nn.Sequential(nn.ConvTranspose2d(width, after, *settings), nn.BatchNorm2d(after), nn.ReLU()), after


def unfolded(draw: Draw, width: int) -> Part:
    """Channels among places, behind a convolution that has enough of them."""
    after = draw(st.integers(2, 4))
    return nn.Sequential(nn.Conv2d(width, 4 * after, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()), after


def channels_last(draw: Draw, width: int) -> Part:
    """The block of ConvNeXt: a depthwise convolution, a norm over channels and two linear layers, added."""
    inner = draw(st.integers(2, 12))
    inside = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
    spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
    return (
        Passing(
            lambda self, x: x + self.inside(self.spatial(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
            inside=inside,
            spatial=spatial,
        ),
        width,
    )


def attention(draw: Draw, width: int) -> Part:
    """Every place looks at every other, by one head or by one for each channel."""
    heads = draw(st.sampled_from([1, width]))

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        query, key, value = (
            one.view(n, heads, c // heads, h * w).transpose(2, 3) for one in self.project(x).chunk(3, 1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + mixed.transpose(2, 3).reshape(n, c, h, w)

    return Passing(forward, project=nn.Conv2d(width, 3 * width, 1)), width


def over_channels(draw: Draw, width: int) -> Part:
    """The gate of ECA: a convolution along the means of channels."""
    return Passing(
        lambda self, x: x * self.along(x.mean((2, 3)).unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(3),
        along=nn.Conv1d(1, 1, 3, padding=1, bias=False),
    ), width


def over_places(draw: Draw, width: int) -> Part:
    """The spatial gate of CBAM."""
    return Passing(
        lambda self, x: x * self.gate(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid(),
        gate=nn.Conv2d(2, 1, 3, padding=1, bias=False),
    ), width


def summed(draw: Draw, width: int) -> Part:
    """A residual block with an operator seldom seen behind it."""
    body, _ = branch(draw, width, width)
    seldom, _ = draw(st.sampled_from([activation, arithmetic]))(draw, width)
    return Passing(lambda self, x: self.seldom(x + self.body(x)), body=body, seldom=seldom), width


ORDINARY = (
    activation,
    pool,
    resize,
    norm,
    arithmetic,
    moved,
    weighed,
    convolution,
    padded,
    transposed,
    unfolded,
    channels_last,
    attention,
    over_channels,
    over_places,
    summed,
)
