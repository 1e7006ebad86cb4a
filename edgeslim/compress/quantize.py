"""INT8 by calibration: ranges, weight grids and bias correction are decided here, once, for every runtime.

Weights: symmetric per output channel, codes -127..127 with scale = max|w| / 127, so that every channel reaches
a limit and a converter that derives the scale anew finds the same one. Activations: asymmetric per tensor,
8 bits, the clip that minimizes the squared error of the calibrated histogram (Banner et al. 2019, Post Training
4-bit Quantization, section 3, numerically). Bias: corrected by the mean output error that the rounded weights
cause (Nagel et al. 2019, Data-Free Quantization, section 4.2, with measured instead of assumed input means).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.context import Context
from edgeslim.errors import BadInput, BadModel
from edgeslim.graph import ATEN, CLIPPING, LAYERS, copy_of, is_activation, layers_of, observe, parameter, rows
from edgeslim.model import Model
from edgeslim.numerics import LEVELS, EdgeNumerics, LayerNumerics, Numerics

BINS = 2048
CLIPS = np.linspace(0.2, 1.0, 81)
WEIGHT_LIMIT = 127

# Operators that move values without computing: what comes out has the scale of what went in.
PASSING = {
    ATEN.max_pool2d.default, ATEN.avg_pool2d.default, ATEN.flatten.using_ints, ATEN.view.default, ATEN.reshape.default,
    ATEN.permute.default, ATEN.transpose.int, ATEN.contiguous.default, ATEN.clone.default, ATEN.slice.Tensor,
    ATEN.select.int, ATEN.squeeze.dim, ATEN.unsqueeze.default, ATEN.pad.default, ATEN.dropout.default,
    ATEN.chunk.default, ATEN.split.Tensor, ATEN.split_with_sizes.default,
}  # fmt: skip
# Operators whose integer kernels fix the scale of what they produce: (scale, zero point).
FIXED = {
    ATEN.sigmoid.default: (1 / 256, 0),
    ATEN.softmax.int: (1 / 256, 0),
    ATEN.tanh.default: (1 / 128, 128),
}


@dataclass(frozen=True)
class Settings:
    """What a recipe may say about this step."""

    activation_range: str = "mse"  # or "minmax"
    bias_correction: bool = True
    keep_float: tuple[str, ...] = field(default=())  # regular expressions over the layers' names

    def __post_init__(self) -> None:
        if self.activation_range not in ("mse", "minmax"):
            raise BadInput(f"quantize: activation_range is `{self.activation_range}`; expected mse or minmax")
        for pattern in self.keep_float:
            try:
                re.compile(pattern)
            except re.error as error:
                raise BadInput(f"quantize: keep_float `{pattern}` is no regular expression: {error}") from error


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with weights on their int8 grid, corrected biases, and its Numerics.

    Expects a folded graph. Raises BadModel where calibration meets NaN, BadInput where a pattern fits no layer.
    """
    if model.numerics is not None or not isinstance(model.network, fx.GraphModule):
        raise BadInput("the recipe's step `quantize` comes once, and after `fold`")
    graph = copy_of(model.graph)
    kept = _kept_float(graph, settings.keep_float)
    groups = tie(graph)
    images = len(context.data.calibration)

    def watched(what: str) -> Iterator[Tensor]:
        for done, row in enumerate(rows(context.data.calibration.tensors()), start=1):
            yield row
            context.progress(what, done / images)

    seen = _Extremes(set(groups), {str(n.args[0]) for n in layers_of(graph).values()})
    observe(graph, watched("calibrating: ranges"), seen.see)
    if settings.activation_range == "mse":
        histograms = _Histograms(seen.low, seen.high)
        observe(graph, watched("calibrating: histograms"), histograms.see)
        ranges = {name: mse_range(histograms.counts[name], seen.low[name], seen.high[name]) for name in groups}
    else:
        ranges = {name: (min(seen.low[name], 0.0), max(seen.high[name], 0.0)) for name in groups}
    edges = _edges(graph, groups, ranges)
    layers = {}
    for name, node in layers_of(graph).items():
        source = str(node.args[0])
        scales = () if name in kept else _round(graph, node, seen.mean(source), edges[source].scale, settings)
        layers[name] = LayerNumerics(
            str(node.args[1].target),  # type: ignore[union-attr] # a folded layer reads its weight
            "fp32" if name in kept else "int8",
            str(node.args[0]),
            fused_output(node).name,
            scales,
        )
    return model.after(
        f"quantize: {len(layers) - len(kept)} of {len(layers)} layers int8, {images} calibration images",
        network=graph,
        numerics=Numerics(edges, layers),
    )


