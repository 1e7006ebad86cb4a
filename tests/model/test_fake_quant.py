"""A plan simulated in PyTorch, held against arithmetic and against the float network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeslim.compress import fold
from edgeslim.compress.quantize import step as quantize
from edgeslim.model.fake_quant import fake_quantize, fake_quantize_weight, part_of, simulate, simulate_layer
from edgeslim.model.graph import layers_of, output_nodes, parameter, values_of
from edgeslim.model.numerics import LEVELS, EdgeNumerics, Numerics
from tests.support.small_models import Passing, context, headed, model_of, random_images, randomized

IMAGES = random_images(8)
BATCH = next(iter(IMAGES.tensors()))[:3]
NOTHING = Numerics({}, {})


def branched() -> nn.Module:
    """Return a residual network with a fused ReLU6, a depthwise layer and a linear head."""

    def forward(self, x):
        x = self.stem(x)
        return self.head((self.depthwise(x) + x).relu())

    return randomized(
        Passing(
            forward,
            stem=nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU6()),
            depthwise=nn.Conv2d(6, 6, 3, padding=1, groups=6),
            head=headed(),
        )
    )


@pytest.fixture(scope="module")
def dense():
    return fold.apply(model_of(branched()), fold.Settings(), context(IMAGES))


@pytest.fixture(scope="module")
def planned(dense):
    return quantize.apply(dense, quantize.Settings(), context(IMAGES))


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(2.0**-10, 2.0**3, width=32),
    zero_point=st.integers(0, LEVELS),
    value=st.floats(-1e4, 1e4, width=32),
)
def test_a_rounded_value_is_the_nearest_level_and_stays_there(scale, zero_point, value):
    edge = EdgeNumerics(scale, zero_point, "x")
    rounded = fake_quantize(torch.tensor([value]), edge)
    levels = (np.arange(LEVELS + 1) - zero_point) * scale
    assert abs(float(rounded[0]) - value) <= np.abs(levels - value).min() + 1e-6 * max(abs(value), scale)
    assert torch.equal(fake_quantize(rounded, edge), rounded), "a level is not its own nearest level"


def test_halves_go_to_the_even_code_and_what_lies_outside_to_the_last_one():
    edge = EdgeNumerics(1.0, 10, "x")
    values = fake_quantize(torch.tensor([0.5, 1.5, 2.5, -20.0, 1000.0]), edge)
    assert values.tolist() == [0.0, 2.0, 2.0, -10.0, 245.0]


def test_a_weight_on_its_grid_comes_back_to_the_last_bit(planned):
    for name, node in layers_of(planned.graph).items():
        weight = parameter(planned.graph, node.args[1])
        assert torch.equal(fake_quantize_weight(weight, planned.numerics.layers[name].weight_scales), weight), name


def test_a_weight_off_its_grid_goes_to_the_nearest_code_of_its_channel():
    weight = torch.tensor([[0.26, -1.27, 9.0], [0.26, -1.27, 12.7]])
    assert fake_quantize_weight(weight, (0.01, 0.1)).tolist() == [
        pytest.approx([0.26, -1.27, 1.27]),
        pytest.approx([0.3, -1.3, 12.7]),
    ]


def test_an_empty_plan_leaves_the_float_network(dense):
    wanted, found = values_of(dense.graph, BATCH), simulate(dense.graph, NOTHING, [BATCH])
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_every_planned_edge_lies_on_its_grid_and_nothing_else_does(planned):
    values = simulate(planned.graph, planned.numerics, [BATCH[:2], BATCH[2:]])
    for name, edge in planned.numerics.edges.items():
        assert len(values[name]) == 3, f"{name}: an image is missing"
        assert torch.equal(fake_quantize(values[name], edge), values[name]), name
    stem = planned.numerics.layers["conv2d"]
    assert stem.output == "hardtanh", "the first layer's activation is not fused"
    before = values["conv2d"]
    assert not torch.equal(fake_quantize(before, planned.numerics.edges[stem.output]), before), (
        "what lies before a fused activation was rounded"
    )


def test_a_dense_network_under_the_plan_has_the_weights_of_the_plan(dense, planned):
    part = part_of(planned.numerics, ["conv2d"])
    plan = Numerics({}, part.layers)
    by_hand = values_of(dense.graph, BATCH)["conv2d"]
    node = layers_of(dense.graph)["conv2d"]
    weight, bias = (parameter(dense.graph, argument).detach() for argument in node.args[1:3])
    on_grid = fake_quantize_weight(weight, part.layers["conv2d"].weight_scales)
    wanted = nn.functional.conv2d(BATCH, on_grid, bias, padding=1)
    found = simulate(dense.graph, plan, [BATCH])["conv2d"]
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, by_hand, atol=1e-5), "the weight was not rounded"


def test_a_part_of_a_plan_rounds_only_what_its_layers_read_and_write(dense, planned):
    part = part_of(planned.numerics, ["conv2d_1"])
    layer = planned.numerics.layers["conv2d_1"]
    assert set(part.edges) == {layer.inputs, layer.output}
    values, floats = simulate(planned.graph, part, [BATCH]), values_of(planned.graph, BATCH)
    changed = {name for name in values if not torch.equal(values[name], floats[name])}
    assert "conv2d" not in changed, "what comes before was rounded"
    assert {layer.inputs, layer.output} <= changed


def test_a_layer_kept_float_has_no_edges_of_its_own(dense):
    kept = quantize.apply(dense, quantize.Settings(keep_float=("depthwise",)), context(IMAGES)).numerics
    name = next(name for name, layer in kept.layers.items() if layer.precision == "fp32")
    assert part_of(kept, [name]).edges == {}


@pytest.mark.parametrize("name", ["conv2d", "conv2d_1", "linear"])
def test_a_layer_alone_computes_what_the_plan_of_it_alone_does(planned, name):
    layer = planned.numerics.layers[name]
    whole = simulate(planned.graph, part_of(planned.numerics, [name]), [BATCH])
    source = values_of(planned.graph, BATCH)[layer.inputs]
    torch.testing.assert_close(simulate_layer(planned.graph, planned.numerics, name, source), whole[layer.output])


def test_simulated_logits_are_near_the_float_ones_and_not_equal(dense, planned):
    logits = output_nodes(dense.graph)[0].name
    wanted = values_of(dense.graph, BATCH)[logits]
    found = simulate(planned.graph, planned.numerics, [BATCH])[logits]
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert 0 < error < 0.1
