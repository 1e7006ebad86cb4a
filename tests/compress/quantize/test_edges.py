"""Which edges there are, and which share one scale."""

import pytest
import torch
from torch import nn

from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.edges import fused_output, tie
from edgeslim.model.graph import layers_of, observe
from tests.support.small_models import Passing, context, folded_in, headed, random_images, randomized

IMAGES = random_images(12)
CONTEXT = context(IMAGES)


def quantized(network: nn.Module, **wanted):
    return quantize.apply(folded_in(CONTEXT, network), quantize.Settings(**wanted), CONTEXT)


def groups_of(network: nn.Module) -> dict[str, str]:
    return tie(folded_in(CONTEXT, network).graph)


def test_pooling_and_flattening_have_the_scale_of_what_they_read():
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 4))
    groups = groups_of(network)
    assert groups["relu"] == groups["max_pool2d"] == groups["flatten"], groups
    assert len({groups["input_1"], groups["relu"], groups["linear"]}) == 3, "edges are tied that nothing ties"
    edges = quantized(network).numerics.edges
    assert edges["relu"].tied_to == edges["max_pool2d"].tied_to == edges["flatten"].tied_to == "relu"
    assert edges["relu"] == edges["flatten"], "one group, two scales"


def test_a_concatenation_and_all_it_reads_share_one_scale_wide_enough_for_each():
    def forward(self, x):
        return torch.cat([self.wide(x) * self.five, self.narrow(x).relu()], 1).flatten(1)

    network = randomized(Passing(forward, wide=nn.Conv2d(3, 2, 1), narrow=nn.Conv2d(3, 2, 1)))
    network.five = nn.Buffer(torch.full((1, 2, 1, 1), 5.0))
    model = quantized(network, activation_range="minmax")
    edges = model.numerics.edges
    assert edges["mul"] == edges["relu"] == edges["cat"] == edges["flatten"], "the group has several scales"
    seen = {}
    observe(model.graph, IMAGES.tensors(), lambda name, value: seen.setdefault(name, []).append(value))
    values = torch.cat([value.flatten() for name in ("mul", "relu") for value in seen[name]])
    step = edges["cat"].scale
    assert edges["cat"].low - step <= values.min(), "the range ends above what a member reaches"
    assert edges["cat"].high + step >= values.max(), "the range ends below what a member reaches"


def test_the_pieces_of_a_split_share_the_scale_of_the_whole():
    def forward(self, x):
        a, b = self.conv(x).chunk(2, 1)
        return torch.cat([self.left(a), b], 1).flatten(1)

    groups = groups_of(Passing(forward, conv=nn.Conv2d(3, 4, 1), left=nn.Conv2d(2, 2, 1)))
    assert groups["conv2d"] == groups["getitem"] == groups["getitem_1"] == groups["cat"], groups


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Hardtanh])
def test_a_value_that_a_fused_activation_alone_reads_is_no_edge(activation):
    model = quantized(headed(nn.Conv2d(3, 6, 3), activation(inplace=True)))
    (layer, *_) = model.numerics.layers.values()
    assert "conv2d" not in model.numerics.edges, "the value before the fused activation is quantized"
    assert layer.output in model.numerics.edges
    assert layer.output != "conv2d", "the layer ends before its activation"


def test_a_value_that_others_read_too_is_an_edge_before_its_activation():
    def forward(self, x):
        y = self.conv(x)
        return (y.relu() + y).flatten(1)

    graph = folded_in(CONTEXT, Passing(forward, conv=nn.Conv2d(3, 4, 1))).graph
    node = layers_of(graph)["conv2d"]
    assert fused_output(node) is node, "the activation was fused although its input is read elsewhere"
    assert {"conv2d", "relu"} <= set(tie(graph)), "an edge is missing"


def test_a_sigmoid_has_the_scale_its_integer_kernels_fix():
    edge = quantized(headed(nn.Conv2d(3, 6, 3), nn.SiLU())).numerics.edges["sigmoid"]
    assert (edge.scale, edge.zero_point) == (1 / 256, 0)


def test_what_only_moves_a_sigmoids_values_keeps_its_scale_and_a_concatenation_with_others_does_not():
    def moved(self, x):
        return self.conv(x).sigmoid().flatten(1)

    def joined(self, x):
        y = self.conv(x)
        return torch.cat([y.sigmoid(), y], 1).flatten(1)

    edges = quantized(randomized(Passing(moved, conv=nn.Conv2d(3, 2, 1)))).numerics.edges
    assert edges["flatten"] == edges["sigmoid"]
    assert edges["sigmoid"].scale == 1 / 256, "the kernel will write another scale than planned"
    edges = quantized(randomized(Passing(joined, conv=nn.Conv2d(3, 2, 1)))).numerics.edges
    assert edges["sigmoid"] == edges["cat"]
    assert edges["cat"].low < 0, "the convolution's negative values are cut off"
