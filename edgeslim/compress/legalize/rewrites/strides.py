"""A stride beyond the limit becomes a smaller stride and a pooling that keeps every k-th place.

With s = a k, a convolution or a maximum at stride s is the one at stride a, sampled: y_s[i, j] = y_a[k i, k j]. A
maximum over a window of one value at stride k samples. `a` is the largest divisor of s within the limit, for height and
width apart; what is computed at stride a is k_h k_w times as many places.
"""

from torch import fx

from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.model.graph import ATEN, argument

EXACT = True


def applies(node: fx.Node, limits: NpuLimits) -> bool:
    """Tell whether a node is a convolution, or a maximum that pads, with a stride beyond the limit."""
    if node.target is ATEN.max_pool2d.default:
        if not any(argument(node, "padding")) or argument(node, "ceil_mode"):
            return False
    elif node.target not in (ATEN.conv2d.default, ATEN.conv2d.padding):
        return False
    return limits.max_stride is not None and max(_stride(node)) > limits.max_stride


def rewrite(graph: fx.GraphModule, node: fx.Node, limits: NpuLimits) -> None:
    """Give the node the smaller stride, and put the pooling behind it."""
    whole, most = _stride(node), limits.max_stride or 1
    smaller = [max(a for a in range(1, most + 1) if s % a == 0) for s in whole]
    with graph.graph.inserting_after(node):
        kept = graph.graph.call_function(ATEN.max_pool2d.default)
    node.replace_all_uses_with(kept)
    kept.args = (node, [1, 1], [s // a for s, a in zip(whole, smaller, strict=True)])
    place = 2 if node.target is ATEN.max_pool2d.default else 3
    node.args = (*node.args[:place], smaller, *node.args[place + 1 :])


def _stride(node: fx.Node) -> list[int]:
    stride = list(argument(node, "stride") or argument(node, "kernel_size"))
    return stride if len(stride) == 2 else stride * 2
