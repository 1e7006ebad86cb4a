"""The second moments of a layer's inputs, and what follows from them in closed form: weights, and what can go.

For a layer with unfolded inputs X and wanted outputs Y, both centred: H = X'X + r I and W = H^-1 X'Y is the layer
that yields Y with least squared error. X comes from the compressed network and Y from the dense one, so errors of
earlier layers are corrected and do not pile up. Sums are taken over batches in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.nn import functional

from edgeslim.graph import ATEN

MOST_ROWS = 40_000  # places of a layer that are looked at; more change nothing that 16-bit weights could hold
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # shares of the mean second moment, of which cross-validation chooses


@dataclass
class Moments:
    """Sums over rows for a layer of G groups with n unfolded inputs and o outputs each; float64.

    They take 8 G (n (n + o) + n + 2 o) bytes.
    """

    rows: int
    x: Tensor  # (G, n)
    y: Tensor  # (G, o)
    xx: Tensor  # (G, n, n)
    xy: Tensor  # (G, n, o)
    yy: Tensor  # (G, o), squares

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.rows + other.rows, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy,
            self.yy + other.yy,
        )  # fmt: skip

    def centred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return X'X, X'Y and the squares of Y about their means."""
        return (
            self.xx - self.x.unsqueeze(2) @ self.x.unsqueeze(1) / self.rows,
            self.xy - self.x.unsqueeze(2) @ self.y.unsqueeze(1) / self.rows,
            self.yy - self.y**2 / self.rows,
        )


def moments_of(x: Tensor, y: Tensor) -> Moments:
    """Return the moments of rows: x is (G, rows, n), y is (G, rows, o), float32."""
    return Moments(
        x.shape[1],
        x.sum(1).double(),
        y.sum(1).double(),
        (x.transpose(1, 2) @ x).double(),
        (x.transpose(1, 2) @ y).double(),
        (y**2).sum(1).double(),
    )


def rows_of(layer: fx.Node, weight: Tensor, x: Tensor, y: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return unfolded inputs (G, rows, n) and outputs (G, rows, o) of a layer at a share of its places.

    x and y are what enters and leaves it; `weight` says its kernel. The places are the same in every call.
    """
    if layer.target is ATEN.linear.default:
        return x.reshape(1, -1, x.shape[-1]), y.reshape(1, -1, y.shape[-1])
    groups = int(layer.args[6]) if len(layer.args) > 6 else 1  # type: ignore[arg-type]
    windows = _windows(layer, weight, x)
    height, width = windows.shape[2:4]
    places = torch.arange(height * width)
    if share < 1:
        generator = torch.Generator().manual_seed(0)
        places = torch.randperm(len(places), generator=generator)[: max(1, round(share * len(places)))].sort().values
    chosen = windows[:, :, places // width, places % width]  # (N, channels, places, kernel height, kernel width)

    def by_group(values: Tensor) -> Tensor:
        images, channels, count = values.shape[:3]
        grouped = values.reshape(images, groups, channels // groups, count, -1)
        return grouped.permute(1, 0, 3, 2, 4).reshape(groups, images * count, -1)

    return by_group(chosen), by_group(y.flatten(2)[:, :, places])


def _windows(layer: fx.Node, weight: Tensor, x: Tensor) -> Tensor:
    """Return a view (N, channels, places down, places across, kernel height, kernel width) of what a kernel sees."""
    stride, (high, wide), dilation = geometry(layer, weight)
    padded = functional.pad(x, (wide, wide, high, high)).contiguous() if high or wide else x.contiguous()
    images, channels, rows, columns = padded.shape
    tall, broad = weight.shape[2:]
    size = (
        images, channels, (rows - dilation[0] * (tall - 1) - 1) // stride[0] + 1,
        (columns - dilation[1] * (broad - 1) - 1) // stride[1] + 1, tall, broad,
    )  # fmt: skip
    image, channel, row, column = padded.stride()
    steps = (image, channel, row * stride[0], column * stride[1], row * dilation[0], column * dilation[1])
    return padded.as_strided(size, steps)


def geometry(layer: fx.Node, weight: Tensor) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return stride, padding and dilation of a convolution, (height, width) each."""

    def pair(index: int, otherwise: int) -> tuple[int, int]:
        values = layer.args[index] if len(layer.args) > index else otherwise
        both = list(values) if isinstance(values, list | tuple) else [values]
        return int(both[0]), int(both[-1])  # type: ignore[arg-type]

    stride, dilation = pair(3, 1), pair(5, 1)
    if layer.target is ATEN.conv2d.padding:
        same = len(layer.args) > 4 and layer.args[4] == "same"
        reach = [d * (k - 1) // 2 if same else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        return stride, (reach[0], reach[1]), dilation
    return stride, pair(4, 0), dilation


def matrix(weight: Tensor, groups: int) -> Tensor:
    """Return a layer's weight (O, I / G, ...) as (G, n, o) in float64: outputs = inputs @ matrix."""
    return weight.detach().double().reshape(groups, len(weight) // groups, -1).transpose(1, 2)


def from_matrix(values: Tensor, like: Tensor) -> Tensor:
    """Return (G, n, o) as a layer's weight, shaped like `like`."""
    return values.transpose(1, 2).reshape(like.shape).to(like.dtype)


def fit(halves: Sequence[Moments], prior: Tensor, *, centred: bool) -> tuple[Tensor, float]:
    """Return the weights (G, n, o) of least squared error, and the ridge they were found with.

    Ridge regression towards `prior` (the weights as they were): W = P + (X'X + r I)^-1 X'(Y - X P). With fewer images
    than inputs the data does not say what W is; the ridge keeps what it does not say as it was. r is the one of
    `RIDGES` with which each half of the images predicts the other best.
    """
    both = halves[0] + halves[1]
    best, chosen = float("inf"), RIDGES[0]
    parts = [_parts(half, centred) for half in halves]
    for ridge in RIDGES:
        error = 0.0
        for known, unknown in ((0, 1), (1, 0)):
            weight = _solve(*parts[known][:2], prior, ridge)
            xx, xy, yy = parts[unknown]
            error += float((weight * (xx @ weight - 2 * xy)).sum() + yy.sum())
        if error < best:
            best, chosen = error, ridge
    return _solve(*_parts(both, centred)[:2], prior, chosen), chosen


def _parts(moments: Moments, centred: bool) -> tuple[Tensor, Tensor, Tensor]:
    return moments.centred() if centred else (moments.xx, moments.xy, moments.yy)


def _solve(xx: Tensor, xy: Tensor, prior: Tensor, ridge: float) -> Tensor:
    factor = torch.linalg.cholesky(regularized(xx, ridge))
    return prior + torch.cholesky_solve(xy - xx @ prior, factor)


def regularized(xx: Tensor, ridge: float) -> Tensor:
    """Return X'X (G, n, n) with `ridge` times its mean diagonal added to the diagonal (at least a tiny bit)."""
    diagonal = xx.diagonal(dim1=1, dim2=2).mean(1)
    return xx + (ridge * diagonal + 1e-12 + diagonal.clamp(min=0) * 1e-9).view(-1, 1, 1) * torch.eye(
        xx.shape[1], dtype=xx.dtype
    )
