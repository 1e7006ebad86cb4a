"""Give a pruned network back what its removed channels said: layer by layer, in closed form, without labels.

Dense and pruned network run side by side on the same images. Before a layer of the pruned one is computed, its weights
are fitted to the dense layer's outputs on what really reaches it (moments.py), and every batch norm gets the statistics
with which its outputs have the mean and variance they have in the dense network.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.errors import BadModel
from edgeslim.graph import ATEN, LAYERS, parameter
from edgeslim.moments import MOST_ROWS, Moments, fit, from_matrix, matrix, moments_of, rows_of

Batches = list[Tensor]
# (node of the other network, what enters it there, what enters it in the dense one, what leaves the dense one)
Adjust = Callable[[fx.Node, Batches, Batches, Batches], None]


@torch.no_grad()
def side_by_side(
    dense: fx.GraphModule, other: fx.GraphModule, images: Sequence[Tensor], adjust: Adjust
) -> tuple[Batches, Batches]:
    """Run two networks with the same nodes on the same batches, node by node; return the outputs of both.

    `adjust` may change the other's parameters before a node of it is computed. Held in memory: what later nodes still
    read of both, 4 bytes a value for every image; up to the first difference the two share their values.
    """
    values: dict[str, tuple[Batches, Batches]] = {}
    last = _last_uses(dense)
    twins = {node.name: node for node in other.graph.nodes}
    results: tuple[Batches, Batches] = ([], [])
    for node in dense.graph.nodes:
        if node.op == "placeholder":
            values[node.name] = (list(images), list(images))
        elif node.op == "output":
            results = values[str(node.args[0][0] if isinstance(node.args[0], tuple | list) else node.args[0])]
        elif node.op == "call_function":
            twin = twins[node.name]
            wanted = _compute(dense, node, values, 0, len(images))
            entering = values.get(str(node.args[0]), ([], []))
            if _differs(dense, other, node, twin, values):
                adjust(twin, entering[1], entering[0], wanted)
                got = _compute(other, twin, values, 1, len(images))
            else:
                got = wanted
            values[node.name] = (wanted, got)
        for name in last.get(node.name, ()):
            values.pop(name, None)
    return results


def _last_uses(graph: fx.GraphModule) -> dict[str, list[str]]:
    """Return {node: values that nothing after it reads}."""
    last: dict[str, str] = {}
    for node in graph.graph.nodes:
        for source in node.all_input_nodes:
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
    for source, copied in zip(node.all_input_nodes, twin.all_input_nodes, strict=True):
        one = parameter(dense, source)
        if one is None:
            if values[source.name][0] is not values[source.name][1]:
                return True
        else:
            two = parameter(other, copied)
            if two is None or one.shape != two.shape or not torch.equal(one, two):
                return True
    return bool(node.args[1:] != twin.args[1:] and node.target not in LAYERS and not node.all_input_nodes)


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
        if node.target in LAYERS:
            readers[str(node.args[1].target)] = readers.get(str(node.args[1].target), 0) + 1
    remarks: list[str] = []
    total = sum(len(batch) for batch in images)

    def adjust(node: fx.Node, entering: Batches, dense_entering: Batches, wanted: Batches) -> None:
        if node.target in LAYERS:
            name = str(node.args[1].target)  # type: ignore[union-attr] # a parameter
            if readers[name] == 1:  # a layer used twice keeps its weights: no single answer fits both uses
                _refit(pruned, node, torch.from_numpy(rows[name]), entering, wanted, remarks, total)
        elif node.target is ATEN.batch_norm.default:
            kept = torch.from_numpy(rows[str(node.args[3].target)])  # type: ignore[union-attr]
            _restore_statistics(pruned, node, kept, entering, dense_entering)

    side_by_side(dense, pruned, images, adjust)
    return remarks


def _refit(
    pruned: fx.GraphModule,
    node: fx.Node,
    kept: Tensor,
    entering: Batches,
    wanted: Batches,
    remarks: list[str],
    images: int,
) -> None:
    weight = parameter(pruned, node.args[1])
    bias = parameter(pruned, node.args[2] if len(node.args) > 2 else None)
    if weight is None:
        raise TypeError(f"{node.name} has no weight of its own")
    linear = node.target is ATEN.linear.default
    axis = wanted[0].dim() - 1 if linear else 1
    places = 1 if linear else wanted[0][0, 0].numel()
    halves: list[Moments | None] = [None, None]
    for number, (x, y) in enumerate(zip(entering, wanted, strict=True)):
        share = min(1.0, MOST_ROWS / (places * images))
        some = moments_of(*rows_of(node, weight, x, y.index_select(axis, kept), share))
        if not (some.xx.isfinite().all() and some.xy.isfinite().all()):
            raise BadModel(f"`{node.name}` became NaN or infinite on a calibration image; nothing can be fitted")
        half = halves[number % 2]
        halves[number % 2] = some if half is None else half + some
    first, second = halves
    if first is None or second is None:
        raise TypeError("a layer is fitted on two batches at least")
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
    total = squares = torch.zeros(len(channels), dtype=torch.float64)
    count = 0
    for batch in batches:
        values = batch.index_select(1, channels).transpose(0, 1).flatten(1).double()
        total, squares, count = total + values.sum(1), squares + (values**2).sum(1), count + values.shape[1]
    mean = total / count
    return mean, (squares / count - mean**2).clamp(min=0).sqrt()
