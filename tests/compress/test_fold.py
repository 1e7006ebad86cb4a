"""A folded network computes what the network computed, with a weight and a bias for every layer and no batch norm."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeslim.compress import fold
from edgeslim.errors import BadModel
from edgeslim.model.graph import ATEN, argument, layers_of, parameter
from tests.support.small_models import COLOR, Passing, context, headed, model_of, plain, random_images, randomized

CONTEXT = context(random_images(1))
IMAGES = next(random_images(4, seed=1).tensors())


def folded(network: nn.Module):
    return fold.apply(model_of(network), fold.Settings(), CONTEXT)


def assert_unchanged(network: nn.Module) -> torch.fx.GraphModule:
    """Fold a network; it must compute the same, without a batch norm, each layer with parameters of its own."""
    network.eval()
    graph = folded(copy.deepcopy(network)).graph
    for image in IMAGES.split(1):
        with torch.no_grad():
            torch.testing.assert_close(graph(image), network(image), rtol=1e-4, atol=1e-4)
    targets = {n.target for n in graph.graph.nodes}
    assert ATEN.batch_norm.default not in targets, "a batch norm is left"
    own = [str(argument.target) for layer in layers_of(graph).values() for argument in layer.args[1:3]]
    assert len(own) == 2 * len(layers_of(graph)), "a layer lacks a bias"
    assert len(set(own)) == len(own), f"layers share parameters: {own}"
    assert sorted(own) == sorted(dict(graph.named_parameters())), "parameters that nothing reads travel along"
    return graph


@settings(max_examples=8, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 6]),
    kernel=st.sampled_from([1, 3]),
    bias=st.booleans(),
    affine=st.booleans(),
    padding=st.sampled_from([0, 1, "same"]),
    seed=st.integers(0, 99),
)
def test_a_convolution_takes_the_batch_norm_behind_it(groups, kernel, bias, affine, padding, seed):
    norm = nn.BatchNorm2d(6, affine=affine)
    convolution = nn.Conv2d(6, 6, kernel, groups=groups, bias=bias, padding=padding)
    network = randomized(headed(nn.Conv2d(3, 6, 1), convolution, norm, nn.ReLU()), seed)
    graph = assert_unchanged(network)
    assert len(layers_of(graph)) == 3, "the batch norm became a layer of its own"


def test_a_linear_layer_takes_the_batch_norm_behind_it():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))
    graph = assert_unchanged(randomized(network))
    assert len(layers_of(graph)) == 2, "the batch norm became a layer of its own"


def test_a_batch_norm_that_stands_alone_becomes_a_depthwise_convolution():
    graph = assert_unchanged(randomized(headed(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 6, 3))))
    first = next(iter(layers_of(graph).values()))
    assert parameter(graph, first.args[1]).shape == (3, 1, 1, 1), "it is no depthwise 1x1 convolution"


@pytest.mark.parametrize("shape", [(192,), (3, 64)], ids=["vectors", "rows"])
def test_a_batch_norm_over_vectors_stands_alone_too(shape):
    network = nn.Sequential(nn.Flatten(), nn.Unflatten(1, shape), nn.BatchNorm1d(shape[0]), nn.ReLU(), nn.Flatten())
    assert_unchanged(randomized(network))


def test_a_batch_norm_over_rows_is_not_mistaken_for_one_over_the_channels_of_the_linear_layer_before_it():
    network = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3, 64)), nn.Linear(64, 3), nn.BatchNorm1d(3), nn.Flatten())
    assert_unchanged(randomized(network))


def test_a_batch_norm_over_channels_is_not_folded_into_a_linear_layer_along_the_width():
    graph = assert_unchanged(
        randomized(headed(nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.BatchNorm2d(8), nn.ReLU(), width=8))
    )
    assert len(layers_of(graph)) == 4, "the batch norm is no layer of its own"


def test_a_linear_layer_over_rows_becomes_one_over_a_matrix():
    network = Passing(
        lambda self, x: self.head(self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        layer=nn.Linear(3, 6),
        head=headed(nn.Conv2d(6, 6, 3)),
    )
    graph = assert_unchanged(randomized(network))
    assert [node.meta["val"].ndim for node in layers_of(graph).values()] == [2, 4, 2]


@pytest.mark.parametrize("other", ["the sum's other argument", 1.5])
def test_a_sum_with_a_factor_has_a_product_before_it(other):
    network = Passing(
        lambda self, x: self.net(torch.add(x, x.relu() if isinstance(other, str) else other, alpha=-0.25)), net=plain()
    )
    graph = assert_unchanged(randomized(network))
    assert not any(node.kwargs for node in graph.graph.nodes), "a factor is left"


@pytest.mark.parametrize("factor", [100, 0.25, -3.0])
def test_a_layer_times_a_number_is_a_layer_and_the_given_one_keeps_its_weights(factor):
    body = nn.Conv2d(3, 4, 3)
    network = randomized(Passing(lambda self, x: (self.body(x) * factor).flatten(1), body=body))
    before = body.weight.clone()
    graph = assert_unchanged(network)
    assert all(node.target is not ATEN.mul.Tensor for node in graph.graph.nodes), "the product is left"
    folded(network)
    assert torch.equal(body.weight, before), "the module that was given has other weights"


@pytest.mark.parametrize("product", ["of what others read", "of two"])
def test_a_product_that_is_no_factor_of_one_layer_alone_stays(product):
    def forward(self, x):
        value = self.body(x)
        return (value * 2 + value if product == "of what others read" else value * self.other(x)).flatten(1)

    graph = assert_unchanged(randomized(Passing(forward, body=nn.Conv2d(3, 4, 3), other=nn.Conv2d(3, 4, 3))))
    assert any(node.target is ATEN.mul.Tensor for node in graph.graph.nodes)


def test_an_average_counts_padding_where_there_is_none():
    graph = assert_unchanged(randomized(headed(nn.Conv2d(3, 6, 1), nn.AvgPool2d(2, count_include_pad=False))))
    (pool,) = [node for node in graph.graph.nodes if node.target is ATEN.avg_pool2d.default]
    assert argument(pool, "count_include_pad"), "TFLite has no INT8 kernel for it"


def test_a_dropout_that_drops_in_eval_mode_is_left_to_be_refused():
    network = Passing(lambda self, x: self.net(nn.functional.dropout(x, 0.5)), net=plain())
    graph, _ = fold.folded(network, model_of(network).input_shape)
    assert any(node.target is ATEN.dropout.default for node in graph.graph.nodes)


def test_a_batch_norm_in_training_mode_is_no_constant():
    network = Passing(
        lambda self, x: self.head(nn.functional.batch_norm(self.conv(x), torch.zeros(6), torch.ones(6), training=True)),
        conv=nn.Conv2d(3, 6, 3),
        head=headed(),
    )
    with pytest.raises(BadModel, match="normalizes by the statistics of its own batch"):
        folded(network)


def test_a_convolution_that_others_read_keeps_its_values():
    def forward(self, x):
        y = self.conv(x)
        return self.head(torch.cat([self.norm(y), y], 1))

    network = Passing(forward, conv=nn.Conv2d(3, 3, 3), norm=nn.BatchNorm2d(3), head=headed())
    assert_unchanged(randomized(network))


def test_a_convolution_used_twice_takes_each_of_its_batch_norms():
    def forward(self, x):
        x = self.first(self.conv(x)).relu()
        return self.head(self.second(self.conv(x)) + self.conv(x))

    network = Passing(
        forward,
        conv=nn.Conv2d(3, 3, 3, padding=1),
        first=nn.BatchNorm2d(3),
        second=nn.BatchNorm2d(3),
        head=headed(width=3),
    )
    graph = assert_unchanged(randomized(network))
    assert len(layers_of(graph)) == 4, "the three uses of the convolution and the head are four layers"


class Functional(nn.Module):
    """Two convolutions written as functions over parameters of one module, and modules named as nodes will be."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.wide = nn.Parameter(torch.randn((6, 3, 3, 3), generator=generator))
        self.narrow = nn.Parameter(torch.randn((6, 6, 1, 1), generator=generator))
        self.first, self.second = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.conv2d = nn.Conv2d(6, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.conv2d(self.first(torch.conv2d(x, self.wide)), self.narrow))
        return self.conv2d(y)


