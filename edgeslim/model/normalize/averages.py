"""Averages that runtimes divide otherwise than PyTorch are averages over zeros put around, times numbers.

An average of k values that counts n of them is the average over all k, zeros in the place of those not there, times
k / n: a number for each place of the result, stored. So become windows beyond the image (`ceil_mode`), padding that is
not counted (`count_include_pad=False`) but where it lies as in TensorFlow's `SAME`, and `divisor_override`.
"""

import math

import torch
from torch import Tensor, fx

from edgeslim.model.graph import ATEN, argument, arguments, shape_of, window_of
from edgeslim.model.normalize.rewriting import inserted, replaced, stored


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write one average pool as padding, an average and a product."""
    if node.target is not ATEN.avg_pool2d.default or len(shape_of(node)) != 4:
        return False
    image, (kernel, stride, pads) = arguments(node)[0], window_of(node)
    sizes, counts = shape_of(image)[2:], shape_of(node)[2:]
    reach = [(count - 1) * step + k for count, step, k in zip(counts, stride, kernel, strict=True)]
    beyond = [max(r - size - 2 * pad, 0) for r, size, pad in zip(reach, sizes, pads, strict=True)]
    uncounted = any(pads) and not argument(node, "count_include_pad")
    own = argument(node, "divisor_override")
    if own is None and not any(beyond) and not (uncounted and not _lies_as_same(sizes, counts, reach, stride, pads)):
        return False
    margins = [0 if uncounted and own is None else pad for pad in pads]  # what counts beside the image
    factors = [
        k / counted(count, step, k, pad, size, margin)
        for count, step, k, pad, size, margin in zip(counts, stride, kernel, pads, sizes, margins, strict=True)
    ]
    factor = torch.outer(*factors) if own is None else torch.tensor(math.prod(kernel) / own)
    around = [pads[1], pads[1] + beyond[1], pads[0], pads[0] + beyond[0]]
    padded = inserted(graph, node, ATEN.pad.default, image, around) if any(around) else image
    pooled = inserted(graph, node, ATEN.avg_pool2d.default, padded, kernel, stride)
    if bool((factor == 1).all()):
        return replaced(graph, node, pooled)
    if factor.dim() == 0:
        return replaced(graph, node, inserted(graph, node, ATEN.mul.Tensor, pooled, float(factor)))
    kept = stored(graph, node, f"{node.name}_factors", factor.view(1, 1, *factor.shape).float())
    return replaced(graph, node, inserted(graph, node, ATEN.mul.Tensor, pooled, kept))


def _lies_as_same(
    sizes: tuple[int, ...], counts: tuple[int, ...], reach: list[int], stride: list[int], pads: list[int]
) -> bool:
    """Tell whether padding lies as in TensorFlow's `SAME`, which counts none either."""
    return all(
        count == -(-size // step) and pad == max(r - size, 0) // 2
        for size, count, r, step, pad in zip(sizes, counts, reach, stride, pads, strict=True)
    )


def counted(count: int, step: int, kernel: int, pad: int, size: int, margin: int = 0) -> Tensor:
    """Return how many values of each window along an axis lie within the image and `margin` more on each side."""
    begins = torch.arange(count, dtype=torch.float64) * step - pad
    return (begins + kernel).clamp(max=size + margin) - begins.clamp(min=-margin)
