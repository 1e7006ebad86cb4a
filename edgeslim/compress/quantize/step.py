"""INT8 by calibration: ranges, weight grids and bias correction are decided here, once, for every runtime.

Weights: symmetric per output channel, codes -127..127 with scale = max|w| / 127, or -63..63 where two products of
larger ones overflow the 16 bits in which a CPU adds them. Each goes to its nearest code; GPTQ (rounding.py) is there to
ask for: docs/measured.md says where it is worth its time. Activations: asymmetric per tensor, 8 bits, over all that was
seen or the clip that minimizes the squared error of the calibrated histogram (Banner et al. 2019, Post Training 4-bit
Quantization, section 3, numerically), whichever of the two brings the outputs nearer to the float ones. Bias: corrected
by the mean output error that the rounded weights cause (Nagel et al. 2019, Data-Free Quantization, section 4.2, with
measured instead of assumed input means).
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, NamedTuple

from torch import Tensor, fx

from edgeslim.compress.quantize.cost import cheapest_first
from edgeslim.compress.quantize.edges import Range, can_be_dynamic, edges_of, fused_output, rounded_edges, tie
from edgeslim.compress.quantize.joins import closeness_db, joins_apart
from edgeslim.compress.quantize.promote import LEAST_IMAGES, promote
from edgeslim.compress.quantize.ranges import Extremes, Histograms, mse_range
from edgeslim.compress.quantize.rounding import (
    METHODS,
    Grids,
    can_be_half,
    halved,
    parameters,
    round_each,
    round_side_by_side,
)
from edgeslim.compress.quantize.smooth import smoothed
from edgeslim.devices.profile import DeviceProfile, sums_saturate
from edgeslim.errors import BadInput
from edgeslim.model.context import Context
from edgeslim.model.graph import batched, copy_of, first_of, is_folded, layers_of, observe, rows, weight_name
from edgeslim.model.model import Model
from edgeslim.model.numerics import REDUCED_LIMIT, WEIGHT_LIMIT, EdgeNumerics, LayerNumerics, Numerics
from edgeslim.recipe import one_of

RANGES = ("mse", "minmax")
# Of the layers that a setting names.
PRECISIONS = {"keep_float": "fp32", "half_weights": "fp16", "weights_only": "w8", "dynamic": "dynamic"}
PROMOTED = "for --max-drop"  # why a layer is not INT8 that no pattern names
MEASURED_IMAGES = 64  # of the calibration images, by which ranges are chosen, and what a concatenation rounds anew
GPTQ_IMAGES = 256  # of the calibration images; what lies between layers is held for all of them


@dataclass(frozen=True)
class Settings:
    """What a recipe may say about this step."""

    activation_range: Annotated[str, one_of("closest", *RANGES)] = "closest"  # of RANGES, which may be asked for too
    rounding: Annotated[str, one_of(*METHODS)] = "nearest"
    bias_correction: bool = True
    symmetric: bool = False  # activations too: the zero point lies in the middle
    reduce_range: bool | None = None  # 7 bits a weight; by itself where sums of 8 would saturate in OpenVINO
    promote: bool = True  # keep the layers float without which the demanded accuracy is not met
    keep_float: tuple[str, ...] = field(default=())  # regular expressions over the layers' names
    half_weights: tuple[str, ...] = field(default=())  # likewise: weights held in fp16, all else of the layer in fp32
    weights_only: tuple[str, ...] = field(default=())  # likewise: int8 weights, all else of the layer in float
    dynamic: tuple[str, ...] = field(default=())  # likewise, but LiteRT rounds what is read, by each image's range

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise BadInput("\n".join(faults))

    def _faults(self) -> Iterator[str]:
        if self.activation_range not in ("closest", *RANGES):
            known = ", ".join(RANGES)
            yield f"quantize: activation_range is `{self.activation_range}`; expected closest, {known}"
        if self.rounding not in METHODS:
            yield f"quantize: rounding is `{self.rounding}`; expected {' or '.join(METHODS)}"
        for name in PRECISIONS:
            for pattern in getattr(self, name):
                try:
                    re.compile(pattern)
                except re.error as error:
                    yield f"quantize: {name} `{pattern}` is no regular expression: {error}"


def foresee(settings: Settings, profile: DeviceProfile, runtimes: Collection[str]) -> tuple[Settings, dict[str, str]]:
    """Return the settings with the bits of a weight as the device has them, and what is left to the build."""
    left = {}
    if settings.activation_range == "closest":
        left["activation_range"] = f"{' or '.join(RANGES)}, chosen by the build"
    if settings.promote:
        left["promote"] = "which layers must not be INT8, and what they are: chosen by the build"
    return replace(settings, reduce_range=_reduces_range(settings, profile, runtimes)), left


def _reduces_range(settings: Settings, profile: DeviceProfile, runtimes: Collection[str] | None) -> bool:
    """Tell whether weights have 7 bits: as was asked, or else where sums of 8 saturate in a file that is written."""
    if settings.reduce_range is not None:
        return settings.reduce_range
    return sums_saturate(profile) and (runtimes is None or "openvino" in runtimes)


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with weights on their int8 grid, corrected biases, and its Numerics.

    Expects a folded graph. Raises BadModel where calibration meets NaN, BadInput where a pattern fits no layer.
    """
    if model.numerics is not None or not is_folded(model.network):
        raise BadInput("the recipe's step `quantize` comes once, and after `fold`")
    wished = _wished(model.graph, settings)
    if len(wished) < len(layers_of(model.graph)):  # else nothing is rounded
        model = _smoothed(model, context)
        wished = _wished(model.graph, settings)  # whose weights are others now
    calibrated = _calibrate(model.graph, context, settings)
    quantized, numerics = calibrated.plan(wished)
    remarks = [] if settings.rounding == "nearest" else [f"weights rounded by {settings.rounding}"]
    selection = context.data.selection
    if settings.promote and not context.data.synthetic and len(selection) < LEAST_IMAGES:
        remarks.append(
            f"{len(selection)} selection images are too few to say whether a layer must stay float, "
            f"{LEAST_IMAGES} would"
        )
    elif settings.promote and not context.data.synthetic:
        allowed = context.demand.max_drop_points - model.lost_points
        promotion = promote(
            model.graph,
            quantized,
            numerics,
            selection,
            model.task,
            allowed,
            context.store,
            context.progress,
            precisions=partial(cheapest_first, model.graph, context),
        )
        if promotion is not None:
            remarks.append(promotion.line(numerics))
            if promotion.layers:
                promoted = {name: Other(one, PROMOTED) for name, one in promotion.precisions.items()}
                quantized, numerics = calibrated.plan(wished | promoted)
    counts = Counter(layer.precision for layer in numerics.layers.values())
    others = {"dynamic": "dynamic", "w8": "with int8 weights only", "fp16": "with fp16 weights"}
    parts = [f"quantize: {counts['int8']} of {len(numerics.layers)} layers int8"]
    parts += [f"{counts[one]} {words}" for one, words in others.items() if counts[one]]
    if calibrated.weight_limit != WEIGHT_LIMIT:
        parts.append("weights of 7 bits, for sums of 8 saturate in OpenVINO on CPUs without VNNI")
    line = ", ".join([*parts, f"{len(context.data.calibration)} calibration images"])
    told = "; ".join([line, *remarks])
    return model.after(told, network=quantized, numerics=numerics, rounded_from=model.graph)


