"""A transposed convolution is a convolution whose channels are the places between those of its input.

With stride s, kernel w of k values padded with zeros to s T, and padding p: y[o] = sum_i x[i] w[o + p - s i]. For o + p
= s q + r that is sum_t x[q - t] w[s t + r]: for each remainder r a convolution with every s-th value of w, turned
around, and padding T - 1. The s remainders are channels, which an unfolding puts side by side; what lies before p and
behind the end is cut off. A dilated kernel has zeros between its values. (Shi et al. 2016, Is the deconvolution layer
the same as a convolutional layer?)
"""

import torch
from torch import Tensor, fx

from edgeslim.model.graph import ATEN, argument, arguments, parameter, shape_of
from edgeslim.model.normalize.rewriting import inserted, replaced, stored
from edgeslim.model.normalize.shuffles import unfolded


@torch.no_grad()
def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write one transposed convolution as a convolution, an unfolding and a cut."""
    if node.target is not ATEN.conv_transpose2d.input:
        return False
    source, name = arguments(node)[:2]
    weight = parameter(graph, name)
    given = argument(node, "bias")
    bias = parameter(graph, given)
    if weight is None or (given is not None and bias is None):
        return False
    weight = _spread(weight, argument(node, "dilation"))
    stride, pads, groups = argument(node, "stride"), argument(node, "padding"), int(argument(node, "groups"))
    counts, sizes = shape_of(source)[2:], shape_of(node)[2:]
    taps = [
        max(-(-kernel // step), -(-(pad + size) // step) - count + 1)  # more than the kernel has where it pads outputs
        for kernel, step, pad, size, count in zip(weight.shape[2:], stride, pads, sizes, counts, strict=True)
    ]
    made = [(count + t - 1) * step for count, t, step in zip(counts, taps, stride, strict=True)]
    path = f"{str(name.target).rpartition('.')[0]}.convolution".lstrip(".")
    parameters = [stored(graph, node, f"{path}.weight", _kernels(weight, stride, taps, groups))]
    if bias is not None:
        parameters.append(stored(graph, node, f"{path}.bias", bias.repeat_interleave(stride[0] * stride[1])))
    settings = (*parameters, *[None] * (bias is None), [1, 1], [t - 1 for t in taps], [1, 1], groups)
    image = inserted(graph, node, ATEN.conv2d.default, source, *settings)
    norm = next(iter(node.users)) if len(node.users) == 1 else None
    if norm is not None and norm.target is ATEN.batch_norm.default:
        image = _normed(graph, node, image, norm, stride[0] * stride[1])
        replaced(graph, norm, node)
    if list(stride) != [1, 1]:
        image = unfolded(graph, node, image, (stride[0], stride[1]))
    for axis, (pad, size, whole) in enumerate(zip(pads, sizes, made, strict=True), start=2):
        if (pad, size) != (0, whole):
            image = inserted(graph, node, ATEN.slice.Tensor, image, axis, pad, pad + size)
    return replaced(graph, node, image)


def _normed(graph: fx.GraphModule, before: fx.Node, image: fx.Node, norm: fx.Node, places: int) -> fx.Node:
    """Return a batch norm of what is not yet unfolded: of each channel once for each of its places."""
    given = arguments(norm)[1:]
    repeated = []
    for one in given[:4]:
        value = parameter(graph, one)
        path = str(one.target) if isinstance(one, fx.Node) else ""
        repeated.append(None if value is None else stored(graph, before, path, value.repeat_interleave(places)))
    return inserted(graph, before, ATEN.batch_norm.default, image, *repeated, *given[4:])


def _spread(weight: Tensor, dilation: list[int]) -> Tensor:
    """Return a weight with the zeros between its values that a dilation stands for."""
    sizes = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilation, strict=True)]
    spread = weight.new_zeros(*weight.shape[:2], *sizes)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _kernels(weight: Tensor, stride: list[int], taps: list[int], groups: int) -> Tensor:
    """Return the kernels (C_out s t, C_in / groups, T, U) of a weight (C_in, C_out / groups, k, l)."""
    (high, wide), (tall, broad) = stride, taps
    entering, leaving = weight.shape[:2]
    missing = (0, broad * wide - weight.shape[3], 0, tall * high - weight.shape[2])
    whole = torch.nn.functional.pad(weight, missing).view(entering, leaving, tall, high, broad, wide)
    parted = whole.view(groups, entering // groups, leaving, tall, high, broad, wide).flip(3, 5)
    moved = parted.permute(0, 2, 4, 6, 1, 3, 5)  # group, channel, remainders, input, taps
    return moved.reshape(groups * leaving * high * wide, entering // groups, tall, broad)
