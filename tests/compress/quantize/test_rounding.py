"""Rounding held against the nearest codes, against arithmetic, and against what the bundled network answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeslim.compress import fold
from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.rounding import (
    METHODS,
    Grids,
    parameters,
    round_side_by_side,
    round_weights,
    with_grids,
)
from edgeslim.errors import BadInput, BadModel
from edgeslim.grid import sqnr_db
from edgeslim.model.fake_quant import simulate
from edgeslim.model.fitting.least_squares import gptq, moments_of, rows_of
from edgeslim.model.graph import batched, layers_of, output_nodes, values_of
from edgeslim.model.load import load_model
from edgeslim.model.numerics import EdgeNumerics
from tests.support.small_models import Passing, context, headed, model_of, random_images, randomized

IMAGES = list(random_images(12).tensors())
MANY = list(random_images(96, seed=3).tensors())


def folded(network: nn.Module):
    return fold.apply(model_of(network.eval()), fold.Settings(), context(random_images(4))).graph


def of_every_kind() -> nn.Module:
    """Return a network with dense, depthwise, grouped and padded convolutions and an addition."""

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.last(self.grouped(self.depthwise(x).relu()) + x).relu())

    return randomized(
        Passing(
            forward,
            stem=nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU6()),
            depthwise=nn.Conv2d(6, 6, 3, padding=1, groups=6),
            grouped=nn.Conv2d(6, 6, 3, padding="same", groups=2),
            last=nn.Conv2d(6, 6, 3, padding="same"),
            head=headed(),
        )
    )


def correlated(inputs: int, outputs: int, seed: int):
    """Return inputs that say nearly the same as one another, their X'X, and weights for them; one group."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((1, 64, inputs), generator=generator, dtype=torch.float64)
    x = x + 2 * torch.randn((1, 64, 1), generator=generator, dtype=torch.float64)
    weight = torch.randn((1, inputs, outputs), generator=generator, dtype=torch.float64)
    return x, x.transpose(1, 2) @ x, weight


def steps_of(weight: torch.Tensor, limit: int) -> torch.Tensor:
    return weight.abs().amax(1) / limit


def nearest(weight: torch.Tensor, scales: torch.Tensor, limit: int) -> torch.Tensor:
    return (weight / scales.unsqueeze(1)).round().clamp(-limit, limit) * scales.unsqueeze(1)


def output_error(x, weight, rounded) -> float:
    return float(((x @ (weight - rounded)) ** 2).sum())


@settings(max_examples=30, deadline=None)
@given(
    inputs=st.integers(2, 90), outputs=st.integers(1, 4), limit=st.sampled_from([1, 3, 7, 127]), seed=st.integers(0, 99)
)
def test_every_code_is_a_whole_number_within_its_limit_which_each_channel_reaches(inputs, outputs, limit, seed):
    _, xx, weight = correlated(inputs, outputs, seed)
    scales = steps_of(weight, limit)
    codes = gptq(weight, xx, scales, limit, 1e-2) / scales.unsqueeze(1)
    assert float((codes - codes.round()).abs().max()) < 1e-9, "a weight lies between two codes"
    assert codes.round().abs().amax(1).tolist() == [[limit] * outputs], "a channel misses or exceeds its limit"


@pytest.mark.parametrize("seed", range(5))
def test_rounded_together_weights_err_less_at_the_output_than_each_rounded_alone(seed):
    x, xx, weight = correlated(100, 8, seed)
    scales = steps_of(weight, 7)
    together = output_error(x, weight, gptq(weight, xx, scales, 7, 1e-2))
    assert together < 0.5 * output_error(x, weight, nearest(weight, scales, 7))


