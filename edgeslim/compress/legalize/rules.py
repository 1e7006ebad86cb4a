"""What an NPU refuses of a folded network, layer by layer, and the rewrite that cures it: one function a rule.

A rule's docstring is the rule the user reads. The limits are those of the device's profile; the rules judge the graph
from which the INT8 TFLite file is made that the compiler places.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, fx

from edgeslim.compress.legalize.rewrites import (
    average_as_convolution,
    channel_mean,
    clip,
    global_mean,
    hard_sigmoid,
    relu6,
    shuffle_as_convolution,
    split_windows,
    squeeze_excite,
    strides,
)
from edgeslim.devices.npu_limits import MOST_CODE, NpuLimits
from edgeslim.devices.profile import DeviceProfile
from edgeslim.model.graph import (
    ATEN,
    LAYERS,
    argument,
    grows_by_whole_factors,
    input_of,
    layers_of,
    operator_name,
    parameter,
    shape_of,
    window_of,
)

CONVOLUTIONS = (ATEN.conv2d.default, ATEN.conv2d.padding)
# What the converter merges a clip into, and through what it looks for that.
MERGING = (
    *LAYERS,
    ATEN.add.Tensor,
    ATEN.mul.Tensor,
    ATEN.max_pool2d.default,
    ATEN.avg_pool2d.default,
    ATEN.mean.dim,
)
RESHAPING = (ATEN.view.default, ATEN.reshape.default, ATEN.flatten.using_ints)
MERGED_BOUNDS = ((0.0, 6.0), (-1.0, 1.0))


@dataclass(frozen=True)
class Violation:
    """One layer that breaks a rule; `cure` is the rewrite that cures it, None where none does."""

    layer: str  # its node in the folded graph
    place: str  # the module whose weights it reads, in the network's own words; empty where it reads none
    rule: str
    found: str
    cure: str | None

    def __str__(self) -> str:
        name = f"`{self.layer}`" + (f" ({self.place})" if self.place else "")
        cure = f"; --rewrite {self.cure}=yes cures it" if self.cure else "; no rewrite cures it"
        return f"layer {name}: {self.found}{cure}"


# A node, what about it breaks the rule, and the rewrites that may cure it, the best first.
Finding = tuple[fx.Node, str, tuple[ModuleType, ...]]


@dataclass(frozen=True)
class Request:
    """A folded network, the device that it is for, and what the device's NPU runs."""

    graph: fx.GraphModule
    profile: DeviceProfile
    limits: NpuLimits


Rule = Callable[[Request], Iterator[Finding]]


def one_image(asked: Request) -> Iterator[Finding]:
    """The network takes no more images at once than the device does, and no mean reduces more than one."""
    most = asked.profile.limits.max_batch.value
    first = input_of(asked.graph)
    if most is not None and shape_of(first)[0] > most:
        yield first, f"takes {shape_of(first)[0]} images at once; {asked.profile.name} takes {most}", ()
    for node in _calls(asked.graph, ATEN.mean.dim):
        batch = shape_of(node.all_input_nodes[0])[0]
        if len(shape_of(node.all_input_nodes[0])) == 4 and batch > 1:
            yield node, f"is a mean of {batch} images at once; the NPU takes it of one", ()


def operators(asked: Request) -> Iterator[Finding]:
    """Every operator is one that the NPU runs."""
    for node in asked.graph.graph.nodes:
        if node.op == "call_function" and operator_name(node) not in asked.limits.operators:
            cures = (hard_sigmoid, relu6, shuffle_as_convolution, squeeze_excite)
            yield node, f"`{operator_name(node)}` is no operator that the NPU of {asked.profile.name} runs", cures


def dtypes(asked: Request) -> Iterator[Finding]:
    """Every value is a float in training, which becomes INT8; no integer, truth value or double is computed."""
    for node in asked.graph.graph.nodes:
        value = node.meta.get("val")
        if node.op == "call_function" and isinstance(value, Tensor) and value.dtype is not torch.float32:
            yield node, f"computes {value.dtype}; only float32 becomes {' or '.join(asked.limits.dtypes)}", ()