def _smoothed(model: Model, context: Context) -> Model:
    """Return the model with channels of unlike size brought nearer to each other, where the outputs gain by it."""
    context.progress("calibrating: whether some channels are far larger than others")
    found = smoothed(model.graph, first_of(context.data.calibration.tensors(), MEASURED_IMAGES))
    if found is None:
        return model
    graph, before_db, after_db = found
    line = f"quantize: channels that share a grid brought nearer to each other: {before_db:.1f} to {after_db:.1f} dB"
    return model.exactly("quantize", line, graph, context.images)


def _calibrate(graph: fx.GraphModule, context: Context, settings: Settings) -> "_Calibrated":
    """Run the calibration images and decide the grid of every edge."""
    edges = set(tie(graph))
    images = len(context.data.calibration)

    def watched(what: str) -> Iterator[Tensor]:
        for done, row in enumerate(rows(context.data.calibration.tensors()), start=1):
            yield row
            context.progress(what, done, images)

    seen = Extremes(edges, {str(n.args[0]) for n in layers_of(graph).values()})
    observe(graph, watched("calibrating: ranges"), seen.see)
    ranges: dict[str, dict[str, Range]] = {}
    if settings.activation_range != "minmax":
        histograms = Histograms(seen.low, seen.high)
        observe(graph, watched("calibrating: histograms"), histograms.see)
        ranges["mse"] = {name: mse_range(histograms.counts[name], seen.low[name], seen.high[name]) for name in edges}
    if settings.activation_range != "mse":
        ranges["minmax"] = {name: (min(seen.low[name], 0.0), max(seen.high[name], 0.0)) for name in edges}
    context.progress("calibrating: which ranges and scales bring the outputs nearest")
    measured = first_of(context.data.calibration.tensors(), MEASURED_IMAGES)
    plans = []
    for kind in ranges.values():
        apart = joins_apart(graph, kind, measured, symmetric=settings.symmetric)
        plans.append(edges_of(graph, tie(graph, apart), kind, symmetric=settings.symmetric))
    closeness = closeness_db(graph, plans, measured) if len(plans) > 1 else [0.0]
    nearest = max(range(len(plans)), key=closeness.__getitem__)  # the first of two that are as near
    return _Calibrated(graph, plans[nearest], seen, context, settings)


