"""A plan simulated in PyTorch: what it names is rounded to its grid, everything else stays float.

Integer kernels add up exactly and round once more at their output; in float32 the sums differ in the last bits, so a
runtime may choose the neighbouring code where a value lies halfway between two.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgeslim.model.graph import ATEN, is_activation, layers_of, parameter, rows
from edgeslim.model.numerics import LEVELS, WEIGHT_LIMIT, EdgeNumerics, Numerics


def fake_quantize(value: Tensor, edge: EdgeNumerics) -> Tensor:
    """Return `value` rounded to the 256 levels of an edge."""
    return to_grid(value, edge.scale, edge.zero_point)


def to_grid(value: Tensor, scale: float | Tensor, zero_point: float | Tensor) -> Tensor:
    """Return `value` rounded to 256 levels: half to even and saturating, as the runtimes do."""
    codes = (value / scale).round().add(zero_point).clamp(0, LEVELS)
    return (codes - zero_point) * scale


def ranged(value: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return `value` rounded to 256 levels from its least to its greatest number over some axes, 0 among them."""
    low, high = value.amin(axes, keepdim=True).clamp(max=0), value.amax(axes, keepdim=True).clamp(min=0)
    scale = ((high - low) / LEVELS).clamp(min=torch.finfo(value.dtype).tiny)
    return to_grid(value, scale, (-low / scale).round())


def fake_quantize_weight(weight: Tensor, scales: Sequence[float]) -> Tensor:
    """Return a weight (output channels, ...) rounded to codes -127..127 of one scale for each output channel.

    A weight that lies on this grid comes back as it is.
    """
    steps = torch.tensor(scales, dtype=weight.dtype).view(-1, *[1] * (weight.ndim - 1))
    return (weight / steps).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT) * steps


def part_of(numerics: Numerics, layers: Collection[str]) -> Numerics:
    """Return the plan of these layers alone, with the edges that INT8 ones read and write."""
    chosen = {name: layer for name, layer in numerics.layers.items() if name in layers}
    quantized = [layer for layer in chosen.values() if layer.precision == "int8"]
    edges = {name for layer in quantized for name in (layer.inputs, layer.output)}
    return Numerics(
        {name: edge for name, edge in numerics.edges.items() if name in edges}, chosen, numerics.weight_limit
    )


@torch.no_grad()
def simulate(graph: fx.GraphModule, numerics: Numerics, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return every activation (N, ...) of a network run under a plan, by node name.

    `graph` is folded, with its weights on their grid or not; biases stay as they are. `batches` hold images (n, C,
    H, W). Exactly what `numerics` names is rounded: every edge, every weight that has scales, and for each image
    what a "dynamic" layer reads, as LiteRT computes it; `part_of` makes a plan of some layers. What lies before a
    fused activation is no edge and stays float.
    """
    simulator = _Simulator(graph, numerics)
    values: dict[str, list[Tensor]] = {}
    for row in rows(batches):
        simulator.seen.clear()
        simulator.run(row)
        for name, value in simulator.seen.items():
            values.setdefault(name, []).append(value)
    return {name: torch.cat(parts) for name, parts in values.items()}


@torch.no_grad()
def simulate_layer(graph: fx.GraphModule, numerics: Numerics, name: str, source: Tensor) -> Tensor:
    """Return the output edge (N, ...) of one layer fed with the images `source` (N, ...), quantized as planned.

    The input and output edges and the weight are rounded; weight and bias are the graph's.
    """
    simulator = _Simulator(graph, part_of(numerics, [name]))
    layer = layers_of(graph)[name]
    nodes = {node.name: node for node in (layer, *layer.users)}
    output = nodes[numerics.layers[name].output]
    read = layer.all_input_nodes[0]
    simulator.env[read] = simulator.rounded(read, source)
    for node in dict.fromkeys((*layer.all_input_nodes[1:], layer, output)):
        simulator.env[node] = simulator.run_node(node)
    value: Tensor = simulator.env[output]
    return value


class Dynamic(fx.Interpreter):
    """Runs a graph some of whose layers read their input rounded to the input's own range, as LiteRT's kernels do.

    The range is an image's, of a linear layer a row's.
    """

    def __init__(self, graph: fx.GraphModule, layers: Collection[str]) -> None:
        super().__init__(graph)
        self._ranged = layers

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, a dynamic layer on its rounded input."""
        if n.name not in self._ranged:
            return super().run_node(n)
        (read, *others), more = self.fetch_args_kwargs_from_env(n)
        axes = (-1,) if n.target is ATEN.linear.default else (-3, -2, -1)
        return self.call_function(n.target, (ranged(read, axes), *others), more)


class _Simulator(Dynamic):
    """Runs a graph under a plan; `seen` holds the activations of the last run by node name."""

    def __init__(self, graph: fx.GraphModule, numerics: Numerics) -> None:
        super().__init__(graph, {name for name, one in numerics.layers.items() if one.precision == "dynamic"})
        self.seen: dict[str, Tensor] = {}
        self._edges = numerics.edges
        self._weights = {}
        for name, node in layers_of(graph).items():
            layer = numerics.layers.get(name)
            weight = parameter(graph, node.args[1])
            if layer is not None and layer.weight_scales and weight is not None:
                self._weights[layer.weight] = fake_quantize_weight(weight, layer.weight_scales)

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "get_attr" and str(n.target) in self._weights:
            return self._weights[str(n.target)]
        value = super().run_node(n)
        if not is_activation(n):
            return value
        self.seen[n.name] = self.rounded(n, value)
        return self.seen[n.name]

    def rounded(self, node: fx.Node, value: Tensor) -> Tensor:
        """Return the value of a node on its grid, where the plan gives it one."""
        return fake_quantize(value, self._edges[node.name]) if node.name in self._edges else value
