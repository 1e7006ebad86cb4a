"""Sums and products in place of the rest of arithmetic.

x + a y = x + (a y);  x - y = x + (-1) y;  c - x = (-1) x + c;  -x = (-1) x;  x / c = (1 / c) x;  x^2 = x x;
x^3 = x x x;  x^0.5 = sqrt(x);  the sum over n places is n times their mean.
"""

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from edgeslim.model.graph import ATEN, argument, arguments, parameter, shape_of
from edgeslim.model.normalize.rewriting import inserted, replaced

ADD, MUL = ATEN.add.Tensor, ATEN.mul.Tensor
POWERS = {0.5: ATEN.sqrt.default, -0.5: ATEN.rsqrt.default, -1: ATEN.reciprocal.default}


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write one operator as sums and products."""
    form = _FORMS.get(node.target)
    made = None if form is None else form(graph, node)
    return made is not None and replaced(graph, node, made)


def _sum_with_factor(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    alpha = argument(node, "alpha")
    if alpha == 1:
        return None
    first, second = arguments(node)[:2]
    return inserted(graph, node, ADD, first, _times(graph, node, second, alpha))


def _difference(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    first, second = arguments(node)[:2]
    return inserted(graph, node, ADD, first, _times(graph, node, second, -argument(node, "alpha")))


def _reversed_difference(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    first, second = arguments(node)[:2]
    return inserted(graph, node, ADD, _times(graph, node, first, -argument(node, "alpha")), second)


def _negative(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    return inserted(graph, node, MUL, arguments(node)[0], -1)


def _square(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    return inserted(graph, node, MUL, arguments(node)[0], arguments(node)[0])


def _times(graph: fx.GraphModule, before: fx.Node, factor: Any, other: float) -> Any:
    """Return the product of a node or a number with a number."""
    return inserted(graph, before, MUL, factor, other) if isinstance(factor, fx.Node) else factor * other


def _quotient(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return a product where the divisor is known."""
    first, second = arguments(node)[:2]
    if isinstance(second, int | float):
        return inserted(graph, node, MUL, first, 1 / second) if second else None
    if parameter(graph, second) is None:
        return None
    return inserted(graph, node, MUL, first, inserted(graph, node, ATEN.reciprocal.default, second))


def _power(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    base, exponent = arguments(node)[:2]
    if exponent in (2, 3):
        square = inserted(graph, node, MUL, base, base)
        return square if exponent == 2 else inserted(graph, node, MUL, square, base)
    return inserted(graph, node, POWERS[exponent], base) if exponent in POWERS else None


def _sum(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    source, axes = arguments(node)[:2]
    if not axes or node.kwargs.get("dtype") is not None:
        return None
    mean = inserted(graph, node, ATEN.mean.dim, source, list(axes), bool(argument(node, "keepdim")))
    return inserted(graph, node, MUL, mean, math.prod(shape_of(source)[axis] for axis in axes))


_FORMS: dict[Any, Callable[[fx.GraphModule, fx.Node], fx.Node | None]] = {
    ADD: _sum_with_factor,
    ATEN.sub.Tensor: _difference,
    ATEN.sub.Scalar: _difference,
    ATEN.rsub.Scalar: _reversed_difference,
    ATEN.rsub.Tensor: _reversed_difference,
    ATEN.neg.default: _negative,
    ATEN.div.Tensor: _quotient,
    ATEN.square.default: _square,
    ATEN.pow.Tensor_Scalar: _power,
    ATEN.sum.dim_IntList: _sum,
}