class Other(NamedTuple):
    """What a layer is that is not INT8, and why."""

    precision: str
    why: str


@dataclass(frozen=True)
class _Calibrated:
    """A folded network with the grids of its activations, ready to have its weights rounded."""

    graph: fx.GraphModule
    edges: Mapping[str, EdgeNumerics]
    seen: "Extremes"
    context: Context
    settings: Settings

    @property
    def weight_limit(self) -> int:
        """The largest code of a weight."""
        reduced = _reduces_range(self.settings, self.context.profile, self.context.runtimes)
        return REDUCED_LIMIT if reduced else WEIGHT_LIMIT

    def plan(self, others: Mapping[str, Other]) -> tuple[fx.GraphModule, Numerics]:
        """Return the network with weights on their grids, and its Numerics; `others`: what is not "int8", by layer."""
        graph = copy_of(self.graph)
        chosen = {name: others.get(name, Other("int8", "")) for name in layers_of(graph)}
        scales = self._round(graph, [name for name, one in chosen.items() if one.precision not in ("fp16", "fp32")])
        for name in [name for name, one in others.items() if one.precision == "fp16"]:
            weight, _ = parameters(graph, layers_of(graph)[name])
            weight.copy_(halved(weight))
        layers = {
            name: LayerNumerics(
                weight_name(node),
                chosen[name].precision,
                str(node.args[0]),
                fused_output(node).name,
                scales.get(name, ()),
                chosen[name].why,
            )
            for name, node in layers_of(graph).items()
        }
        int8 = [name for name in layers if name not in others]
        rounded = rounded_edges(graph, int8, ends=self.context.int8_ends)
        edges = {name: edge for name, edge in self.edges.items() if name in rounded}
        return graph, Numerics(edges, layers, self.weight_limit)

    def _round(self, graph: fx.GraphModule, names: Iterable[str]) -> dict[str, tuple[float, ...]]:
        """Round the named layers in place; return their scales."""
        grids = Grids(dict.fromkeys(names, self.weight_limit), correct_bias=self.settings.bias_correction)
        if self.settings.rounding == "gptq":
            self.context.progress("rounding weights layer by layer")
            rounded = batched(graph)
            images = first_of(self.context.data.calibration.tensors(), GPTQ_IMAGES)
            scales = round_side_by_side(batched(graph), rounded, images, grids, self.edges, "gptq")
            graph.load_state_dict(rounded.state_dict())
            return scales
        return round_each(graph, self.seen.mean, self.edges, grids)


def _wished(graph: fx.GraphModule, settings: Settings) -> dict[str, Other]:
    """Return what each layer is that a recipe does not want as INT8."""
    layers = layers_of(graph)
    named = {name: weight_name(node).removesuffix(".weight") for name, node in layers.items()}
    asked: dict[str, str] = {}  # layer: by which setting
    for setting, pattern in ((name, one) for name in PRECISIONS for one in getattr(settings, name)):
        fits = [name for name, module in named.items() if re.search(pattern, module)]
        if not fits:
            raise BadInput(f"{_option(setting)} `{pattern}` fits no layer; layers are: {', '.join(named.values())}")
        twice = [name for name in fits if asked.get(name, setting) != setting]
        if twice:
            raise BadInput(
                f"{_option(setting)} `{pattern}` fits {named[twice[0]]}, and so does {_option(asked[twice[0]])}; "
                "a layer has one precision"
            )
        asked |= dict.fromkeys(fits, setting)
    found = {name: PRECISIONS[setting] for name, setting in asked.items()}
    unranged = [
        name for name, precision in found.items() if precision == "dynamic" and not can_be_dynamic(layers[name])
    ]
    half = [name for name, precision in found.items() if precision == "fp16"]
    beyond = [named[name] for name in half if not can_be_half(parameters(graph, layers[name])[0])]
    if beyond:
        raise BadInput(f"--half-weights: {beyond[0]} has weights beyond the range of fp16; leave it in float")
    found |= dict.fromkeys(unranged, "w8")
    return {name: Other(precision, _option(asked[name])) for name, precision in found.items()}


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"