def channels(asked: Request) -> Iterator[Finding]:
    """No convolution or linear layer reads more channels than the NPU can count."""
    for node in layers_of(asked.graph).values():
        read = shape_of(node.all_input_nodes[0])
        count = read[1] if node.target in CONVOLUTIONS else read[-1]
        if count > asked.limits.max_channels:
            yield node, f"reads {count:,} channels; the NPU reads {asked.limits.max_channels:,} at most", ()


def weight_sums(asked: Request) -> Iterator[Finding]:
    """The absolute INT8 weights of one output stay below what the NPU adds up."""
    for node in layers_of(asked.graph).values():
        weight = parameter(asked.graph, node.args[1])
        if weight is None or weight[0].numel() * MOST_CODE <= asked.limits.max_weight_sum:
            continue
        rows = weight.detach().double().abs().flatten(1)
        codes = float((rows.sum(1) / rows.amax(1).clamp(min=1e-30)).max()) * MOST_CODE
        if codes > asked.limits.max_weight_sum:
            most = asked.limits.max_weight_sum
            found = f"its weights add up to {math.ceil(codes):,} for one output; the NPU takes {most:,}"
            yield node, found, ()


def convolution_strides(asked: Request) -> Iterator[Finding]:
    """A convolution that pads, dilates or has groups keeps within the largest stride; a plain one takes any."""
    most = asked.limits.max_stride or math.inf
    for node in _calls(asked.graph, *CONVOLUTIONS):
        stride = list(argument(node, "stride"))
        pads = argument(node, "padding")
        why = {
            "pads": pads == "same" or (not isinstance(pads, str) and max(pads) > 0),
            "dilates": max(argument(node, "dilation")) > 1,
            "has groups": argument(node, "groups") > 1,
        }
        if max(stride) > most and any(why.values()):
            reasons = " and ".join(word for word, holds in why.items() if holds)
            yield node, f"has stride {max(stride)} and {reasons}; the NPU then takes {most}", (strides,)


def pooling_strides(asked: Request) -> Iterator[Finding]:
    """A maximum that pads so that every stride is in a window (SAME in TFLite) keeps within the largest stride."""
    most = asked.limits.max_stride or math.inf
    for node in _calls(asked.graph, ATEN.max_pool2d.default):
        kernel, stride, pads = window_of(node)
        image = shape_of(node.all_input_nodes[0])[2:]
        needed = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(image, stride, kernel, strict=True)]
        if max(stride) > most and max(pads) and needed == [2 * p for p in pads]:
            yield (
                node,
                f"is a maximum with stride {max(stride)} and pads; the NPU then takes {most}",
                (strides,),
            )


def windows(asked: Request) -> Iterator[Finding]:
    """A pooling's window keeps within the largest height and area."""
    for node in _calls(asked.graph, ATEN.avg_pool2d.default, ATEN.max_pool2d.default):
        kernel, _, _ = window_of(node)
        if kernel[0] > asked.limits.max_pool_height or math.prod(kernel) > asked.limits.max_pool_area:
            most = f"a height of {asked.limits.max_pool_height} and {asked.limits.max_pool_area:,} values"
            cure = average_as_convolution if node.target is ATEN.avg_pool2d.default else split_windows
            yield node, f"pools over {kernel[0]}x{kernel[1]} values; the NPU takes {most}", (cure,)


def padded_averages(asked: Request) -> Iterator[Finding]:
    """An average that leaves its padding out keeps its image's size at stride 1, within the largest such window."""
    for node in _calls(asked.graph, ATEN.avg_pool2d.default):
        kernel, stride, pads = window_of(node)
        same = stride == [1, 1] and all(k == 2 * p + 1 for k, p in zip(kernel, pads, strict=True))
        if (
            max(pads)
            and not argument(node, "count_include_pad")
            and not (same and max(kernel) <= asked.limits.max_padded_pool)
        ):
            found = (
                f"is an average over {kernel[0]}x{kernel[1]} values that leaves padding out; the NPU takes stride 1, "
            )
            yield (
                node,
                f"{found}the image's own size and sides of {asked.limits.max_padded_pool}",
                (average_as_convolution,),
            )