def test_of_two_inputs_the_second_makes_up_for_the_first():
    x, xx, _ = correlated(3, 1, 0)
    x[..., 1] = x[..., 2] = x[..., 0]  # all three always say the same: only the sum of the weights counts
    xx = x.transpose(1, 2) @ x
    weight = torch.tensor([[[7.0], [2.4], [2.4]]], dtype=torch.float64)
    rounded = gptq(weight, xx, torch.ones((1, 1), dtype=torch.float64), 7, 1e-6)
    assert float(rounded.sum()) == 12.0, f"{rounded.flatten().tolist()}: the nearest codes sum up to 11"
    assert float(rounded[0, 0, 0]) == 7.0, "the largest weight left its limit"


def test_inputs_without_correlation_are_rounded_to_their_nearest_codes():
    _, _, weight = correlated(70, 4, 1)
    scales = steps_of(weight, 7)
    variances = torch.diag(torch.linspace(1, 5, 70, dtype=torch.float64)).unsqueeze(0)
    torch.testing.assert_close(gptq(weight, variances, scales, 7, 1e-2), nearest(weight, scales, 7))


def test_each_group_is_rounded_as_if_it_were_alone():
    parts = [correlated(9, 2, seed) for seed in range(4)]
    weight, xx = (torch.cat([part[i] for part in parts]) for i in (2, 1))
    scales = steps_of(weight, 3)
    together = gptq(weight, xx, scales, 3, 1e-2)
    for i, (_, own, alone) in enumerate(parts):
        torch.testing.assert_close(together[i : i + 1], gptq(alone, own, scales[i : i + 1], 3, 1e-2))


