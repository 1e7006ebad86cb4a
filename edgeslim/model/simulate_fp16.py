"""Half precision simulated in PyTorch.

A GPU's fp16 kernels read fp16, add up in fp32 and round once at their output. So does the simulation: arithmetic in
float32, with inputs, weights and output of every fp16 operator rounded to float16, beyond 65504 to infinity. A kernel
that adds up in fp16 may err more; the exported engine is told to be strict about types, not about accumulators.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

from edgeslim.model.fp16_plan import HalfIo
from edgeslim.model.graph import is_activation

Rounding = Callable[[Tensor], Tensor]


def to_half(value: Tensor) -> Tensor:
    """Return float32 values rounded to float16, half to even; beyond 65504 they become infinite."""
    return value.half().float()


def to_bfloat16(value: Tensor) -> Tensor:
    """Return float32 values rounded to bfloat16."""
    return value.bfloat16().float()


def is_operator(node: fx.Node) -> bool:
    """Tell whether a node computes one float tensor."""
    return node.op == "call_function" and is_activation(node)


def rounded(value: Any, rounding: Rounding) -> Any:
    """Return a tensor, or lists and tuples of them, with every float32 one rounded."""
    return map_aggregate(
        value, lambda one: rounding(one) if isinstance(one, Tensor) and one.dtype == torch.float32 else one
    )


class HalfNetwork(fx.Interpreter):
    """Runs a folded graph with all operators rounded but the `kept` ones; `first_overflow` names who first left fp16.

    `io` rounds the output of the network too. Call it with images (N, C, H, W), as the graph takes them.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        kept: Collection[str] = (),
        io: HalfIo = "fp32",
        rounding: Rounding = to_half,
    ) -> None:
        super().__init__(graph)
        self.first_overflow: str | None = None
        self._kept, self._io, self._rounding = frozenset(kept), io, rounding
        self._parameters: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Return the value of one node, rounded unless it is kept."""
        if n.op == "output" and self._io == "fp16":
            return rounded(super().run_node(n), self._rounding)
        if not is_operator(n) or n.name in self._kept:
            return super().run_node(n)
        args = fx.node.map_arg(n.args, self._read)
        kwargs = fx.node.map_arg(n.kwargs, self._read)
        value = rounded(self.call_function(n.target, args, kwargs), self._rounding)
        if self.first_overflow is None and not bool(torch.isfinite(value).all()):
            self.first_overflow = n.name
        return value

    def _read(self, node: fx.Node) -> Any:
        """Return what an fp16 operator reads of a node; parameters are rounded once."""
        if node.op != "get_attr":
            return rounded(self.env[node], self._rounding)
        if node.name not in self._parameters:
            self._parameters[node.name] = rounded(self.env[node], self._rounding)
        return self._parameters[node.name]