def _kept_float(graph: fx.GraphModule, patterns: Iterable[str]) -> set[str]:
    named = {name: str(node.args[1].target).removesuffix(".weight") for name, node in layers_of(graph).items()}  # type: ignore[union-attr]
    kept = set()
    for pattern in patterns:
        fits = {name for name, module in named.items() if re.search(pattern, module)}
        if not fits:
            raise BadInput(f"--keep-float `{pattern}` fits no layer; layers are: {', '.join(named.values())}")
        kept |= fits
    return kept


def fused_output(node: fx.Node) -> fx.Node:
    """Return the node whose value leaves the integer kernel of `node`: a clipping activation that alone reads it."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in CLIPPING else node


def tie(graph: fx.GraphModule) -> dict[str, str]:
    """Return {edge: first edge of its group} for every activation that is quantized.

    Values before a fused activation are no edges. Edges an operator forces to one scale form a group:
    everything that only passes values on, and all inputs of a concatenation with its output.
    """
    nodes = [n for n in graph.graph.nodes if is_activation(n) and fused_output(n) is n]
    names = {n.name for n in nodes}
    parent = {n.name: n.name for n in nodes}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        for source in tied_inputs(node):
            if source.name in names and node.name in names:
                parent[root(node.name)] = root(source.name)
    return {n.name: root(n.name) for n in nodes}


def tied_inputs(node: fx.Node) -> list[fx.Node]:
    """Return the activations that must share the scale of what `node` produces."""
    if node.target is ATEN.cat.default:
        return list(node.args[0])  # type: ignore[arg-type]
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return []
    if str(node.target).endswith("getitem>") or getattr(node.target, "__name__", "") == "getitem":
        return tied_inputs(source)  # a piece of a split: its input is the split's
    return [source] if node.target in PASSING else []


def _edges(
    graph: fx.GraphModule, groups: dict[str, str], ranges: dict[str, tuple[float, float]]
) -> dict[str, EdgeNumerics]:
    """Turn ranges into scales: one for each group, wide enough for all its members."""
    nodes = {n.name: n for n in graph.graph.nodes}
    edges = {}
    for name, first in groups.items():
        members = [m for m, f in groups.items() if f == first]
        fixed = {FIXED.get(nodes[m].target) for m in members if not tied_inputs(nodes[m])}
        only = fixed.pop() if len(fixed) == 1 else None  # what all that computes into the group agrees on
        if only is not None:
            scale, zero_point = only
        else:
            scale, zero_point = affine(min(ranges[m][0] for m in members), max(ranges[m][1] for m in members))
        edges[name] = EdgeNumerics(scale, zero_point, members[0])
    return edges


def affine(low: float, high: float) -> tuple[float, int]:
    """Return (scale, zero point) of the uint8 grid over [low, high], which holds 0 exactly; scale is a float32."""
    scale = float(np.float32((high - low) / LEVELS))
    if scale < np.finfo(np.float32).tiny:
        return 1.0, 0  # an activation that is always zero, or nearly so
    return scale, int(np.clip(round(-low / scale), 0, LEVELS))


def mse_range(counts: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """Return the clip (low, high) of least squared error for a histogram over [low, high].

    Inside the clip a value is off by scale² / 12 on average, outside by its distance to the limit.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 0:
        return low, high
    edges = np.linspace(low, high, len(counts) + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    best, chosen = np.inf, (low, high)
    for clip in CLIPS:
        a, b = low * clip, high * clip
        outside = np.where(centers < a, a - centers, np.where(centers > b, centers - b, 0.0))
        noise = ((b - a) / LEVELS) ** 2 / 12
        error = float((counts * np.where(outside > 0, outside**2, noise)).sum())
        if error < best:
            best, chosen = error, (a, b)
    return chosen


class _Extremes:
    """First look at the calibration images: the range of every edge, the mean image before every layer."""

    def __init__(self, ranged: set[str], averaged: set[str]) -> None:
        self.low: dict[str, float] = dict.fromkeys(ranged, 0.0)
        self.high: dict[str, float] = dict.fromkeys(ranged, 0.0)
        self._sums: dict[str, Tensor] = {}
        self._averaged = averaged
        self._images: dict[str, int] = {}

    def see(self, name: str, value: Tensor) -> None:
        if name in self.low:
            low, high = (float(v) for v in torch.aminmax(value))
            if not np.isfinite(low + high):
                raise BadModel(f"`{name}` became NaN or infinite on a calibration image; nothing can be quantized")
            self.low[name], self.high[name] = min(self.low[name], low), max(self.high[name], high)
        if name in self._averaged:
            self._sums[name] = value.double() + self._sums.get(name, 0.0)
            self._images[name] = self._images.get(name, 0) + 1

    def mean(self, name: str) -> Tensor:
        """Return the mean over the images of one activation, (1, C, H, W) or (1, features)."""
        return self._sums[name] / self._images[name]


class _Histograms:
    """Second look: how the values of every edge lie between its extremes (zero included)."""

    def __init__(self, low: dict[str, float], high: dict[str, float]) -> None:
        self._ranges = {name: (min(low[name], 0.0), max(high[name], 0.0)) for name in low}
        self.counts: dict[str, NDArray[np.float64]] = {name: np.zeros(BINS) for name in low}

    def see(self, name: str, value: Tensor) -> None:
        if name in self.counts:
            low, high = self._ranges[name]
            if high > low:
                self.counts[name] += torch.histc(value, BINS, low, high).double().numpy()


def _round(
    graph: fx.GraphModule, node: fx.Node, mean_input: Tensor, input_scale: float, settings: Settings
) -> tuple[float, ...]:
    """Put a layer's weights on their grid, correct its bias for what that changes on average; return the scales."""
    dense, bias = (parameter(graph, argument) for argument in node.args[1:3])
    if dense is None or bias is None:
        raise TypeError(f"{node.name} has no weight or bias of its own; fold first")
    weight = _lift(dense.detach(), bias.detach(), input_scale)
    scales = weight.abs().flatten(1).amax(1) / WEIGHT_LIMIT
    shaped = scales.view(-1, *[1] * (weight.ndim - 1))
    rounded = (weight / shaped).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) * shaped
    with torch.no_grad():
        if settings.bias_correction and node.target in LAYERS:
            bias -= _mean_output(node, mean_input, (rounded - dense).double()).to(bias.dtype)
        dense.copy_(rounded)
    return tuple(float(s) for s in scales)


