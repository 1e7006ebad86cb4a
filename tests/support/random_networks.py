"""Small classifiers of every structure that couples channels, at random, and one for each operator seldom seen.

The random ones are hypothesis strategies: a block is a function (draw, width) -> (module, width after it), and all but
the pools keep height and width.
"""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its common name

from tests.support.small_models import CLASSES, SIDE, Passing, headed

Draw = Callable[[st.SearchStrategy], object]
Part = tuple[nn.Module, int]
Block = Callable[[Draw, int], Part]
WIDTHS = st.integers(2, 8)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.Sigmoid, nn.Identity)


@st.composite
def networks(draw: Draw, block: Block) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a classifier with this block between two others, and the shape of its input."""
    shape = (1, draw(st.sampled_from([1, 3])), draw(st.integers(8, 16)), draw(st.integers(8, 16)))
    parts, width = [], shape[1]
    for one in (layer, draw(st.sampled_from(BLOCKS)), block, draw(st.sampled_from(BLOCKS))):
        part, width = one(draw, width)
        parts.append(part)
    return nn.Sequential(*parts, *head(draw, nn.Sequential(*parts), shape, width)), shape


def head(draw: Draw, body: nn.Module, shape: tuple[int, ...], width: int) -> list[nn.Module]:
    """Return the end of a classifier: over the mean of each channel, or over every place of every channel."""
    if draw(st.booleans()):
        pool = draw(st.sampled_from([nn.AdaptiveAvgPool2d(1), Passing(lambda self, x: x.mean((2, 3)))]))
        return [pool, nn.Flatten(), nn.Dropout(), nn.Linear(width, CLASSES)]
    pool = nn.AdaptiveAvgPool2d(draw(st.sampled_from([2, 3])))
    inputs = body.eval()(torch.zeros(shape))
    features, hidden = pool(inputs).flatten(1).shape[1], draw(WIDTHS)
    return [pool, nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, CLASSES)]


def layer(draw: Draw, width: int, after: int | None = None, groups: int = 1) -> Part:
    """A convolution with a bias, a batch norm or both, and an activation."""
    after = draw(WIDTHS) if after is None else after
    kernel, form = draw(st.sampled_from([1, 3])), draw(st.sampled_from(["norm", "bias", "bias and norm", "neither"]))
    padding = draw(st.sampled_from([kernel // 2, "same"]))
    convolution = nn.Conv2d(width, after, kernel, padding=padding, groups=groups, bias="bias" in form)
    norm = [nn.BatchNorm2d(after, affine=draw(st.booleans()))] if "norm" in form else []
    return nn.Sequential(convolution, *norm, draw(st.sampled_from(ACTIVATIONS))()), after


def even(draw: Draw, width: int, divisor: int = 2) -> tuple[list[nn.Module], int]:
    """Return what makes a width divisible: nothing, or one more layer."""
    if width % divisor == 0:
        return [], width
    part, after = layer(draw, width, divisor * draw(st.integers(1, 3)))
    return [part], after


def grouped(draw: Draw, width: int) -> Part:
    groups = draw(st.sampled_from([2, 4]))
    before, width = even(draw, width, groups)
    part, after = layer(draw, width, groups * draw(st.integers(1, 3)), groups)
    return nn.Sequential(*before, part), after


def depthwise(draw: Draw, width: int) -> Part:
    return layer(draw, width, width * draw(st.sampled_from([1, 1, 2])), width)


def separable(draw: Draw, width: int) -> Part:
    first, between = depthwise(draw, width)
    second, after = layer(draw, between)
    return nn.Sequential(first, second), after


def one_channel(draw: Draw, width: int) -> Part:
    """A layer of a single channel, as the middle of a chain or as a gate over all places."""
    single, _ = layer(draw, width, 1)
    if draw(st.booleans()):
        return Passing(lambda self, x: x * torch.sigmoid(self.gate(x)), gate=single), width
    wide, after = layer(draw, 1)
    return nn.Sequential(single, wide), after


def excite(draw: Draw, width: int) -> Part:
    """Squeeze and excite."""
    squeeze, between = nn.Conv2d(width, width // 2 + 1, 1), width // 2 + 1
    gate = draw(st.sampled_from([nn.Sigmoid, nn.Hardsigmoid]))()
    pool = draw(st.sampled_from([nn.AdaptiveAvgPool2d(1), Passing(lambda self, x: x.mean((2, 3), keepdim=True))]))
    scale = nn.Sequential(pool, squeeze, nn.ReLU(), nn.Conv2d(between, width, 1), gate)
    return Passing(lambda self, x: self.scale(x) * x, scale=scale), width


def shared(draw: Draw, width: int) -> Part:
    """One layer used twice, in a row or on two streams."""
    part, _ = layer(draw, width, width)
    if draw(st.booleans()):
        return nn.Sequential(part, nn.ReLU(), part), width
    return Passing(lambda self, x: torch.cat([self.same(x), self.same(x * 0.5)], 1), same=part), 2 * width


def pooled(draw: Draw, width: int) -> Part:
    pools = [nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 2, 1)]
    return draw(st.sampled_from(pools)), width


def scaled(draw: Draw, width: int) -> Part:
    return Passing(lambda self, x: x * 1.5 + 0.25), width


SIMPLE = (layer, grouped, depthwise, separable, one_channel, excite, shared, scaled)


def branch(draw: Draw, width: int, after: int | None = None) -> Part:
    """One or two simple blocks; `after` fixes the width they end in."""
    parts = []
    for block in draw(st.lists(st.sampled_from(SIMPLE), min_size=1, max_size=2)):
        part, width = block(draw, width)
        parts.append(part)
    if after is not None and width != after:
        part, width = layer(draw, width, after)
        parts.append(part)
    return nn.Sequential(*parts), width


def residual(draw: Draw, width: int) -> Part:
    """One to two residual blocks on one stream, the first with a projection or none."""
    parts: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 2))):
        shortcut, after = nn.Identity(), width
        if not parts and draw(st.booleans()):
            shortcut, after = layer(draw, width)
        body, width = branch(draw, width, after)
        forward = draw(st.sampled_from([_added, _added_in_place]))
        parts.append(Passing(forward, body=body, shortcut=shortcut))
    return nn.Sequential(*parts), width


def _added(self: nn.Module, x: Tensor) -> Tensor:
    return torch.relu(self.body(x) + self.shortcut(x))


def _added_in_place(self: nn.Module, x: Tensor) -> Tensor:
    value = self.body(x) * 1.0
    value += self.shortcut(x)
    return value


def dense(draw: Draw, width: int) -> Part:
    """Layers that each read all that came before them."""
    parts: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 2))):
        part, more = layer(draw, width)
        parts.append(Passing(lambda self, x: torch.cat([x, self.more(x)], 1), more=part))
        width += more
    return nn.Sequential(*parts), width


def inception(draw: Draw, width: int) -> Part:
    """Two or three branches side by side."""
    parts = [branch(draw, width) for _ in range(draw(st.integers(2, 3)))]
    modules = {f"branch{i}": part for i, (part, _) in enumerate(parts)}
    side_by_side = Passing(lambda self, x: torch.cat([part(x) for part in self.children()], 1), **modules)
    return side_by_side, sum(after for _, after in parts)


def halves(draw: Draw, width: int) -> Part:
    """A stream cut in two, a branch on one side or on both, and the two joined again, perhaps shuffled."""
    before, width = even(draw, width)
    first = draw(st.integers(1, width - 1)) if draw(st.booleans()) else width // 2
    left = (nn.Identity(), first) if draw(st.booleans()) else branch(draw, first)
    right = branch(draw, width - first, left[1] if draw(st.booleans()) else None)
    cut = (lambda x: x.chunk(2, 1)) if 2 * first == width else (lambda x: x.split([first, width - first], 1))

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        one, other = cut(x)
        return torch.cat([self.left(one), self.right(other)], 1)

    joined, after = Passing(forward, left=left[0], right=right[0]), left[1] + right[1]
    mixed = [shuffle(2)] if after % 2 == 0 and draw(st.booleans()) else []
    return nn.Sequential(*before, joined, *mixed), after


def shuffle(groups: int) -> nn.Module:
    """Interleave the channels of groups, as ShuffleNet does."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        count, width, *size = x.shape
        return x.view(count, groups, width // groups, *size).transpose(1, 2).contiguous().view(count, width, *size)

    return Passing(forward)


def shuffled(draw: Draw, width: int) -> Part:
    before, width = even(draw, width)
    return nn.Sequential(*before, shuffle(2)), width


BLOCKS = (*SIMPLE, residual, dense, inception, halves, shuffled, pooled)


def around(forward, width: int = 6, **modules: nn.Module) -> nn.Module:
    """Put a function of eight channels between two layers; the second reads `width` channels."""
    return headed(nn.Conv2d(3, 8, 3, padding=1), Passing(lambda self, x: forward(x)), nn.Conv2d(width, 6, 1))


SELDOM = {
    "one channel": around(lambda x: torch.cat([x, x[:, 3:4], x[:, 3].unsqueeze(1)], 1), 10),
    "one channel by a negative axis": around(lambda x: torch.cat([x, x.select(-3, 3).unsqueeze(1)], 1), 9),
    "a slice by a negative axis": around(lambda x: torch.ops.aten.slice(x, -1, 2, 6), 8),
    "every other channel": around(lambda x: torch.cat([x[:, 1::2], x[:, ::2]], 1), 8),
    "a part that only a pool reads": around(lambda x: torch.cat([F.max_pool2d(x[:, :2], 3, 1, 1), x[:, 2:]], 1), 8),
    "a narrowed part": around(lambda x: torch.cat([x.narrow(1, 2, 4), x.narrow(1, 0, 2)], 1)),
    "uneven chunks": around(lambda x: torch.cat([part * i for i, part in enumerate(x.chunk(3, 1))], 1), 8),
    "parts of the width": around(lambda x: torch.cat(x.split(3, -1)[::-1], -1), 8),
    "the greater of two halves": around(lambda x: torch.maximum(*x.chunk(2, 1)), 4),
    "both with itself": around(lambda x: torch.cat([x, x], 1), 16),
    "the mean over channels": around(lambda x: x - x.mean(-3, keepdim=True), 8),
    "the mean over places and channels": around(lambda x: x * x.mean((1, 2), keepdim=True), 8),
    "the greatest channel": around(lambda x: x - x.amax(1, keepdim=True), 8),
    "a sum over channels": around(lambda x: x - x.sum(1, keepdim=True), 8),
    "a running sum": around(lambda x: x.cumsum(1), 8),
    "channels in reverse": around(lambda x: x + x.flip(1), 8),
    "padded channels": around(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), 10),
    "padded places": around(lambda x: F.pad(x, (1, 0, 2, 1), value=2.0), 8),
    "places among channels": around(lambda x: F.pixel_unshuffle(x, 2), 32),
    "channels among places": around(lambda x: F.pixel_shuffle(x, 2), 2),
    "the height as channels": around(lambda x: x.transpose(1, 2), SIDE),
    "places last and first again": around(lambda x: (x.permute(0, 2, 3, 1) * 2.0).permute(0, 3, 1, 2), 8),
    "places last read as first": around(lambda x: x.permute(0, 2, 3, 1).reshape(1, 8, 8, 8), 8),
    "groups as a batch": around(lambda x: (x.view(2, 4, 8, 8) * 2.0).view(1, 8, 8, 8), 8),
    "channels in four rows": around(lambda x: x.view(1, 4, 2, 8, 8).transpose(1, 2).reshape(1, 8, 8, 8), 8),
    "a mean over groups": around(lambda x: x.view(1, 2, 4, 8, 8).mean(2), 2),
    "places and channels mixed": around(lambda x: x.flatten(1).view(1, 4, 16, 8), 4),
    "all pairs of channels": around(lambda x: (x.unsqueeze(1) * x.unsqueeze(2)).flatten(1, 2), 64),
    "expanded means": around(lambda x: x + F.adaptive_avg_pool2d(x, 1).expand(-1, -1, 8, 8), 8),
    "repeated channels": around(lambda x: x.repeat(1, 2, 1, 1), 16),
    "the greatest place of each part": around(lambda x: F.adaptive_max_pool2d(x, 2), 8),
    "a change in place of a part": around(lambda x: (y := x * 1.0)[:, :3].add_(y[:, 3:6]).sum() * 0 + y, 8),
    "a wider image": around(lambda x: F.interpolate(x, scale_factor=2.0), 8),
    "statistics of the image": around(lambda x: F.batch_norm(x, None, None, training=True), 8),
    "a division by the number of channels": around(lambda x: x / x.shape[1], 8),
    "numbers of a constant": around(lambda x: x * torch.arange(1.0, 9.0).view(1, 8, 1, 1), 8),
}
