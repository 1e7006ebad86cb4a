"""A network seen as a graph: what is a layer, what it costs, and every value that flows in it."""

import pytest
import torch
from torch import nn

from edgeslim.errors import BadModel, Refused
from edgeslim.model.graph import (
    batched,
    input_of,
    is_folded,
    layers_of,
    macs_of,
    observe,
    output_nodes,
    parameter,
    rows,
    shape_of,
    trace,
    values_of,
)
from tests.support.small_models import CLASSES, SIDE, Passing, boxes_and_classes, depends_on_data, plain, randomized

SHAPE = (1, 3, SIDE, SIDE)


def test_a_traced_network_computes_what_the_network_computes():
    network, image = randomized(plain()), torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(trace(network, SHAPE)(image), network(image))


def test_a_network_in_training_is_traced_as_it_infers():
    values = values_of(trace(nn.Dropout(0.5).train(), SHAPE), torch.ones(SHAPE))
    assert all(bool((value == 1).all()) for value in values.values()), "dropout drops at inference"


def test_control_flow_that_depends_on_data_cannot_be_traced_and_the_reason_is_given():
    with pytest.raises(BadModel, match=r"cannot trace the model for an input of \(1, 3, 8, 8\): \w+: \S+"):
        trace(depends_on_data(), SHAPE)


def test_an_input_that_does_not_fit_cannot_be_traced():
    with pytest.raises(BadModel, match=r"expected input.* to have 3 channels"):
        trace(plain(), (1, 1, SIDE, SIDE))


def test_layers_come_in_the_order_of_execution_whatever_the_order_of_definition():
    network = Passing(
        lambda self, x: self.last(self.first(x)), last=nn.Conv2d(4, 2, 1), first=nn.Conv2d(3, 4, 3, padding="same")
    )
    graph = trace(network, SHAPE)
    weights = [parameter(graph, node.args[1]).shape for node in layers_of(graph).values()]
    assert weights == [(4, 3, 3, 3), (2, 4, 1, 1)]


def test_a_parameter_is_the_tensor_behind_a_node_and_none_for_what_is_computed():
    graph = trace(plain(), SHAPE)
    layer = layers_of(graph)["conv2d"]
    assert parameter(graph, layer.args[1]) is graph.get_submodule("0").weight
    assert parameter(graph, layer.args[0]) is None, "the input is no parameter"
    assert parameter(graph, None) is None, "a missing bias is no parameter"


def test_input_and_output_have_the_shapes_of_image_and_logits():
    graph = trace(plain(), SHAPE)
    assert shape_of(input_of(graph)) == SHAPE
    assert shape_of(*output_nodes(graph)) == (1, CLASSES)
    both = [shape_of(node) for node in output_nodes(trace(boxes_and_classes(), SHAPE))]
    assert both == [(1, CLASSES), (1, SIDE)], "they are not all outputs, in order"


@pytest.mark.parametrize(
    ("network", "macs"),
    [
        (nn.Conv2d(3, 6, 3), 6 * 6 * 6 * 27),
        (nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3), 4 * 4 * 6 * 9),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), 192 * 5),
        (nn.ReLU(), 0),
    ],
    ids=["conv", "grouped", "linear", "none"],
)
def test_multiply_accumulates_are_counted_as_by_hand(network, macs):
    assert macs_of(trace(network, SHAPE)) == macs


def test_every_image_of_every_batch_is_observed_alone_at_every_activation():
    graph, seen = trace(plain(), SHAPE), {}
    images = torch.randn((5, *SHAPE[1:]), generator=torch.Generator().manual_seed(2))
    observe(graph, [images[:3], images[3:]], lambda name, value: seen.setdefault(name, []).append(value))
    assert {len(values) for values in seen.values()} == {5}, "an image is missing somewhere"
    assert torch.equal(torch.cat(seen["input_1"]), images), "the images came in another order"
    assert not {"_0_weight", "_1_bias", "output"} & set(seen), "parameters are no activations"
    assert [tuple(row.shape) for row in rows([images])] == [SHAPE] * 5


def test_values_stay_what_they_were_when_an_operator_changes_its_input_afterwards():
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True))
    values = values_of(
        trace(randomized(network), SHAPE), torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    )
    assert float(values["conv2d"].min()) < 0, "the value before the activation was overwritten by it"
    torch.testing.assert_close(values["conv2d"].relu(), values["relu_"])


@torch.no_grad()
def test_a_network_that_folds_the_batch_into_another_axis_takes_batches():
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            n, c, h, w = x.shape
            return self.conv(x.reshape(n * 2, c, h // 2, w)).reshape(n, 8, h // 2, w).mean((2, 3))

    graph = trace(Folding(), (1, 3, 8, 8))
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(batched(graph)(images), torch.cat([graph(image) for image in images.split(1)]))


def test_a_network_that_mixes_the_images_of_a_batch_is_refused():
    class Mixing(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) + x.mean()

    with pytest.raises(Refused, match="mixes the images of a batch"):
        batched(trace(Mixing(), (1, 3, 8, 8)))


def test_folded_is_a_network_with_biases_and_without_batch_norms():
    plain, bare = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1, bias=False)
    shape = (1, 3, 8, 8)
    assert is_folded(trace(nn.Sequential(plain, nn.ReLU()), shape))
    assert not is_folded(trace(nn.Sequential(bare), shape))
    assert not is_folded(trace(nn.Sequential(plain, nn.BatchNorm2d(4)), shape))
