"""Operators over one dimension are those over two with a height of 1: f1(x) = f2(x with an axis) without the axis."""

from typing import Any

from torch import fx

from edgeslim.model.graph import ATEN, argument, arguments
from edgeslim.model.normalize.rewriting import inserted, replaced


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write a convolution, pooling or padding of (N, C, W) as one of (N, C, 1, W)."""
    if node.target is ATEN.conv1d.default:
        source, weight = arguments(node)[:2]
        kernel = inserted(graph, node, ATEN.unsqueeze.default, weight, 2)
        names = ("stride", "padding", "dilation")
        spans = [_two(argument(node, name), 0 if name == "padding" else 1) for name in names]
        settings = (kernel, argument(node, "bias"), *spans, argument(node, "groups"))
        return _through(graph, node, ATEN.conv2d.default, source, *settings)
    if node.target in (ATEN.max_pool1d.default, ATEN.avg_pool1d.default):
        target = ATEN.max_pool2d.default if node.target is ATEN.max_pool1d.default else ATEN.avg_pool2d.default
        kernel = argument(node, "kernel_size")
        stride, pads = _two(argument(node, "stride") or kernel, 1), _two(argument(node, "padding"), 0)
        beside = [_two(argument(node, "dilation"), 1)] if node.target is ATEN.max_pool1d.default else []
        return _through(
            graph, node, target, arguments(node)[0], _two(kernel, 1), stride, pads, *beside, argument(node, "ceil_mode")
        )
    if node.target is ATEN.adaptive_avg_pool1d.default:
        size = [1, *argument(node, "output_size")]
        return _through(graph, node, ATEN.adaptive_avg_pool2d.default, arguments(node)[0], size)
    return False


def _two(value: list[int], first: int) -> list[int]:
    return [first, *value]


def _through(graph: fx.GraphModule, node: fx.Node, target: Any, source: fx.Node, *settings: Any) -> bool:
    tall = inserted(graph, node, ATEN.unsqueeze.default, source, 2)
    return replaced(
        graph, node, inserted(graph, node, ATEN.squeeze.dim, inserted(graph, node, target, tall, *settings), 2)
    )
