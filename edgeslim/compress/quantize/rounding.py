"""Put the weights of layers on integer grids: each to the nearest code, or all of a layer's together (GPTQ).

Together means: dense and rounded network run side by side; before a layer is rounded its weights are fitted to the
dense layer's outputs on what really reaches it, then rounded input by input with each error made up for by the inputs
still to come, then its bias gives back the mean (model/least_squares.py: `fit`, `gptq`). No labels are read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeslim.errors import BadInput, BadModel
from edgeslim.model.fake_quant import to_grid
from edgeslim.model.fitting.least_squares import fit, from_matrix, gptq, halves_of, matrix
from edgeslim.model.fitting.reconstruct import Batches, side_by_side
from edgeslim.model.fp16_plan import LARGEST
from edgeslim.model.graph import arguments, batched, channel_axis, copy_of, layers_of, parameter, two_at_least
from edgeslim.model.numerics import EdgeNumerics

METHODS = ("nearest", "gptq")
RIDGE_LEAST = 1e-2  # of the mean second moment, in rounding: errors fed back along what the images hardly show grow
FREE = float("inf")  # the scale of an input that no integer bias depends on


@dataclass(frozen=True)
class Grids:
    """How weights are rounded: `limits` names the layers and their largest codes, all others stay float.

    One scale for each output channel, or one for a whole layer. `correct_bias`: the bias gives back what rounding
    changes on average.
    """

    limits: Mapping[str, int]
    per_channel: bool = True
    correct_bias: bool = True


@dataclass(frozen=True)
class Rounded:
    """New parameters of a layer: float32, the weight on its grid; one scale for each output channel."""

    weight: Tensor
    bias: Tensor
    scales: Tensor


def round_weights(
    graph: fx.GraphModule,
    images: Sequence[Tensor],
    bits: int,
    per_channel: bool,
    method: str,
    *,
    ends_bits: int | None = None,
) -> fx.GraphModule:
    """Return a copy of a folded graph whose layers' weights take `bits` bits, biases corrected; activations float.

    `images`: batches (n, C, H, W), two images at least; the copy takes batches too. `method`: nearest or gptq.
    `ends_bits`: bits of the first and the last layer, where they are others. Raises BadInput for another method or less
    than 2 bits, BadModel where an activation is NaN.
    """
    if method not in METHODS:
        raise BadInput(f"rounding is `{method}`; expected {' or '.join(METHODS)}")
    names = list(layers_of(graph))
    widths = {name: (ends_bits or bits) if name in (names[0], names[-1]) else bits for name in names}
    if min(widths.values()) < 2:
        raise BadInput(f"{min(widths.values())} bits hold no weights of both signs; expected 2 or more")
    rounded = batched(graph)
    grids = Grids({name: 2 ** (width - 1) - 1 for name, width in widths.items()}, per_channel)
    round_side_by_side(batched(graph), rounded, images, grids, {}, method)
    return rounded


@torch.no_grad()
def round_side_by_side(
    dense: fx.GraphModule,
    rounded: fx.GraphModule,
    images: Sequence[Tensor],
    grids: Grids,
    edges: Mapping[str, EdgeNumerics],
    method: str,
) -> dict[str, tuple[float, ...]]:
    """Round the layers of `rounded` in place, in execution order; return each layer's scales.

    Both graphs take batches and hold the same folded network; `dense` stays as it is. While they run, every activation
    of the rounded one that `edges` names lies on its grid. Raises BadModel where an activation is NaN.
    """
    layers = layers_of(dense)
    quantized = with_grids(rounded, edges)
    scales = {}
    for node in [n for name, n in layers_of(quantized).items() if name in grids.limits]:
        # The walk shows a layer only where the two networks differ.
        weight, bias = parameters(quantized, node)
        nearest = round_nearest(node, weight, bias, None, FREE, grids)
        put(quantized, node, nearest)
        scales[node.name] = nearest.scales

    def adjust(node: fx.Node, entering: Batches, dense_entering: Batches, wanted: Batches) -> None:
        if node.name not in grids.limits:
            return
        weight, bias = parameters(dense, layers[node.name])
        edge = edges.get(str(layers[node.name].args[0]))
        input_scale = FREE if edge is None else edge.scale
        if method == "nearest":
            mean = torch.cat(dense_entering).double().mean(0, keepdim=True)
            if not mean.isfinite().all():
                raise BadModel(f"what enters `{node.name}` is NaN or infinite on an image; nothing can be rounded")
            new = round_nearest(node, weight, bias, mean, input_scale, grids)
        else:
            new = _round_together(node, weight, bias, entering, wanted, input_scale, grids)
        put(quantized, node, new)
        scales[node.name] = new.scales

    side_by_side(_without_grids(with_grids(dense, edges)), quantized, _two_at_least(images), adjust)
    rounded.load_state_dict(quantized.state_dict(), strict=False)  # all but the grids
    return {name: tuple(float(s) for s in layer) for name, layer in scales.items()}


@torch.no_grad()
def round_nearest(
    node: fx.Node, weight: Tensor, bias: Tensor, mean_input: Tensor | None, input_scale: float, grids: Grids
) -> Rounded:
    """Return a layer's weights at their nearest codes.

    `mean_input` is the mean image that enters the layer, (1, C, H, W) or (1, features): what rounding adds to the mean
    output, the bias loses. A layer is linear, so the mean image suffices.
    """
    limit = grids.limits[node.name]
    lifted = lift(weight, bias, input_scale, limit)
    scales = _scales(lifted, limit, grids.per_channel)
    shaped = scales.view(-1, *[1] * (weight.ndim - 1))
    on_grid = (lifted / shaped).round().clamp(-limit, limit) * shaped
    if grids.correct_bias and mean_input is not None:
        bias = bias - _mean_output(node, mean_input, (on_grid - weight).double()).to(bias.dtype)
    return Rounded(on_grid, bias, scales)


def round_each(
    graph: fx.GraphModule, means: Callable[[str], Tensor], edges: Mapping[str, EdgeNumerics], grids: Grids
) -> dict[str, tuple[float, ...]]:
    """Put the weights of a folded graph's layers at their nearest codes, in place; return each layer's scales.

    `means`: by the name of what a layer reads, the mean image, as `round_nearest` takes it.
    """
    layers, scales = layers_of(graph), {}
    for name in grids.limits:
        node, source = layers[name], str(layers[name].args[0])
        new = round_nearest(node, *parameters(graph, node), means(source), edges[source].scale, grids)
        put(graph, node, new)
        scales[name] = tuple(float(one) for one in new.scales)
    return scales


def _round_together(
    node: fx.Node,
    weight: Tensor,
    bias: Tensor,
    entering: Batches,
    wanted: Batches,
    input_scale: float,
    grids: Grids,
) -> Rounded:
    """Return a layer's weights fitted to `wanted`, what leaves the dense layer, and rounded all together.

    Where the bias is not to be corrected, the weights alone are fitted, to what the bias leaves.
    """
    limit = grids.limits[node.name]
    if not grids.correct_bias:
        behind = wanted[0].ndim - 1 - channel_axis(node)
        shift = bias.view(-1, *[1] * behind)
        wanted = [batch - shift for batch in wanted]
    halves = halves_of(node, weight, entering, wanted)
    both = halves[0] + halves[1]
    prior = matrix(weight, len(both.x))
    fitted, ridge = fit(halves, prior, centred=grids.correct_bias)

    def mean_left(values: Tensor) -> Tensor:
        """Return what the bias must be so that the mean output is the wanted one."""
        return ((both.y - (both.x.unsqueeze(1) @ values).squeeze(1)) / both.rows).reshape(-1).to(bias.dtype)

    if grids.correct_bias:
        bias = mean_left(fitted)
    lifted = lift(from_matrix(fitted, weight), bias, input_scale, limit)
    scales = _scales(lifted, limit, grids.per_channel)
    xx = both.centred()[0] if grids.correct_bias else both.xx
    steps = scales.double().view(len(both.x), -1)
    on_grid = gptq(matrix(lifted, len(both.x)), xx, steps, limit, max(ridge, RIDGE_LEAST))
    return Rounded(from_matrix(on_grid, weight), mean_left(on_grid) if grids.correct_bias else bias, scales)


def lift(weight: Tensor, bias: Tensor, input_scale: float, limit: int) -> Tensor:
    """Return the weights with the peak of every channel at or above what its bias needs.

    An integer bias counts in steps of input scale * weight scale. In a channel of (nearly) zero weights that step
    vanishes and the bias overflows int32, or the scale is 0 and a runtime yields NaN. One weight of such a
    channel is raised until the bias is 2^30 steps: the output moves by less than 4e-5 of the bias.
    """
    peaks = weight.abs().flatten(1).amax(1)
    needed = bias.abs() * limit / (input_scale * 2**30)
    least = torch.maximum(needed, torch.full_like(needed, (float(peaks.max()) or 1.0) * 1e-6))
    lifted = weight.clone()
    first = lifted.view(len(weight), -1)[:, 0]
    first[peaks < least] = least[peaks < least]
    return lifted


def _scales(weight: Tensor, limit: int, per_channel: bool) -> Tensor:
    """Return one scale for each output channel, with which the largest weight has the code `limit`."""
    peaks = weight.abs().flatten(1).amax(1)
    return (peaks if per_channel else peaks.max().expand(len(peaks)).clone()) / limit


def _mean_output(node: fx.Node, mean_input: Tensor, weight: Tensor) -> Tensor:
    """Return what `weight` yields on average per output channel for the mean image."""
    operator: Any = node.target
    output: Tensor = operator(mean_input, weight, None, *arguments(node)[3:])
    axis = channel_axis(node)
    return output.mean([other for other in range(output.ndim) if other != axis])


def parameters(graph: fx.GraphModule, node: fx.Node) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a folded layer."""
    weight, bias = (parameter(graph, argument) for argument in node.args[1:3])
    if weight is None or bias is None:
        raise TypeError(f"{node.name} has no weight or bias of its own; fold first")
    return weight.detach(), bias.detach()


