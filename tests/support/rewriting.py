"""A rewrite applied wherever it applies, and what came of it."""

import torch
from torch import Tensor, fx, nn

from edgeslim.compress.fold import folded
from edgeslim.compress.legalize.rewrites import rewrite_named
from edgeslim.compress.legalize.rules import violations
from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.devices.profile import load_profile
from edgeslim.model.graph import copy_of, trace
from tests.support.small_models import randomized

IMX93 = load_profile("nxp-imx93")


def limits(**changed: int) -> NpuLimits:
    """Return the limits of the i.MX 93 with some changed."""
    assert IMX93.npu is not None
    return IMX93.npu.model_copy(update=changed)


def rewritten(
    name: str, network: nn.Module, shape: tuple[int, ...], within: NpuLimits, seed: int = 0
) -> tuple[fx.GraphModule, fx.GraphModule, int]:
    """Return a folded network of random weights, the same after a rewrite, and how often it applied."""
    before, _ = folded(randomized(network, seed), shape)
    after, count = copy_of(before), 0
    rewrite = rewrite_named(name)
    for node in list(after.graph.nodes):
        if node.op == "call_function" and rewrite.applies(node, within):
            rewrite.rewrite(after, node, within)
            count += 1
    after.graph.eliminate_dead_code()
    after.graph.lint()
    after.recompile()
    return before, trace(after, shape), count


def broken(graph: fx.GraphModule, within: NpuLimits) -> set[str]:
    """Return the rules that a graph breaks."""
    return {one.rule for one in violations(graph, IMX93.model_copy(update={"npu": within}))}


@torch.no_grad()
def assert_same(before: fx.GraphModule, after: fx.GraphModule, shape: tuple[int, ...], seed: int = 0) -> None:
    """Hold two graphs against each other on noise, within what float rounding explains."""
    image = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    wanted, got = before(image), after(image)
    assert wanted.shape == got.shape
    error, scale = float((wanted - got).abs().max()), max(float(wanted.abs().max()), 1.0)
    assert error <= 1e-5 * scale, f"off by {error} of {scale}"


@torch.no_grad()
def outputs(graph: fx.GraphModule, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return what a graph makes of noise."""
    result: Tensor = graph(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))
    return result
