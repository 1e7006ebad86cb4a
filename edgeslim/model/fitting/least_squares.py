"""The second moments of a layer's inputs, and what follows from them: weights, how to round them, and what can go.

For a layer with unfolded inputs X and wanted outputs Y, both centred: H = X'X + r I and W = H^-1 X'Y is the layer
that yields Y with least squared error. X comes from the compressed network and Y from the dense one, so errors of
earlier layers are corrected and do not pile up. Sums are taken over batches in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.nn import functional

from edgeslim.errors import BadModel
from edgeslim.model.graph import ATEN, arguments, channel_axis

MOST_ROWS = 40_000  # places of a layer that are looked at; more change nothing that 16-bit weights could hold
BLOCK = 64  # inputs rounded before what they cost is passed on to all later ones at once
CONSTANT = 1e-11  # share of an input's second moment that is rounding, not change
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
            self.rows + other.rows,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )

    def centred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return X'X, X'Y and the squares of Y about their means; an input that never changes has zeros."""
        xx = self.xx - self.x.unsqueeze(2) @ self.x.unsqueeze(1) / self.rows
        xy = self.xy - self.x.unsqueeze(2) @ self.y.unsqueeze(1) / self.rows
        still = xx.diagonal(dim1=1, dim2=2) <= CONSTANT * self.xx.diagonal(dim1=1, dim2=2)
        return (
            xx.masked_fill(still.unsqueeze(1) | still.unsqueeze(2), 0.0),
            xy.masked_fill(still.unsqueeze(2), 0.0),
            self.yy - self.y**2 / self.rows,
        )


def moments_of(x: Tensor, y: Tensor) -> Moments:
    """Return the moments of rows: x is (G, rows, n), y is (G, rows, o), float32.

    Products are taken about the means and moved back in float64: what hardly changes would else be lost in rounding.
    """
    rows = x.shape[1]
    x_mean, y_mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    x, y = x - x_mean, y - y_mean
    x_sum, y_sum = x.sum(1, keepdim=True, dtype=torch.float64), y.sum(1, keepdim=True, dtype=torch.float64)
    a, b = x_mean.double(), y_mean.double()
    across = a.transpose(1, 2)
    xx = (x.transpose(1, 2) @ x).double() + x_sum.transpose(1, 2) @ a + across @ (x_sum + rows * a)
    xy = (x.transpose(1, 2) @ y).double() + x_sum.transpose(1, 2) @ b + across @ (y_sum + rows * b)
    yy = (y**2).sum(1).double() + (2 * y_sum * b + rows * b**2).squeeze(1)
    return Moments(rows, (x_sum + rows * a).squeeze(1), (y_sum + rows * b).squeeze(1), xx, xy, yy)