def _lift(weight: Tensor, bias: Tensor, input_scale: float) -> Tensor:
    """Return the weights with the peak of every channel at or above what its bias needs.

    An integer bias counts in steps of input scale * weight scale. In a channel of (nearly) zero weights that step
    vanishes and the bias overflows int32, or the scale is 0 and a runtime yields NaN. One weight of such a
    channel is raised until the bias is 2^30 steps: the output moves by less than 4e-5 of the bias.
    """
    peaks = weight.abs().flatten(1).amax(1)
    needed = bias.abs() * WEIGHT_LIMIT / (input_scale * 2**30)
    least = torch.maximum(needed, torch.full_like(needed, (float(peaks.max()) or 1.0) * 1e-6))
    lifted = weight.clone()
    first = lifted.view(len(weight), -1)[:, 0]
    first[peaks < least] = least[peaks < least]
    return lifted


def _mean_output(node: fx.Node, mean_input: Tensor, weight: Tensor) -> Tensor:
    """Return what `weight` yields on average per output channel: a layer is linear, so the mean image suffices."""
    output: Tensor = node.target(mean_input, weight, None, *node.args[3:])  # type: ignore[operator]
    return output.mean((0, 2, 3)) if output.ndim == 4 else output.reshape(-1, output.shape[-1]).mean(0)
