"""A layer is its unfolded inputs times a matrix, and the sums over those rows are enough to find the matrix again."""

import pytest
import torch
from torch import Tensor, nn

from edgeslim.compress.prune.labels import groups_of
from edgeslim.model.fitting.least_squares import fit, from_matrix, matrix, moments_of, regularized, rows_of
from edgeslim.model.graph import layers_of, parameter, trace
from tests.support.small_models import SIDE, headed, random_images

IMAGES = next(random_images(6).tensors())

# torch says so once a process; the test is about what edgeslim makes of it.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
CONVOLUTIONS = {
    "3x3": {},
    "1x1": {"kernel_size": 1},
    "one row": {"kernel_size": (1, 3)},
    "strided": {"stride": 2},
    "strided differently down and across": {"stride": (2, 1)},
    "padded": {"padding": 1},
    "padded differently down and across": {"padding": (2, 0)},
    "padded as much as it takes": {"padding": "same"},
    "padded as much as it takes, an even kernel": {"kernel_size": 2, "padding": "same"},
    "padded as much as it takes, an even kernel dilated": {"kernel_size": 4, "padding": "same", "dilation": (1, 3)},
    "not padded, in words": {"padding": "valid"},
    "dilated": {"dilation": 2},
    "dilated, padded as much as it takes": {"dilation": (2, 1), "padding": "same"},
    "all at once": {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 1)},
    "without a bias": {"bias": False},
    "in groups": {"groups": 2},
    "depthwise": {"groups": 6},
    "depthwise, two filters each": {"groups": 6, "out_channels": 12},
}


