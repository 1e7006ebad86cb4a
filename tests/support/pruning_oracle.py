"""What a pruned graph must compute, told by its surviving values alone and never by the pruner's own bookkeeping.

Every weight of a `distinct` network is unique, so a pruned weight shows by itself which rows of the dense one it kept.
The dense graph then runs with NaN in the channels that are gone: NaN finds its own way through whatever works channel
by channel (element-wise operators, norms, pooling, depthwise convolutions, concatenation, splits, shuffles), and each
layer that sums over channels reads 0 instead. The parameters it meets must be the pruned ones at the channels without
NaN, and its logits those of the pruned graph.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeslim.model.graph import ATEN, LAYERS, copy_of, layers_of

NORMS = nn.BatchNorm1d | nn.BatchNorm2d


def distinct(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every layer and batch norm random values of training's size, none of them 0 or twice in one tensor."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: Tensor, low: float, high: float) -> None:
        ranks = torch.randperm(like.numel(), generator=generator).reshape(like.shape)
        like.copy_(low + (high - low) * (ranks + 0.25) / like.numel())

    def draw_weight(weight: Tensor) -> None:
        if weight.numel() > 2**24:
            raise ValueError(f"float32 has no {weight.numel()} distinct values of one size")
        ranks = 1.0 + torch.randperm(weight.numel(), generator=generator).reshape(weight.shape)
        signs = 1.0 - 2.0 * torch.randint(0, 2, weight.shape, generator=generator)
        bound = (6 / weight[0].numel()) ** 0.5
        weight.copy_(signs * ranks * 2.0 ** round(math.log2(bound / weight.numel())))  # exact: a power of two

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                draw_weight(module.weight)
                if module.bias is not None:
                    draw(module.bias, -0.5, 0.5)
            if isinstance(module, NORMS):
                draw(module.running_mean, -0.5, 0.5)
                draw(module.running_var, 0.5, 2.0)
                if module.affine:
                    draw(module.weight, 0.5, 1.5)
                    draw(module.bias, -0.5, 0.5)
    return network.eval()


def tensors_of(graph: fx.GraphModule) -> dict[str, Tensor]:
    """Return all parameters and buffers by qualified name, shared ones under each of their names."""
    parameters = graph.named_parameters(remove_duplicate=False)
    return dict(parameters) | dict(graph.named_buffers(remove_duplicate=False))


def rows_kept(dense: Tensor, pruned: Tensor) -> list[int]:
    """Return for each row of a pruned weight the row of the dense one that it was, found by the row's first value."""
    columns = dense if dense.dim() == 2 else dense.flatten(2)[:, :, 0]  # a kernel keeps all its places
    candidates = columns.flatten().contiguous()
    firsts, order = pruned.flatten(1)[:, 0].contiguous().sort()
    places = torch.searchsorted(firsts, candidates).clamp(max=len(firsts) - 1)
    found = (firsts[places] == candidates).nonzero().flatten()
    assert sorted(places[found].tolist()) == list(range(len(firsts))), "a row is not the dense weight's, or not unique"
    rows = torch.empty(len(firsts), dtype=torch.long)
    rows[order[places[found]]] = found // columns.shape[1]
    return rows.tolist()


def rows_removed(dense: fx.GraphModule, pruned: fx.GraphModule) -> dict[str, set[int]]:
    """Return the output channels that each layer lost, by the name of its module."""
    before, after = tensors_of(dense), tensors_of(pruned)
    weights = {str(node.args[1].target) for node in layers_of(dense).values()}
    return {
        weight.removesuffix(".weight"): set(range(len(before[weight]))) - set(rows_kept(before[weight], after[weight]))
        for weight in weights
    }


@torch.no_grad()
def assert_pruned_rightly(dense: fx.GraphModule, pruned: fx.GraphModule, image: Tensor) -> None:
    """Fail, naming the layer where one is at fault, unless the pruned graph is the dense one without some channels."""
    dense, pruned, image = copy_of(dense).double(), copy_of(pruned).double(), image.double()
    reference = _Masked(dense, tensors_of(pruned)).run(image.clone())
    assert not reference.isnan().any(), "a logit was removed"
    size = float(reference.abs().max())
    torch.testing.assert_close(pruned(image.clone()), reference, rtol=1e-9, atol=1e-9 * size)


class _Masked(fx.Interpreter):
    """Runs a dense graph with NaN in the channels that the pruned one lacks."""

    def __init__(self, dense: fx.GraphModule, after: Mapping[str, Tensor]) -> None:
        super().__init__(dense)
        self._after = after

    def run_node(self, n: fx.Node) -> Any:
        if n.target in LAYERS:
            return self._layer(n)
        if n.target is ATEN.batch_norm.default:
            self._check_norm(n)
        return super().run_node(n)

    def _layer(self, node: fx.Node) -> Tensor:
        (x, weight, *rest), options = self.fetch_args_kwargs_from_env(node)
        axis = -1 if node.target is ATEN.linear.default else 1
        groups = int(node.args[6]) if axis == 1 and len(node.args) > 6 else 1
        dead = _dead(x, axis)
        rows = rows_kept(weight, self._after[str(node.args[1].target)])
        self._check_weight(node, weight, rows, ~dead.reshape(groups, -1))
        if len(node.args) > 2 and node.args[2] is not None:
            self._check(node, 2, rest[0][rows])
        if not (groups == x.shape[axis] and groups > 1):  # a depthwise convolution passes NaN on, in its channel only
            x = x.movedim(axis, -1).where(~dead, 0.0).movedim(-1, axis)
        value = node.target(x, weight, *rest, **options).movedim(axis, -1)
        gone = torch.ones(len(weight), dtype=torch.bool).index_fill(0, torch.tensor(rows), False)
        return value.masked_fill(gone, float("nan")).movedim(-1, axis).contiguous()

    def _check_weight(self, node: fx.Node, weight: Tensor, rows: list[int], alive: Tensor) -> None:
        """Compare a pruned weight with the dense one at the rows kept and the columns that are fed (group, channel)."""
        size = len(weight) // len(alive)
        kept = [weight[row][alive[row // size]] for row in rows]
        widths = {len(row) for row in kept}
        assert len(widths) == 1, f"{node.name}: its groups are fed different numbers of channels, {sorted(widths)}"
        self._check(node, 1, torch.stack(kept))

    def _check_norm(self, node: fx.Node) -> None:
        (x, *parameters), _ = self.fetch_args_kwargs_from_env(node)
        for position, value in enumerate(parameters[:4], start=1):
            if value is not None:
                self._check(node, position, value[~_dead(x, 1)])

    def _check(self, node: fx.Node, position: int, expected: Tensor) -> None:
        name = str(node.args[position].target)
        actual = self._after[name]
        assert actual.shape == expected.shape, (
            f"{node.name}: `{name}` has shape {tuple(actual.shape)}, but what flows in leaves {tuple(expected.shape)}"
        )
        assert torch.equal(actual, expected), f"{node.name}: `{name}` holds the values of other channels"


def _dead(x: Tensor, axis: int) -> Tensor:
    """Tell of each channel whether NaN is in it."""
    return x.isnan().movedim(axis, -1).flatten(0, -2).any(0)