@pytest.mark.parametrize("wrap", [lambda body, head: nn.Sequential(body, *head), lambda body, head: body])
def test_parameters_of_one_module_are_not_mixed_up_whatever_their_names(wrap):
    assert_unchanged(randomized(wrap(Functional(), headed())))


ACTIVATIONS = [nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nothing_changes_its_input_in_place_afterwards(activation):
    graph = assert_unchanged(randomized(headed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), activation(inplace=True))))
    in_place = [str(n.target) for n in graph.graph.nodes if "_." in str(n.target)]
    assert not in_place, f"operators that change their input are left: {in_place}"


def test_whoever_reads_a_value_after_it_was_changed_in_place_reads_the_change():
    def forward(self, x):
        y = self.conv(x)
        before = self.conv(y)
        changed = nn.functional.relu(y, inplace=True)
        after = y + before  # y is the rectified one by now
        after += changed
        after *= 0.5
        return self.head(after)

    network = Passing(forward, conv=nn.Conv2d(3, 3, 3, padding=1), head=headed(width=3))
    assert_unchanged(randomized(network))


def test_silu_dropout_and_global_pooling_are_written_in_one_way():
    network = headed(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Dropout(0.5), nn.Dropout(0.5, inplace=True))
    operators = {str(n.target) for n in assert_unchanged(randomized(network)).graph.nodes if n.op == "call_function"}
    assert operators == {
        f"aten.{name}"
        for name in (
            "conv2d.default",
            "sigmoid.default",
            "mul.Tensor",
            "mean.dim",
            "flatten.using_ints",
            "linear.default",
        )
    }, "an operator was left in the form of its exporter's choice"


def test_a_batch_norm_without_statistics_is_refused_since_it_has_no_constants():
    with pytest.raises(BadModel, match="`batch_norm` normalizes by the statistics of its own batch"):
        folded(headed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)))


def test_the_dense_model_stays_as_it_was_and_history_gains_a_line():
    dense = model_of(randomized(plain()))
    before = dense.weights_sha256()
    after = fold.apply(dense, fold.Settings(), CONTEXT)
    assert dense.weights_sha256() == before, "folding changed the network it was given"
    assert after.history == ("fold: 1 batch norms",)
    assert dense.history == (), "the dense model's history changed"


def test_folding_twice_changes_nothing():
    once = folded(randomized(plain()))
    twice = fold.apply(once, fold.Settings(), CONTEXT)
    assert twice.weights_sha256() == once.weights_sha256()
    assert once.input_shape == (1, COLOR.channels, COLOR.height, COLOR.width)