def can_be_half(weight: Tensor) -> bool:
    """Tell whether fp16 can hold all weights of a layer."""
    return float(weight.abs().max()) <= LARGEST


def halved(weight: Tensor) -> Tensor:
    """Return a weight as fp16 holds it, in float32."""
    return weight.half().float()


def put(graph: fx.GraphModule, node: fx.Node, new: Rounded) -> None:
    """Give a layer of a folded graph its new parameters, in place."""
    weight, bias = parameters(graph, node)
    weight.copy_(new.weight)
    bias.copy_(new.bias)


def with_grids(graph: fx.GraphModule, edges: Mapping[str, EdgeNumerics]) -> fx.GraphModule:
    """Return a copy of a graph in which every edge named in `edges` is rounded to its grid as it is computed.

    The grid of an edge is a buffer `grids.EDGE`, (scale, zero point), read by a node behind the edge's; while its scale
    is 0 the edge stays as it is. All other nodes and parameters keep their names.
    """
    copied = copy_of(graph)
    copied.add_module("grids", nn.Module())
    for node in [n for n in copied.graph.nodes if n.name in edges]:
        edge = edges[node.name]
        copied.get_submodule("grids").register_buffer(node.name, torch.tensor([edge.scale, float(edge.zero_point)]))
        with copied.graph.inserting_after(node):
            grid = copied.graph.get_attr(f"grids.{node.name}")
        with copied.graph.inserting_after(grid):
            rounded = copied.graph.call_function(_on_grid, (node, grid))
        rounded.meta = dict(node.meta)
        node.replace_all_uses_with(rounded, delete_user_cb=lambda user, rounded=rounded: user is not rounded)
    copied.recompile()
    return copied


def _on_grid(value: Tensor, grid: Tensor) -> Tensor:
    """Return `value` rounded to 256 levels, or itself where the scale is 0."""
    scale, zero_point = grid
    return value if scale == 0 else to_grid(value, scale, zero_point)


def _without_grids(graph: fx.GraphModule) -> fx.GraphModule:
    """Turn every grid of a graph from `with_grids` off, in place; return it."""
    for grid in graph.get_submodule("grids").buffers():
        grid.zero_()
    return graph


def _two_at_least(images: Sequence[Tensor]) -> list[Tensor]:
    """Return the batches, a single one cut in two; BadInput for a single image."""
    if sum(len(batch) for batch in images) < 2:
        raise BadInput("rounding looks at two images at least")
    return two_at_least(images)
