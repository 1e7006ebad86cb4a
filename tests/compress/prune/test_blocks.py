"""Residual blocks: which there are, that what is left computes the same without them, and what they cost."""

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from edgeslim.compress.prune.allocation import Problem, best_within, netadapt
from edgeslim.compress.prune.blocks import blocks_of, drop
from edgeslim.compress.prune.candidates import Judge, candidate
from edgeslim.compress.prune.channels import channels_of
from edgeslim.compress.prune.curves import Curve, Images
from edgeslim.compress.prune.sizes import sizes_of
from edgeslim.model.fitting.reconstruct import side_by_side
from edgeslim.model.graph import ATEN, batched, layers_of, macs_of, parameter, trace
from edgeslim.model.sources.torchvision import torchvision_models
from edgeslim.tasks import classification

SHAPE = (1, 3, 16, 16)


class Block(nn.Module):
    """Two convolutions beside a shortcut, itself a convolution where the channels change."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(entering, leaving, 3, 1, 1)
        self.two = nn.Conv2d(leaving, leaving, 3, 1, 1)
        self.shortcut = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(torch.relu(self.one(x)))
        y += self.shortcut(x)
        return torch.relu_(y)


class Residual(nn.Module):
    """A stem, three blocks, a classifier; with `skips[i]` the i-th block is its shortcut alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.blocks = nn.ModuleList([Block(8, 8), Block(8, 16), Block(16, 16)])
        self.classifier = nn.Linear(16, 5)
        self.skips = [False, False, False]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for block, skipped in zip(self.blocks, self.skips, strict=True):
            x = torch.relu(block.shortcut(x)) if skipped else block(x)
        return self.classifier(x.mean((2, 3)))


@pytest.fixture
def network():
    torch.manual_seed(3)
    return Residual().eval()


@pytest.mark.parametrize("gone", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_what_is_left_computes_what_the_network_does_without_the_blocks(network, gone: tuple[int, ...]) -> None:
    graph = trace(network, SHAPE)
    blocks = blocks_of(graph)
    assert list(blocks) == ["block blocks.0", "block blocks.1", "block blocks.2"]
    drop(graph, [blocks[f"block blocks.{number}"] for number in gone])
    network.skips = [number in gone for number in range(3)]
    image = torch.randn(SHAPE)
    assert torch.equal(graph(image), network(image))
    assert all(f"blocks.{number}.one.weight" not in dict(graph.named_parameters()) for number in gone)


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="torchvision is not installed; pip install 'edgeslim[torchvision]'",
)
@pytest.mark.parametrize(
    ("name", "count"), [("resnet18", 8), ("mobilenet_v2", 10), ("efficientnet_b0", 9), ("shufflenet_v2_x0_5", 0)]
)
def test_the_blocks_of_known_families_are_found(name: str, count: int) -> None:
    graph = trace(torchvision_models().get_model(name, weights=None), (1, 3, 64, 64))
    blocks = blocks_of(graph)
    assert len(blocks) == count
    before = macs_of(graph)
    drop(graph, blocks.values())
    assert not any(node.target in (ATEN.add.Tensor, ATEN.add_.Tensor) for node in graph.graph.nodes)
    assert graph(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    assert macs_of(graph) < before or not count


def test_a_sum_of_two_like_sides_is_no_block() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Conv2d(3, 8, 1) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return (self.a(x) + self.b(x)).mean((2, 3))

    assert not blocks_of(trace(Twins(), SHAPE))


def test_without_a_block_its_operators_cost_nothing(network) -> None:
    graph = trace(network, SHAPE)
    blocks = blocks_of(graph)
    sizes = sizes_of(graph, channels_of(graph), blocks)
    assert sizes.macs(sizes.dense) == macs_of(graph)
    widths = {**sizes.dense, "block blocks.1": 0}
    whole = len(sizes.operators(sizes.dense))
    assert len(sizes.operators(widths)) == whole - 3  # two convolutions and the sum
    drop(graph, [blocks["block blocks.1"]])
    assert sizes.macs(widths) == macs_of(graph)
    left = sum(parameter(graph, node.args[1]).numel() for node in layers_of(graph).values())
    assert sizes.parameters(widths) == left


def test_the_networks_run_side_by_side_where_one_lacks_a_block(network) -> None:
    dense = batched(trace(network, SHAPE))
    other = batched(trace(network, SHAPE))
    drop(other, [blocks_of(other)["block blocks.0"]])
    images = [torch.randn(3, 3, 16, 16), torch.randn(3, 3, 16, 16)]
    seen = []
    (one,), (two,) = side_by_side(dense, other, images, lambda node, *_: seen.append(node.name))
    for batch, left, right in zip(images, one, two, strict=True):
        assert torch.equal(left, dense(batch))
        assert torch.equal(right, other(batch))
    assert "conv2d" not in seen  # what comes before the block is the same in both
    assert not any(name in blocks_of(dense)["block blocks.0"].gone for name in seen)


def test_a_candidate_without_a_block_is_fitted_to_the_dense_network(network) -> None:
    for name, value in network.named_parameters():
        if ".two." in name:
            value.data *= 0.3
    dense = batched(trace(network, SHAPE))
    block = blocks_of(dense)["block blocks.2"]
    chance = torch.Generator().manual_seed(0)
    images = [Images(tuple(torch.randn(2, 32, 3, 16, 16, generator=chance)), str(n)) for n in range(2)]
    judge = Judge(dense, images[1], classification)
    found = candidate(dense, dense, channels_of(trace(network, SHAPE)), {}, [block], images[0], judge, "", None)
    assert found.dropped == (block,)
    bare = batched(trace(network, SHAPE))
    drop(bare, [block])
    wanted = dense(images[1].batches[0])
    assert (found.graph(images[1].batches[0]) - wanted).norm() < 0.9 * (bare(images[1].batches[0]) - wanted).norm()


def test_allocation_drops_the_block_that_loses_nothing_first(network) -> None:
    graph = trace(network, SHAPE)
    blocks = blocks_of(graph)
    sizes = sizes_of(graph, channels_of(graph), blocks)
    curves = {name: Curve(name, (0,), (1, 0), (0.0, 0.1 * n), (90.0, 90.0 - n)) for n, name in enumerate(blocks)}
    plan = Problem(curves, sizes, sizes.macs).plan({})
    assert plan.widths["block blocks.0"] == 1
    path = netadapt(Problem(curves, sizes, sizes.macs))
    best = best_within(Problem(curves, sizes, sizes.macs), path, plan.cost - 1)
    assert best is not None
    assert [best.widths[name] for name in blocks] == [0, 1, 1]