@pytest.mark.parametrize("images", [IMAGES, MANY], ids=["fewer images than inputs", "many images"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_rounded_weights_take_as_many_codes_as_their_bits_hold_and_the_graph_stays(method, per_channel, images):
    graph = folded(of_every_kind())
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    rounded = round_weights(graph, images, 4, per_channel, method, ends_bits=8)
    layers = layers_of(rounded)
    for name, node in layers.items():
        limit = 127 if name in (next(iter(layers)), list(layers)[-1]) else 7
        weight = parameters(rounded, node)[0].flatten(1)
        scale = (weight.abs().amax(1, keepdim=True) if per_channel else weight.abs().amax()) / limit
        codes = weight / scale
        assert torch.isfinite(codes).all(), f"{name}: NaN"
        assert float((codes - codes.round()).abs().max()) < 1e-3, f"{name} is off its grid"
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items()), "the graph changed"


@pytest.mark.parametrize("method", METHODS)
def test_a_corrected_bias_gives_every_layer_the_mean_output_of_the_dense_one(method):
    graph = folded(nn.Conv2d(3, 6, 3, padding=1))
    rounded = round_weights(graph, MANY, 3, True, method)
    images = torch.cat(MANY)
    error = (rounded(images) - batched(graph)(images)).detach().mean((0, 2, 3))
    assert float(error.abs().max()) < 1e-5


def test_without_bias_correction_gptq_keeps_the_bias_and_fits_the_weights_to_what_it_leaves():
    dense = batched(folded(of_every_kind()))
    rounded = batched(dense)
    grids = Grids(dict.fromkeys(layers_of(dense), 7), correct_bias=False)
    round_side_by_side(dense, rounded, MANY, grids, {}, "gptq")
    for name, node in layers_of(rounded).items():
        assert torch.equal(parameters(rounded, node)[1], parameters(dense, layers_of(dense)[name])[1]), name
    assert sqnr_db(dense(MANY[0]).detach().numpy(), rounded(MANY[0]).detach().numpy()) > 10


def test_layers_that_are_not_named_stay_as_they_are_and_later_ones_make_up_for_earlier_ones():
    dense = batched(folded(of_every_kind()))
    first, *rest = layers_of(dense)

    def noise(names, method) -> float:
        rounded = batched(dense)
        scales = round_side_by_side(dense, rounded, MANY, Grids(dict.fromkeys(names, 3)), {}, method)
        assert list(scales) == list(names)
        for name in set(layers_of(dense)) - set(names):
            old, new = (parameters(graph, layers_of(graph)[name])[0] for graph in (dense, rounded))
            assert torch.equal(old, new), f"{name} changed"
        return sqnr_db(dense(MANY[1]).detach().numpy(), rounded(MANY[1]).detach().numpy())

    assert noise([first, *rest], "gptq") > noise([first, *rest], "nearest") + 3
    assert noise([first], "gptq") > noise([first, *rest], "gptq")


def test_a_graph_with_grids_computes_what_a_plan_simulated_image_by_image_does():
    surroundings = context(random_images(12))
    model = fold.apply(model_of(of_every_kind()), fold.Settings(), surroundings)
    model = quantize.apply(model, quantize.Settings(), surroundings)
    wanted = simulate(model.graph, model.numerics, IMAGES)[output_nodes(model.graph)[0].name]
    found = with_grids(batched(model.graph), model.numerics.edges)(IMAGES[0]).detach()
    step = model.numerics.edges[output_nodes(model.graph)[0].name].scale
    assert float((found - wanted).abs().max()) <= 1.01 * step, "more than sums in another order explain"
    assert float((found - wanted).abs().mean()) < 0.2 * step


def test_a_grid_of_scale_zero_leaves_its_edge_as_it_is():
    graph = batched(folded(of_every_kind()))
    edge = next(iter(layers_of(graph)))
    gridded = with_grids(graph, {edge: EdgeNumerics(0.5, 128, edge)})
    assert not torch.equal(gridded(IMAGES[0]), graph(IMAGES[0])), "the grid rounds nothing"
    gridded.get_submodule("grids").get_buffer(edge).zero_()
    assert torch.equal(gridded(IMAGES[0]), graph(IMAGES[0]))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_padding_that_is_longer_behind_than_before_is_unfolded_as_the_convolution_reads_it():
    graph = folded(nn.Conv2d(3, 4, (2, 4), padding="same", dilation=(1, 3)))
    (node,) = layers_of(graph).values()
    weight, bias = parameters(graph, node)
    outputs = values_of(graph, IMAGES[0])[node.name]
    x, y = rows_of(node, weight, IMAGES[0], outputs, 1.0)
    torch.testing.assert_close(x[0] @ weight.flatten(1).T + bias, y[0], atol=1e-4, rtol=1e-4)
    assert moments_of(x, y).rows == 12 * 64


@pytest.mark.parametrize("method", METHODS)
def test_a_value_that_becomes_nan_is_named(method):
    network = Passing(lambda self, x: self.head(self.conv(x).sqrt()), conv=nn.Conv2d(3, 6, 3), head=headed())
    with pytest.raises(BadModel, match=r"`linear`.* NaN or infinite"):
        round_weights(fold.folded(randomized(network), model_of(network).input_shape)[0], IMAGES, 8, True, method)


@pytest.mark.parametrize(
    ("bits", "method", "images", "message"),
    [
        (8, "closest", IMAGES, "rounding is `closest`; expected nearest or gptq"),
        (1, "gptq", IMAGES, "1 bits hold no weights of both signs"),
        (8, "gptq", [IMAGES[0][:1]], "two images at least"),
    ],
)
def test_what_cannot_be_rounded_is_refused(bits, method, images, message):
    with pytest.raises(BadInput, match=message):
        round_weights(folded(of_every_kind()), images, bits, True, method)


def test_with_four_bits_the_bundled_network_keeps_five_decibels_more_rounded_together():
    model = load_model()
    data = model.task.read(None, model.facts)
    calibration = list(replace(data.calibration, images=data.calibration.images[:32]).tensors())
    held_out = next(replace(data.evaluation, images=data.evaluation.images[:64]).tensors())
    graph = fold.apply(model, fold.Settings(), context(data.calibration)).graph
    with torch.no_grad():
        wanted = batched(graph)(held_out).numpy()
        alone, together = (
            sqnr_db(wanted, np.asarray(round_weights(graph, calibration, 4, False, method)(held_out)))
            for method in METHODS
        )
    assert together > alone + 5, f"{together} dB instead of {alone}"