def rows_times_matrix(layer: nn.Module, before: nn.Module, after: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a layer's rows give with its matrix and bias, its outputs as rows, and its outputs as they are."""
    graph = trace(nn.Sequential(before, layer, after), (1, 3, SIDE, SIDE))
    node = next(one for one in layers_of(graph).values() if str(one.args[1].target) == "1.weight")
    weight, bias = parameter(graph, node.args[1]), layer.bias
    entering = before(IMAGES)
    leaving = layer(entering)
    groups = 1 if isinstance(layer, nn.Linear) else groups_of(node)
    x, y = rows_of(node, weight, entering, leaving, 1.0)
    values = x.double() @ matrix(weight, groups)
    if bias is not None:
        values += bias.double().view(groups, 1, -1)
    return values, y.double(), leaving


@pytest.mark.parametrize("name", CONVOLUTIONS)
@torch.no_grad()
def test_the_rows_of_a_convolution_times_its_matrix_are_its_outputs(name):
    settings = {"out_channels": 6, "kernel_size": 3, **CONVOLUTIONS[name]}
    layer = nn.Conv2d(6, **settings)
    head = headed(width=settings["out_channels"])
    values, rows, outputs = rows_times_matrix(layer, nn.Conv2d(3, 6, 1), head)
    assert rows.numel() == outputs.numel(), "places are missing"
    torch.testing.assert_close(values, rows, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_rows_of_a_linear_layer_times_its_matrix_are_its_outputs():
    values, rows, outputs = rows_times_matrix(nn.Linear(3 * SIDE * SIDE, 5), nn.Flatten(), nn.Linear(5, 4))
    assert rows.shape == (1, *outputs.shape)
    torch.testing.assert_close(values, rows, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_share_of_the_places_is_the_same_part_of_inputs_and_outputs_every_time():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    graph = trace(headed(layer, width=4), (1, 3, SIDE, SIDE))
    (node, *_) = layers_of(graph).values()
    outputs = layer(IMAGES)
    x, y = rows_of(node, layer.weight, IMAGES, outputs, 0.25)
    again, _ = rows_of(node, layer.weight, IMAGES, outputs, 0.25)
    assert x.shape == (1, len(IMAGES) * SIDE * SIDE // 4, 27)
    assert torch.equal(x, again)
    torch.testing.assert_close(
        x.double() @ matrix(layer.weight, 1) + layer.bias.double(), y.double(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("groups", [1, 3])
def test_a_matrix_goes_back_into_the_weight_it_came_from(groups):
    weight = nn.Conv2d(6, 9, 3, groups=groups).weight.detach()
    assert torch.equal(from_matrix(matrix(weight, groups), weight), weight)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def halves(x: Tensor, y: Tensor):
    middle = x.shape[1] // 2
    return moments_of(x[:, :middle], y[:, :middle]), moments_of(x[:, middle:], y[:, middle:])


def assert_same_moments(one, other):
    assert one.rows == other.rows
    for name in ("x", "y", "xx", "xy", "yy"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-3)


def test_moments_of_batches_add_up_to_those_of_all_rows():
    x, y = drawn(2, 60, 5), drawn(2, 60, 3, seed=1)
    first, second = halves(x, y)
    assert_same_moments(first + second, moments_of(x, y))


def test_moments_are_the_sums_of_products_over_rows():
    x, y = drawn(2, 60, 5), drawn(2, 60, 3, seed=1)
    found = moments_of(x, y)
    assert found.rows == 60
    torch.testing.assert_close(found.xx, torch.einsum("gri,grj->gij", x.double(), x.double()), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.xy, torch.einsum("gri,gro->gio", x.double(), y.double()), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.yy, y.double().square().sum(1), rtol=1e-5, atol=1e-4)


def test_centred_moments_are_those_of_rows_without_their_means():
    x, y = 3 + drawn(2, 60, 5), drawn(2, 60, 3, seed=1) - 2
    plain = moments_of(x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True))
    for found, wanted in zip(moments_of(x, y).centred(), (plain.xx, plain.xy, plain.yy), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("groups", [1, 3])
def test_weights_are_found_again_from_outputs_without_noise(groups):
    x, truth = drawn(groups, 400, 6), drawn(groups, 6, 4, seed=1)
    fitted, ridge = fit(halves(x, x @ truth.float()), torch.zeros(groups, 6, 4).double(), centred=False)
    torch.testing.assert_close(fitted, truth.double(), rtol=1e-3, atol=1e-3)
    assert ridge == 1e-4, "without noise the data alone is best"


def test_a_constant_in_the_outputs_does_not_move_centred_weights():
    x, truth = 2 + drawn(1, 400, 6), drawn(1, 6, 4, seed=1)
    outputs = x @ truth + 5
    centred, _ = fit(halves(x, outputs), torch.zeros(1, 6, 4).double(), centred=True)
    torch.testing.assert_close(centred, truth.double(), rtol=1e-3, atol=1e-3)
    through_zero, _ = fit(halves(x, outputs), torch.zeros(1, 6, 4).double(), centred=False)
    assert (through_zero - truth).abs().max() > 0.1, "the constant is no test of being centred"


def test_what_fewer_rows_than_inputs_do_not_say_stays_as_it_was():
    x, prior = torch.zeros(1, 8, 40), drawn(1, 40, 4, seed=1).double()
    x[:, :, :4] = drawn(1, 8, 4)
    truth = prior.clone()
    truth[:, :4] += 1
    fitted, _ = fit(halves(x, x @ truth.float()), prior, centred=False)
    torch.testing.assert_close(fitted[:, 4:], prior[:, 4:], rtol=0, atol=1e-9)
    assert (fitted - truth)[:, :4].norm() < 0.2 * (prior - truth)[:, :4].norm(), "what they do say was not heard"


def test_outputs_of_nothing_but_noise_leave_the_weights_near_the_prior():
    x, prior = drawn(1, 20, 40), drawn(1, 40, 4, seed=1).double()
    noise = x @ prior.float() + drawn(1, 20, 4, seed=2) * 5
    fitted, ridge = fit(halves(x, noise), prior, centred=False)
    least_squares = prior + torch.linalg.pinv(x.double()) @ (noise.double() - x.double() @ prior)
    assert (fitted - prior).norm() < 0.5 * (least_squares - prior).norm()
    assert ridge == 1.0


def test_each_group_is_regularized_by_its_own_mean_diagonal():
    xx = torch.stack([torch.eye(3), 100 * torch.eye(3)]).double()
    diagonals = regularized(xx, 0.1).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonals, torch.tensor([[1.1] * 3, [110.0] * 3]).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.7])
def test_inputs_that_never_change_leave_the_weights_as_they_were(value):
    x, prior = torch.full((1, 2000, 9), value), drawn(1, 9, 4).double()
    fitted, _ = fit(halves(x, x @ prior.float()), prior, centred=True)
    torch.testing.assert_close(fitted, prior, rtol=1e-3, atol=1e-3)