def rows_of(layer: fx.Node, weight: Tensor, x: Tensor, y: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return unfolded inputs (G, rows, n) and outputs (G, rows, o) of a layer at a share of its places.

    x and y are what enters and leaves it; `weight` says its kernel. The places are the same in every call.
    """
    if layer.target is ATEN.linear.default:
        return x.reshape(1, -1, x.shape[-1]), y.reshape(1, -1, y.shape[-1])
    groups = int(arguments(layer)[6]) if len(arguments(layer)) > 6 else 1
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
    more = more_behind(layer, weight)
    around = (wide, wide + more[1], high, high + more[0])
    padded = functional.pad(x, around).contiguous() if any(around) else x.contiguous()
    images, channels, rows, columns = padded.shape
    tall, broad = weight.shape[2:]
    size = (
        images,
        channels,
        (rows - dilation[0] * (tall - 1) - 1) // stride[0] + 1,
        (columns - dilation[1] * (broad - 1) - 1) // stride[1] + 1,
        tall,
        broad,
    )
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


def more_behind(layer: fx.Node, weight: Tensor) -> tuple[int, int]:
    """Return the rows and columns that a convolution pads behind more than before, as `same` does for an even reach."""
    if layer.target is not ATEN.conv2d.padding or layer.args[4:5] != ("same",):
        return 0, 0
    _, _, dilation = geometry(layer, weight)
    return dilation[0] * (weight.shape[2] - 1) % 2, dilation[1] * (weight.shape[3] - 1) % 2


def moments_at(layer: fx.Node, weight: Tensor, x: Tensor, y: Tensor, share: float) -> Moments:
    """Return the moments of what enters and leaves a layer for some images; arguments as `rows_of`.

    Raises BadModel where a value is NaN or infinite.
    """
    found = moments_of(*rows_of(layer, weight, x, y, share))
    if not (found.xx.isfinite().all() and found.xy.isfinite().all()):
        raise BadModel(f"`{layer.name}` became NaN or infinite on a calibration image; nothing can be fitted")
    return found


def halves_of(
    layer: fx.Node,
    weight: Tensor,
    entering: Sequence[Tensor],
    leaving: Sequence[Tensor],
    outputs: Tensor | None = None,
) -> tuple[Moments, Moments]:
    """Return the moments of every other batch and of those between: what `fit` needs to choose its ridge.

    `entering` and `leaving` are the same two or more batches before and behind the layer, of which `outputs` are the
    channels that the layer has (all). Raises as `moments_at`.
    """
    places = 1 if layer.target is ATEN.linear.default else leaving[0][0, 0].numel()
    share = min(1.0, MOST_ROWS / (places * sum(len(batch) for batch in entering)))
    halves: list[Moments | None] = [None, None]
    for number, (x, y) in enumerate(zip(entering, leaving, strict=True)):
        wanted = y if outputs is None else y.index_select(channel_axis(layer), outputs)
        some = moments_at(layer, weight, x, wanted, share)
        half = halves[number % 2]
        halves[number % 2] = some if half is None else half + some
    first, second = halves
    if first is None or second is None:
        raise TypeError("a layer is fitted on two batches at least")
    return first, second


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


def gptq(weight: Tensor, xx: Tensor, scales: Tensor, limit: int, ridge: float) -> Tensor:
    """Return weights (G, n, o) on the grids of `scales` (G, o), codes -limit..limit, chosen for the least output error.

    All float64; `xx` (G, n, n) is X'X. Inputs are rounded one after another, those with the largest second moment
    first, and what an input's rounding does to the outputs, the inputs still to come make up for: with
    (X'X + r I)^-1 = U'U, U upper triangular, the error e = (w_j - q_j) / U_jj of input j moves every later weight k by
    -e U_jk (Frantar & Alistarh 2022, Optimal Brain Compression; Frantar et al. 2022, GPTQ, with its blocks). A
    channel's largest weight, where it lies at its grid's limit, is held there.
    """
    groups, inputs, _ = weight.shape
    order = xx.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    each = torch.arange(groups).unsqueeze(1)
    upper = _inverse_factor(regularized(xx[each.unsqueeze(2), order.unsqueeze(2), order.unsqueeze(1)], ridge))
    left = weight[each, order]
    held = _at_the_limit(left, scales, limit)
    rounded = torch.empty_like(left)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = torch.zeros_like(left[:, start:end])
        for j in range(start, end):
            now = left[:, j]
            codes = torch.where(held[:, j] != 0, held[:, j] * limit, (now / scales).round().clamp(-limit, limit))
            rounded[:, j] = codes * scales
            errors[:, j - start] = (now - rounded[:, j]) / upper[:, j, j].unsqueeze(1)
            left[:, j:end] -= upper[:, j, j:end].unsqueeze(2) * errors[:, j - start].unsqueeze(1)
        left[:, end:] -= upper[:, start:end, end:].transpose(1, 2) @ errors
    result = torch.empty_like(rounded)
    result[each, order] = rounded
    return result


def _inverse_factor(matrices: Tensor) -> Tensor:
    """Return U (G, n, n), upper triangular, with U'U the inverse of each matrix.

    The Cholesky factor of the matrix read backwards is R with R R' = H; U is its inverse.
    """
    backwards = torch.linalg.cholesky(matrices.flip(1, 2)).flip(1, 2)
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype).expand_as(matrices)
    inverse: Tensor = torch.linalg.solve_triangular(backwards, identity, upper=True)
    return inverse


def _at_the_limit(weight: Tensor, scales: Tensor, limit: int) -> Tensor:
    """Return the sign of each channel's largest weight where it rounds to a limit of its grid, 0 everywhere else."""
    peaks, where = weight.abs().max(1, keepdim=True)
    reached = (peaks / scales.unsqueeze(1)).round() >= limit
    return torch.zeros_like(weight).scatter_(1, where, weight.gather(1, where).sign() * reached)
