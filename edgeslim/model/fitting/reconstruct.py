"""Give a pruned network back what its removed channels said: layer by layer, in closed form, without labels.

Dense and pruned network run side by side on the same images. Before a layer of the pruned one is computed, its weights
are fitted to the dense layer's outputs on what really reaches it (least_squares.py), and every batch norm gets the
statistics with which its outputs have the mean and variance they have in the dense network.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.model.fitting.least_squares import fit, from_matrix, halves_of, matrix
from edgeslim.model.graph import ATEN, LAYERS, arguments, output_nodes, parameter, weight_name

Batches = list[Tensor]
# (node of the other network, what enters it there, what enters it in the dense one, what leaves the dense one)
Adjust = Callable[[fx.Node, Batches, Batches, Batches], None]


@torch.no_grad()
def side_by_side(
    dense: fx.GraphModule, other: fx.GraphModule, images: Sequence[Tensor], adjust: Adjust
) -> tuple[list[Batches], list[Batches]]:
    """Run two networks on the same batches, node by node; return the outputs of both, in order.

    The other has the dense one's nodes by name, or only some of them. `adjust` may change the other's parameters before
    a node of it is computed. Held in memory: what later nodes still read of both, 4 bytes a value for every image; up
    to the first difference the two share their values.
    """
    values: dict[str, tuple[Batches, Batches]] = {}
    last = _last_uses(dense, other)
    twins = {node.name: node for node in other.graph.nodes}
    results: tuple[list[Batches], list[Batches]] = ([], [])
    for node in dense.graph.nodes:
        if node.op == "placeholder":
            batches = list(images)
            values[node.name] = (batches, batches)
        elif node.op == "output":
            wanted_nodes, found_nodes = output_nodes(dense), output_nodes(other)
            results = ([values[one.name][0] for one in wanted_nodes], [values[one.name][1] for one in found_nodes])
        elif node.op == "call_function":
            twin = twins.get(node.name)
            wanted = _compute(dense, node, values, 0, len(images))
            if twin is None:
                got = []
            elif _differs(dense, other, node, twin, values):
                entering, dense_entering = _entering(twin, values, 1), _entering(node, values, 0)
                adjust(twin, entering, dense_entering, wanted)
                got = _compute(other, twin, values, 1, len(images))
            else:
                got = wanted
            values[node.name] = (wanted, got)
        for name in last.get(node.name, ()):
            values.pop(name, None)
    return results


def _entering(node: fx.Node, values: Mapping[str, tuple[Batches, Batches]], side: int) -> Batches:
    """Return what enters a node first in one of the networks; nothing where that is no activation."""
    found = values.get(str(node.args[0]))
    return [] if found is None else found[side]


def _last_uses(dense: fx.GraphModule, other: fx.GraphModule) -> dict[str, list[str]]:
    """Return {node: values that nothing after it reads in either network}."""
    last: dict[str, str] = {}
    twins = {node.name: node for node in other.graph.nodes}
    for node in dense.graph.nodes:
        twin = twins.get(node.name, node)
        for source in (*node.all_input_nodes, *twin.all_input_nodes):
            last[source.name] = node.name
    ends: dict[str, list[str]] = {}
    for name, reader in last.items():
        ends.setdefault(reader, []).append(name)
    return ends


def _compute(
    graph: fx.GraphModule, node: fx.Node, values: Mapping[str, tuple[Batches, Batches]], side: int, count: int
) -> Batches:
    def value(batch: int, source: fx.Node) -> Any:
        constant = parameter(graph, source)
        return values[source.name][side][batch] if constant is None else constant

    results = []
    for batch in range(count):
        arguments: Any = fx.node.map_arg(node.args, partial(value, batch))
        keywords: Any = fx.node.map_arg(node.kwargs, partial(value, batch))
        results.append(node.target(*arguments, **keywords))  # type: ignore[operator] # an operator
    return results


def _differs(
    dense: fx.GraphModule,
    other: fx.GraphModule,
    node: fx.Node,
    twin: fx.Node,
    values: Mapping[str, tuple[Batches, Batches]],
) -> bool:
    """Tell whether a node may yield another value in the other network."""
    if node.target is not twin.target or _constants(node) != _constants(twin):
        return True
    if len(node.all_input_nodes) != len(twin.all_input_nodes):
        return True
    for source, copied in zip(node.all_input_nodes, twin.all_input_nodes, strict=True):
        one = parameter(dense, source)
        if one is None:
            if values[source.name][0] is not values[copied.name][1]:
                return True
        else:
            two = parameter(other, copied)
            if two is None or one.shape != two.shape or not torch.equal(one, two):
                return True
    return False


def _constants(node: fx.Node) -> tuple[Any, Any]:
    """Return a node's arguments with nothing in the place of other nodes."""
    return fx.node.map_arg(node.args, lambda _: None), fx.node.map_arg(node.kwargs, lambda _: None)


