"""Numerics: the quantization of a network decided once, which every exporter then spells."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
MIDDLE = 128  # the zero point of a symmetric activation: as int8 it is 0
WEIGHT_LIMIT = 127
REDUCED_LIMIT = 63  # with which no two products overflow int16, in which x86 CPUs without VNNI add them
PRECISIONS = ("int8", "dynamic", "w8", "fp16", "fp32")  # of a layer; as a rule the cheapest first
MATCH_TOLERANCE = 1e-3
MATCHED_IMAGES = 4  # on so many images must two tensors hold the same values to be taken for the same


@dataclass(frozen=True)
class EdgeNumerics:
    """One quantized activation: real = scale * (code - zero_point), code in 0..255 (uint8, per tensor)."""

    scale: float
    zero_point: int
    tied_to: str  # the first edge of the group that shares this scale; its own name when it stands alone

    @property
    def low(self) -> float:
        """The real value of code 0."""
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        """The real value of code 255."""
        return (LEVELS - self.zero_point) * self.scale


@dataclass(frozen=True)
class LayerNumerics:
    """One convolution or linear layer: weights symmetric int8 per output channel, or kept float.

    "int8": on integers throughout; "w8": the weights are integers, all that is computed is float; "dynamic": as "w8",
    but where a runtime has the kernel what is read is rounded too, for each image to its own range; "fp16": the weights
    are held in half precision, all that is computed is fp32; "fp32": all float.
    """

    weight: str  # qualified name of the weight in the network
    precision: str  # one of PRECISIONS
    inputs: str  # the edge it reads
    output: str  # the edge it produces, after a fused activation
    weight_scales: tuple[float, ...]  # one per output channel; empty when kept float
    why: str = ""  # why it is not "int8": the option that names it, or the demand it is for; older plans do not say

    @property
    def module(self) -> str:
        """What the network calls the layer: "stages.0.conv1"."""
        return self.weight.removesuffix(".weight")


@dataclass(frozen=True)
class Numerics:
    """Edges and layers, keyed by the node's name in the folded network's torch.export graph."""

    edges: Mapping[str, EdgeNumerics]
    layers: Mapping[str, LayerNumerics]
    weight_limit: int = WEIGHT_LIMIT  # the largest code of an int8 weight

    @property
    def integer_layers(self) -> list[str]:
        """Names of the layers planned to run in int8, in graph order."""
        return [name for name, layer in self.layers.items() if layer.precision == "int8"]

    @property
    def rounded_layers(self) -> list[str]:
        """Names of the layers whose weights are int8, in graph order: all but those of "fp16" and "fp32"."""
        return [name for name, layer in self.layers.items() if layer.weight_scales]

    @property
    def narrow_layers(self) -> list[str]:
        """Names of the layers whose weights are held in fewer bits than fp32's, in graph order."""
        return [name for name, layer in self.layers.items() if layer.precision != "fp32"]

    @property
    def may_saturate(self) -> bool:
        """Whether two products of an activation and a weight can overflow the 16 bits in which some CPUs add them."""
        return 2 * LEVELS * self.weight_limit > np.iinfo(np.int16).max

    @property
    def symmetric(self) -> bool:
        """Whether every edge has its zero point in the middle, so that all fits int8 with zero points of 0."""
        return bool(self.edges) and all(edge.zero_point == MIDDLE for edge in self.edges.values())

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_numerics(path: Path) -> Numerics:
    """Read a plan that `Numerics.save` wrote."""
    raw = json.loads(path.read_text())
    return Numerics(
        {name: EdgeNumerics(**edge) for name, edge in raw["edges"].items()},
        {
            name: LayerNumerics(**{**layer, "weight_scales": tuple(layer["weight_scales"])})
            for name, layer in raw["layers"].items()
        },
        raw.get("weight_limit", WEIGHT_LIMIT),  # plans of older artifacts say nothing of it
    )


