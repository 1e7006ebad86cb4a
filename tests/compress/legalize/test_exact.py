"""Exact rewrites: the rewritten network computes the same, on random weights, and breaks the rule no more."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from edgeslim.compress.legalize.rewrites import known_rewrites, rewrite_named
from edgeslim.compress.legalize.rules import MERGED_BOUNDS
from tests.support.npu_cases import behind, shuffled
from tests.support.rewriting import assert_same, broken, limits, rewritten
from tests.support.small_models import Passing

FEW = settings(max_examples=6, deadline=None)
SEEDS = st.integers(0, 99)


@FEW
@given(
    stride=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    kernel=st.integers(1, 4),
    padding=st.integers(0, 1),
    groups=st.sampled_from([1, 2, 4]),
    seed=SEEDS,
)
def test_a_large_stride_is_a_smaller_one_sampled(stride, kernel, padding, groups, seed):
    shape = (1, 4, 17, 14)
    network = nn.Conv2d(4, 8, kernel, stride, padding, groups=groups)
    before, after, count = rewritten("strides", network, shape, limits(), seed)
    assert count == (max(stride) > 3)
    assert_same(before, after, shape, seed)
    assert not broken(after, limits())


@FEW
@given(stride=st.integers(1, 9), kernel=st.integers(2, 5), seed=SEEDS)
def test_a_maximum_at_a_large_stride_is_one_at_a_smaller_stride_sampled(stride, kernel, seed):
    shape = (1, 4, 16, 20)
    before, after, count = rewritten("strides", nn.MaxPool2d(kernel, stride, kernel // 2), shape, limits(), seed)
    assert count == (stride > 3)
    assert_same(before, after, shape, seed)
    assert not broken(after, limits())


@FEW
@given(keep=st.booleans(), side=st.integers(2, 9), laid_out=st.booleans(), seed=SEEDS)
def test_a_mean_over_places_is_laid_out_for_the_npu(keep, side, laid_out, seed):
    shape = (1, 8, side, 5)
    network, _ = behind(lambda self, x: (x if laid_out else shuffled(x)).mean((2, 3), keepdim=keep).flatten(1), shape)
    before, after, count = rewritten("global_mean", network, shape, limits(), seed)
    assert count == 1
    assert broken(before, limits()) == (set() if keep and laid_out else {"means"})
    assert_same(before, after, shape, seed)
    assert not broken(after, limits())


@FEW
@given(keep=st.booleans(), seed=SEEDS)
def test_a_mean_over_channels_is_a_convolution(keep, seed):
    shape = (1, 8, 6, 5)
    network, _ = behind(lambda self, x: x.mean(1, keepdim=keep).flatten(1), shape)
    before, after, count = rewritten("channel_mean", network, shape, limits(), seed)
    assert count == 1
    assert broken(before, limits()) == ({"means"} if keep else set())
    assert_same(before, after, shape, seed)
    assert not broken(after, limits())


@FEW
@given(bounds=st.sampled_from([(0.0, 6.0), (-1.0, 1.0), (-4.0, 2.5), (0.0, 1.0)]), seed=SEEDS)
def test_a_clip_alone_gets_layers_it_can_be_merged_with(bounds, seed):
    shape = (1, 3, 4, 5)
    network = Passing(lambda self, x: functional.hardtanh(x, *bounds) + x)
    before, after, count = rewritten("clip", network, shape, limits(), seed)
    assert (count, broken(before, limits())) == (1, {"clips"} if bounds in MERGED_BOUNDS else set())
    assert_same(before, after, shape, seed)
    assert not broken(after, limits())


def test_a_relu6_alone_needs_one_layer_only():
    _, after, _ = rewritten("clip", nn.ReLU6(), (1, 3, 4, 4), limits())
    assert [n.name for n in after.graph.nodes if n.op == "call_function"] == ["conv2d", "hardtanh"]


@FEW
@given(kernel=st.integers(3, 7), stride=st.integers(1, 3), padded=st.booleans(), counted=st.booleans(), seed=SEEDS)
def test_an_average_over_a_large_window_is_a_depthwise_convolution(kernel, stride, padded, counted, seed):
    shape, within = (1, 3, 11, 9), limits(max_pool_height=2, max_padded_pool=2)
    network = nn.AvgPool2d(kernel, stride, kernel // 2 if padded else 0, count_include_pad=counted)
    before, after, count = rewritten("average_as_convolution", network, shape, within, seed)
    assert count == 1
    assert broken(before, within)
    assert_same(before, after, shape, seed)
    assert not broken(after, within)


def test_an_average_over_more_values_than_can_be_added_up_is_left_alone():
    for most, count in ((9 * 127, 1), (9 * 127 - 1, 0)):
        within = limits(max_pool_height=2, max_weight_sum=most)
        assert rewritten("average_as_convolution", nn.AvgPool2d(3, 1), (1, 3, 8, 8), within)[2] == count


@FEW
@given(kernel=st.tuples(st.integers(1, 9), st.integers(1, 9)), stride=st.integers(1, 4), seed=SEEDS)
def test_a_maximum_over_a_large_window_is_maxima_of_smaller_ones(kernel, stride, seed):
    shape, within = (1, 3, 14, 13), limits(max_pool_height=3, max_pool_area=9)
    padding = [min(1, k // 2) for k in kernel]
    before, after, count = rewritten("split_windows", nn.MaxPool2d(kernel, stride, padding), shape, within, seed)
    assert count == (max(kernel) > 3)
    assert_same(before, after, shape, seed)
    assert not broken(after, within) - {"pooling_strides"}


@FEW
@given(groups=st.sampled_from([2, 3, 4]), per_group=st.integers(1, 3), seed=SEEDS)
def test_a_channel_shuffle_is_a_convolution_with_a_permutation(groups, per_group, seed):
    shape = (1, groups * per_group, 4, 5)
    before, after, count = rewritten(
        "shuffle_as_convolution", Passing(lambda self, x: shuffled(x, groups)), shape, limits(), seed
    )
    assert count == 1
    assert [n.name for n in after.graph.nodes if n.op == "call_function"] == ["conv2d"]
    assert_same(before, after, shape, seed)


def test_no_exact_rewrite_says_more_than_its_tests_show():
    exact = {name for name in known_rewrites() if rewrite_named(name).EXACT}
    tested = "average_as_convolution channel_mean clip global_mean shuffle_as_convolution split_windows strides"
    assert exact == set(tested.split())


def test_a_dynamic_shape_is_fixed_by_tracing():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    dynamic = {0: torch.export.Dim("batch", min=1, max=8)}
    from edgeslim.compress.fold import folded
    from edgeslim.model.graph import graph_of

    graph = graph_of(torch.export.export(network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=(dynamic,)))
    fixed, _ = folded(graph, (1, 3, 8, 8))
    shapes = [node.meta["val"].shape for node in fixed.graph.nodes if "val" in node.meta]
    assert all(type(size) is int for shape in shapes for size in shape), shapes