def resizes(asked: Request) -> Iterator[Finding]:
    """A resize makes height and width larger alike, by one of the factors that the NPU has for its kind."""
    for node in _calls(asked.graph, ATEN.upsample_nearest2d.vec, ATEN.upsample_bilinear2d.vec):
        image, made = shape_of(node.all_input_nodes[0])[2:], shape_of(node)[2:]
        bilinear = node.target is ATEN.upsample_bilinear2d.vec
        corners = int(bilinear and bool(argument(node, "align_corners")))
        limits = asked.limits
        plain = limits.bilinear_factors if bilinear else limits.nearest_factors
        factors = limits.aligned_factors if corners else plain
        grown = {(after - corners) / max(before - corners, 1) for before, after in zip(image, made, strict=True)}
        if not bilinear and not grows_by_whole_factors(node):
            continue  # it is written as slices
        if factors is None or set(image) == {1} or image == made or (len(grown) == 1 and grown <= set(factors)):
            continue
        most = " or ".join(str(one) for one in factors)
        yield node, f"makes {made[0]}x{made[1]} of {image[0]}x{image[1]}; the NPU makes both {most} times as large", ()


def means(asked: Request) -> Iterator[Finding]:
    """A mean over places keeps their axes, reads an image laid out with channels last, and its sides fit."""
    for node in _calls(asked.graph, ATEN.mean.dim):
        image = node.all_input_nodes[0]
        sides = shape_of(image)
        axes = {axis % len(sides) for axis in argument(node, "dim") or range(len(sides))}
        last = 1 if argument(node, "keepdim") and global_mean.is_laid_out(image) else 3
        if len(sides) != 4:
            continue
        if max(sides[axis] for axis in axes) > asked.limits.max_mean_side:
            yield (
                node,
                f"is a mean over sides of {sides}; the NPU takes {asked.limits.max_mean_side:,} values at most",
                (),
            )
        elif last in axes and 1 not in sides[1:]:
            dropped = "drops their axes" if not argument(node, "keepdim") else f"reads `{image.name}`"
            if 1 in axes:
                yield node, "is a mean over channels; the NPU takes means over places", (channel_mean,)
            else:
                yield node, f"is a mean over places that {dropped}: not laid out with channels last", (global_mean,)


def clips(asked: Request) -> Iterator[Finding]:
    """A clip at 0 and 6 or -1 and 1 stands behind an operator it can be merged into, which nothing else reads."""
    for node in asked.graph.graph.nodes:
        if node.op != "call_function" or operator_name(node) not in asked.limits.fused_operators:
            continue
        source, alone = node.all_input_nodes[0], True
        while source.target in RESHAPING:
            source, alone = source.all_input_nodes[0], alone and len(source.users) == 1
        if clip.bounds_of(node) not in MERGED_BOUNDS:  # such are written as maxima, which may stand alone
            continue
        if source.target not in MERGING or len(source.users) > 1 or not alone:
            why = "which others read too" if source.target in MERGING else "which no clip can be merged into"
            yield node, f"clips what `{source.name}` computes, {why}", (clip,)


RULES: tuple[Rule, ...] = (
    one_image,
    operators,
    dtypes,
    channels,
    weight_sums,
    convolution_strides,
    pooling_strides,
    windows,
    padded_averages,
    resizes,
    means,
    clips,
)


def violations(graph: fx.GraphModule, profile: DeviceProfile) -> list[Violation]:
    """Return everything that keeps a folded network off the NPU of a device; nothing where it has none."""
    limits = profile.operator_limits
    if limits is None:
        return []
    found = [(rule, *finding) for rule in RULES for finding in rule(Request(graph, profile, limits))]
    return [
        Violation(node.name, _place(node), rule.__name__, what, _cure(node, cures, limits))
        for rule, node, what, cures in found
    ]


def sentence(rule: Rule) -> str:
    """Return the rule as the user reads it."""
    return (inspect.getdoc(rule) or "").replace("\n", " ")


def _cure(node: fx.Node, cures: tuple[ModuleType, ...], limits: NpuLimits) -> str | None:
    return next((cure.__name__.rpartition(".")[2] for cure in cures if cure.applies(node, limits)), None)


def _place(node: fx.Node) -> str:
    weights = [one for one in node.all_input_nodes if one.op == "get_attr"]
    return str(weights[0].target).rpartition(".")[0] if weights else ""


def _calls(graph: fx.GraphModule, *targets: object) -> Iterator[fx.Node]:
    return (node for node in graph.graph.nodes if node.op == "call_function" and node.target in targets)
