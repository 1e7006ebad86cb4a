"""The simulation of half precision: what is rounded, what overflows, what is kept."""

import torch
from torch import nn

from edgeslim.model.fp16_plan import LARGEST, HalfOperator, HalfPlan, load_half
from edgeslim.model.graph import layers_of, trace
from edgeslim.model.simulate_fp16 import HalfNetwork, is_operator, to_bfloat16, to_half
from tests.support.small_models import of_every_kind

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def linear(weight: float) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2, bias=False))
    with torch.no_grad():
        network[1].weight.fill_(weight)
    return network


@torch.no_grad()
def test_with_every_operator_kept_it_is_the_network_itself():
    graph = trace(of_every_kind(), (1, 3, 8, 8))
    kept = [n.name for n in graph.graph.nodes if is_operator(n)]
    found = HalfNetwork(graph, kept).run(IMAGE)
    assert torch.equal(found, graph(IMAGE)), "a kept operator was rounded"


@torch.no_grad()
def test_every_operators_output_lies_on_the_fp16_grid_and_near_the_fp32_value():
    graph = trace(of_every_kind(), (1, 3, 8, 8))
    found = HalfNetwork(graph).run(IMAGE)
    wanted = graph(IMAGE)
    assert torch.equal(found, to_half(found)), "the output is no fp16 number"
    assert not torch.equal(found, wanted), "nothing was rounded"
    assert torch.allclose(found, wanted, rtol=1e-2, atol=1e-2), "fp16 is further away than its digits allow"


@torch.no_grad()
def test_a_value_beyond_fp16_becomes_infinite_and_its_operator_is_named():
    graph = trace(linear(LARGEST), (1, 3, 8, 8))
    network = HalfNetwork(graph)
    found = network.run(IMAGE)
    assert bool(torch.isinf(found).all()), "an overflow stayed finite"
    assert network.first_overflow == next(iter(layers_of(graph))), "the first operator that overflowed is not named"


@torch.no_grad()
def test_bfloat16_keeps_the_range_and_loses_digits():
    graph = trace(linear(LARGEST), (1, 3, 8, 8))
    network = HalfNetwork(graph, rounding=to_bfloat16)
    found = network.run(IMAGE)
    assert network.first_overflow is None, "bfloat16 has the range of fp32"
    assert torch.allclose(found, graph(IMAGE), rtol=2**-6), "bfloat16 has 8 bits of fraction"


@torch.no_grad()
def test_fp16_ends_round_the_output_of_a_kept_operator():
    graph = trace(linear(0.1), (1, 3, 8, 8))
    kept = [n.name for n in graph.graph.nodes if is_operator(n)]
    found = HalfNetwork(graph, kept, io="fp16").run(IMAGE)
    assert torch.equal(found, to_half(graph(IMAGE))), "the file gives fp16, the simulation does not"


def test_a_plan_survives_its_file(tmp_path):
    one = HalfOperator("conv2d", "conv2d", "conv.weight", 7e4, -200.0, 50.1, "writes up to 7e+04")
    other = HalfOperator("relu", "relu", None, 2.0, 74.5, 52.0, None)
    plan = HalfPlan((one, other), "fp16", 50.0, 2.0, 32)
    plan.save(tmp_path / "half.json")
    assert load_half(tmp_path / "half.json") == plan, "writing and reading changed the plan"
    assert (list(plan.kept), one.precision, other.precision) == (["conv2d"], "fp32", "fp16"), (
        "the kept one has a reason"
    )
