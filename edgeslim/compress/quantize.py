"""INT8 by calibration: ranges, weight grids and bias correction are decided here, once, for every runtime.

Weights: symmetric per output channel, codes -127..127 with scale = max|w| / 127, so that every channel reaches
a limit and a converter that derives the scale anew finds the same one. Each goes to its nearest code; GPTQ
(rounding.py) is there to ask for: README.md, "What was measured", says where it is worth its time.
Activations: asymmetric per tensor, 8 bits, the clip that minimizes the squared error of the calibrated histogram
(Banner et al. 2019, Post Training 4-bit Quantization, section 3, numerically). Bias: corrected by the mean output
error that the rounded weights cause (Nagel et al. 2019, Data-Free Quantization, section 4.2, with measured instead of
assumed input means).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.errors import BadInput, BadModel
from edgeslim.model.context import Context
from edgeslim.model.fake_quant import WEIGHT_LIMIT
from edgeslim.model.graph import (
    ATEN,
    CLIPPING,
    batched,
    copy_of,
    first_of,
    is_activation,
    is_folded,
    layers_of,
    observe,
    rows,
)
from edgeslim.model.model import Model
from edgeslim.model.numerics import LEVELS, MIDDLE, EdgeNumerics, LayerNumerics, Numerics
from edgeslim.precision import LEAST_IMAGES, promote
from edgeslim.rounding import METHODS, Grids, parameters, put, round_nearest, round_side_by_side

BINS = 2048
CLIPS = np.linspace(0.2, 1.0, 81)
GPTQ_IMAGES = 256  # of the calibration images; what lies between layers is held for all of them

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
    rounding: str = "nearest"  # or "gptq"
    bias_correction: bool = True
    symmetric: bool = False  # activations too, as TensorRT wants them: the zero point lies in the middle
    promote: bool = True  # keep the layers float without which the demanded accuracy is not met
    keep_float: tuple[str, ...] = field(default=())  # regular expressions over the layers' names

    def __post_init__(self) -> None:
        if self.activation_range not in ("mse", "minmax"):
            raise BadInput(f"quantize: activation_range is `{self.activation_range}`; expected mse or minmax")
        if self.rounding not in METHODS:
            raise BadInput(f"quantize: rounding is `{self.rounding}`; expected {' or '.join(METHODS)}")
        for pattern in self.keep_float:
            try:
                re.compile(pattern)
            except re.error as error:
                raise BadInput(f"quantize: keep_float `{pattern}` is no regular expression: {error}") from error


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with weights on their int8 grid, corrected biases, and its Numerics.

    Expects a folded graph. Raises BadModel where calibration meets NaN, BadInput where a pattern fits no layer.
    """
    if model.numerics is not None or not is_folded(model.network):
        raise BadInput("the recipe's step `quantize` comes once, and after `fold`")
    kept = _kept_float(model.graph, settings.keep_float)
    calibrated = _calibrate(model.graph, context, settings)
    quantized, numerics = calibrated.plan(kept)
    remarks = [] if settings.rounding == "nearest" else [f"weights rounded by {settings.rounding}"]
    selection = context.data.selection
    if settings.promote and not context.data.synthetic and len(selection) < LEAST_IMAGES:
        remarks.append(f"{len(selection)} selection images are too few to say whether a layer must stay float")
    elif settings.promote and not context.data.synthetic:
        allowed = context.demand.max_drop_points - model.lost_points
        promotion = promote(model.graph, quantized, numerics, selection, allowed, context.store, context.progress)
        if promotion is not None:
            remarks.append(promotion.line(numerics))
            if promotion.layers:
                quantized, numerics = calibrated.plan({*kept, *promotion.layers})
    line = (
        f"quantize: {len(numerics.integer_layers)} of {len(numerics.layers)} layers int8, "
        f"{len(context.data.calibration)} calibration images"
    )
    return model.after("; ".join([line, *remarks]), network=quantized, numerics=numerics)


def _calibrate(graph: fx.GraphModule, context: Context, settings: Settings) -> "_Calibrated":
    """Run the calibration images and decide the grid of every edge."""
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
    return _Calibrated(graph, _edges(graph, groups, ranges, symmetric=settings.symmetric), seen, context, settings)


@dataclass(frozen=True)
class _Calibrated:
    """A folded network with the grids of its activations, ready to have its weights rounded."""

    graph: fx.GraphModule
    edges: Mapping[str, EdgeNumerics]
    seen: "_Extremes"
    context: Context
    settings: Settings

    def plan(self, kept: Collection[str]) -> tuple[fx.GraphModule, Numerics]:
        """Return the network with all but the `kept` layers' weights on their grids, and its Numerics."""
        graph = copy_of(self.graph)
        scales = self._round(graph, [name for name in layers_of(graph) if name not in kept])
        layers = {
            name: LayerNumerics(
                str(node.args[1].target),  # type: ignore[union-attr] # a folded layer reads its weight
                "int8" if name in scales else "fp32",
                str(node.args[0]),
                fused_output(node).name,
                scales.get(name, ()),
            )
            for name, node in layers_of(graph).items()
        }
        return graph, Numerics(self.edges, layers)

    def _round(self, graph: fx.GraphModule, names: Iterable[str]) -> dict[str, tuple[float, ...]]:
        """Round the named layers in place; return their scales."""
        grids = Grids(dict.fromkeys(names, WEIGHT_LIMIT), correct_bias=self.settings.bias_correction)
        if self.settings.rounding == "gptq":
            self.context.progress("rounding weights layer by layer", 0.0)
            rounded = batched(graph)
            images = first_of(self.context.data.calibration.tensors(), GPTQ_IMAGES)
            scales = round_side_by_side(batched(graph), rounded, images, grids, self.edges, "gptq")
            graph.load_state_dict(rounded.state_dict())
            return scales
        found = {}
        for name in grids.limits:
            node = layers_of(graph)[name]
            source = str(node.args[0])
            new = round_nearest(node, *parameters(graph, node), self.seen.mean(source), self.edges[source].scale, grids)
            put(graph, node, new)
            found[name] = tuple(float(s) for s in new.scales)
        return found


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
    graph: fx.GraphModule, groups: dict[str, str], ranges: dict[str, tuple[float, float]], *, symmetric: bool = False
) -> dict[str, EdgeNumerics]:
    """Turn ranges into scales: one for each group, wide enough for all its members."""
    nodes = {n.name: n for n in graph.graph.nodes}
    edges = {}
    for name, first in groups.items():
        members = [m for m, f in groups.items() if f == first]
        fixed = {FIXED.get(nodes[m].target) for m in members if not tied_inputs(nodes[m])}
        only = fixed.pop() if len(fixed) == 1 else None  # what all that computes into the group agrees on
        if symmetric:
            scale, zero_point = centred(max(max(-ranges[m][0], ranges[m][1]) for m in members))
        elif only is not None:
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


def centred(peak: float) -> tuple[float, int]:
    """Return (scale, zero point) of the grid over [-peak, peak]; its codes less 128 are int8 with the zero point 0."""
    scale = float(np.float32(peak / WEIGHT_LIMIT))
    return (1.0 if scale < np.finfo(np.float32).tiny else scale), MIDDLE


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