def operators_on_integers(
    reads: Mapping[str, Collection[str]],
    int8: Collection[str],
    floating: Collection[str],
    outputs: Collection[str],
    moving: Collection[str],
) -> set[str]:
    """Return the operators between layers that run on integers, where some layers do (`int8`) and others do not.

    Codes reach them, from an INT8 layer or as the network's input, and what they compute is read as codes, by an INT8
    layer or as an output; one of the two is a layer. Those that only move values (`moving`) run on integers wherever
    what reads them does: it is all the same where values are rounded, and kernels merge them with the layer.
    `reads`: in order of execution, what each operator or layer reads; nothing, if it is the input.
    """
    layers = {name: {"layer"} if name in int8 else set() for name in (*int8, *floating)}
    gives: dict[str, set[str]] = {}
    for name, sources in reads.items():
        passed = set().union(*(gives[one] for one in sources)) if sources else {"end"}
        gives[name] = layers.get(name, passed)
    wanted = {name: {"end"} if name in outputs else set() for name in reads}
    for name in reversed(list(reads)):
        for source in reads[name]:
            wanted[source] |= layers.get(name, wanted[name])
    readers: dict[str, list[str]] = {name: [] for name in reads}
    for name, sources in reads.items():
        for source in sources:
            readers[source].append(name)
    found: set[str] = set()
    for name in [one for one in reversed(list(reads)) if reads[one] and one not in layers]:
        merged = name in moving and any(one in int8 or one in found for one in readers[name])
        if merged or (gives[name] and wanted[name] and "layer" in gives[name] | wanted[name]):
            found.add(name)
    return found


def match_values(
    planned: Mapping[str, NDArray[np.float32]], found: Mapping[str, NDArray[np.float32]]
) -> dict[str, str]:
    """Return {found tensor: planned edge} for the tensors that hold an edge's values on the same images.

    Values are stacked over images on axis 0. Converters rename tensors, so a name proves nothing; the values
    do. Planned values are NCHW; a found tensor may hold them in any shape of the same size, as NCHW or as
    NHWC. Values that are zero throughout match nothing. Two edges with equal values on all images (a flatten,
    say) are the same numbers with the same scale, so either answer is right.
    """
    by_size: dict[int, list[tuple[str, NDArray[np.float32]]]] = {}
    for name, value in planned.items():
        by_size.setdefault(value.size, []).append((name, value))
    matched = {}
    for tensor, value in found.items():
        if not value.any():
            continue
        errors = {name: _distance(wanted, value) for name, wanted in by_size.get(value.size, [])}
        if errors and min(errors.values()) <= MATCH_TOLERANCE:
            matched[tensor] = min(errors, key=errors.__getitem__)
    return matched


def absences(
    planned: Mapping[str, NDArray[np.float32]], matched: Mapping[str, str], spelled: Mapping[str, str], unused: str
) -> dict[str, str]:
    """Return {planned edge: why a file does not quantize it} for the edges that are not `spelled`.

    `matched` is what `match_values` found in the float file; `unused` says why a tensor that is there stays float.
    An edge of which the file holds no tensor gets no reason here.
    """
    found = set(matched.values())
    reasons = {}
    for edge in planned:
        if edge in spelled:
            continue
        twin = match_values({e: planned[e] for e in spelled}, {edge: planned[edge]}).get(edge)
        if twin is not None:
            reasons[edge] = f"same values as `{twin}`"
        elif edge in found:
            reasons[edge] = unused
    return reasons


def _distance(planned: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the largest difference relative to the largest value, in the better of the two layouts."""
    flat = found.reshape(-1)
    layouts = [planned.reshape(-1)]
    if planned.ndim == 4:
        layouts.append(planned.transpose(0, 2, 3, 1).reshape(-1))
    peak = float(np.abs(flat).max(initial=0.0)) + 1e-12
    return min(float(np.abs(layout - flat).max(initial=0.0)) for layout in layouts) / peak