def reconstruct(
    dense: fx.GraphModule,
    pruned: fx.GraphModule,
    rows: Mapping[str, NDArray[np.int64]],
    images: Sequence[Tensor],
) -> list[str]:
    """Fit the pruned network's layers and batch norms in place to what the dense one computes; return remarks.

    `rows` names for every layer's weight, and for every batch norm's mean, the dense outputs that the pruned one still
    has. `images`: batches (n, C, H, W). A remark says where the images were too few to determine a layer's weights.
    Raises BadModel where an activation is NaN or infinite.
    """
    readers: dict[str, int] = {}
    for node in pruned.graph.nodes:
        name = _fitted(node)
        if name is not None:
            readers[name] = readers.get(name, 0) + 1
    remarks: list[str] = []

    def adjust(node: fx.Node, entering: Batches, dense_entering: Batches, wanted: Batches) -> None:
        if node.target in LAYERS:
            name = weight_name(node)
            if readers[name] == 1:  # a layer used twice keeps its weights: no single answer fits both uses
                _refit(pruned, node, torch.from_numpy(rows[name]), entering, wanted, remarks)
        elif node.target is ATEN.batch_norm.default and readers.get(str(_fitted(node))) == 1:
            kept = torch.from_numpy(rows[str(arguments(node)[3].target)])
            _restore_statistics(pruned, node, kept, entering, dense_entering)

    side_by_side(dense, pruned, images, adjust)
    return remarks


def _fitted(node: fx.Node) -> str | None:
    """Return the name of the parameter that is fitted for a node, if any: a layer's weight, a batch norm's mean."""
    place = 1 if node.target in LAYERS else 3 if node.target is ATEN.batch_norm.default else 0
    argument = node.args[place] if place else None
    return str(argument.target) if isinstance(argument, fx.Node) else None


def _refit(
    pruned: fx.GraphModule,
    node: fx.Node,
    kept: Tensor,
    entering: Batches,
    wanted: Batches,
    remarks: list[str],
) -> None:
    weight = parameter(pruned, node.args[1])
    bias = parameter(pruned, node.args[2] if len(node.args) > 2 else None)
    if weight is None:
        raise TypeError(f"{node.name} has no weight of its own")
    first, second = halves_of(node, weight, entering, wanted, kept)
    normed = len(node.users) == 1 and next(iter(node.users)).target is ATEN.batch_norm.default
    groups = len(first.x)
    prior = matrix(weight, groups)
    fitted, ridge = fit((first, second), prior, centred=bias is not None or normed)
    if first.rows + second.rows < prior.shape[1]:
        remarks.append(
            f"{node.name}: {first.rows + second.rows} rows for {prior.shape[1]} inputs; fitted with ridge {ridge:g}"
        )
    weight.copy_(from_matrix(fitted, weight))
    if bias is not None:
        both = first + second
        means = (both.y - (both.x.unsqueeze(1) @ fitted).squeeze(1)) / both.rows
        bias.copy_(means.reshape(-1))


def _restore_statistics(
    pruned: fx.GraphModule, node: fx.Node, kept: Tensor, entering: Batches, dense_entering: Batches
) -> None:
    """Change a batch norm's statistics so that its outputs have the dense one's mean and variance on these images.

    With mean m and deviation s of what enters (') the pruned and the dense one: scale = s' / s,
    variance' = scale^2 (variance + eps) - eps, mean' = m' - scale (m - mean).
    """
    mean, variance = parameter(pruned, node.args[3]), parameter(pruned, node.args[4])
    epsilon = node.args[7]
    if mean is None or variance is None or not isinstance(epsilon, float):
        return  # it normalizes by its own batch
    m, s = _mean_and_deviation(dense_entering, kept)
    m_now, s_now = _mean_and_deviation(entering, torch.arange(len(kept)))
    scale = torch.where((s > 1e-12) & (s_now > 1e-12), s_now / s, torch.ones_like(s))
    mean.copy_(m_now - scale * (m - mean.double()))
    variance.copy_((scale**2 * (variance.double() + epsilon) - epsilon).clamp(min=0))


def _mean_and_deviation(batches: Batches, channels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over batches, float64."""
    weights, means, variances = [], [], []
    for batch in batches:
        axes = [axis for axis in range(batch.dim()) if axis != 1]
        variance, mean = torch.var_mean(batch, axes, correction=0)
        weights.append(batch.numel() // batch.shape[1])
        means.append(mean.double()[channels])
        variances.append(variance.double()[channels])
    share = torch.tensor(weights, dtype=torch.float64).unsqueeze(1) / sum(weights)
    mean = (share * torch.stack(means)).sum(0)
    spread = torch.stack(variances) + (torch.stack(means) - mean) ** 2
    return mean, (share * spread).sum(0).sqrt()
