"""Products with a stored matrix are linear layers: x W = linear(x, W^T), b + x W = linear(x, W^T, b).

einsum("bi,oi->bo", x, W) and its like are the same with axes moved; one whose letters are alike in all places is a
product element by element, one of two activations over their last axes a matrix product.
"""

from collections.abc import Sequence
from typing import Any

from torch import fx

from edgeslim.model.graph import ATEN, argument, arguments, parameter
from edgeslim.model.normalize.rewriting import inserted, replaced


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write one product as a linear layer, or an einsum as a product."""
    if node.target in (ATEN.matmul.default, ATEN.mm.default):
        source, matrix = arguments(node)
        return _linear(graph, node, source, matrix, None)
    if node.target is ATEN.addmm.default and argument(node, "alpha") == argument(node, "beta") == 1:
        bias, source, matrix = arguments(node)[:3]
        return _linear(graph, node, source, matrix, bias)
    if node.target is ATEN.einsum.default:
        return _einsum(graph, node)
    return False


def _linear(graph: fx.GraphModule, node: fx.Node, source: Any, matrix: Any, bias: Any) -> bool:
    stored = parameter(graph, matrix)
    if stored is None or stored.dim() != 2 or parameter(graph, source) is not None:
        return False
    added = parameter(graph, bias)
    if bias is not None and (added is None or added.dim() != 1):
        return False
    turned = inserted(graph, node, ATEN.permute.default, matrix, [1, 0])
    settings = (turned,) if bias is None else (turned, bias)
    return replaced(graph, node, inserted(graph, node, ATEN.linear.default, source, *settings))


def _matrix_product(graph: fx.GraphModule, node: fx.Node, names: Sequence[str], leaving: str) -> bool:
    """Write "...ij,...jk->...ik", or with the last two letters of the second turned, as a matrix product."""
    (first, second), batch = names, leaving[:-2]
    inner = first[-1]
    if first != f"{batch}{leaving[-2]}{inner}" or sorted(second[-2:]) != sorted(inner + leaving[-1]):
        return False
    if second[:-2] != batch or inner in leaving:
        return False
    x, y = arguments(node)[1]
    if second[-1] == inner:
        y = inserted(graph, node, ATEN.transpose.int, y, len(second) - 2, len(second) - 1)
    return replaced(graph, node, inserted(graph, node, ATEN.matmul.default, x, y))


def _einsum(graph: fx.GraphModule, node: fx.Node) -> bool:
    equation, operands = arguments(node)[:2]
    entering, _, leaving = equation.replace(" ", "").partition("->")
    names = entering.split(",")
    if len(operands) != 2 or "." in equation or not leaving:
        return False
    if names[0] == names[1] == leaving:
        return replaced(graph, node, inserted(graph, node, ATEN.mul.Tensor, *operands))
    if len(set(leaving[:-2]) & set(names[0]) & set(names[1])) == len(leaving) - 2 > 0:
        return _matrix_product(graph, node, names, leaving)
    (first, second), (x, w) = names, operands
    stored = parameter(graph, w)
    summed = [letter for letter in first if letter not in leaving]
    if stored is None or len(second) != 2 or len(summed) != 1 or summed[0] not in second:
        return False
    (made,) = [letter for letter in second if letter != summed[0]]
    kept = [letter for letter in first if letter != summed[0]]
    if sorted([*kept, made]) != sorted(leaving):
        return False
    last = [*kept, summed[0]]
    moved = inserted(graph, node, ATEN.permute.default, x, [first.index(letter) for letter in last])
    weight = w if second[0] == made else inserted(graph, node, ATEN.permute.default, w, [1, 0])
    product = inserted(graph, node, ATEN.linear.default, moved, weight)
    order = [[*kept, made].index(letter) for letter in leaving]
    return replaced(graph, node, inserted(graph, node, ATEN.permute.default, product, order))
