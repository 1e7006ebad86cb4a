"""A network that must compute the same is held against the one it was made from, and where they part is named."""

import copy
import math

import pytest
import torch
from torch import nn

from edgeslim.compress import fold
from edgeslim.errors import BadModel, ToolFailed
from edgeslim.model.equivalence import (
    EXACT_DB,
    LEAST_DB,
    Exactness,
    exactness,
    outputs_of,
    require_equal,
    require_traced,
)
from edgeslim.model.graph import layers_of, parameter
from tests.support.small_models import Passing, block, headed, model_of, of_every_kind, random_images, randomized

IMAGES = next(random_images(4, seed=1).tensors())


def folded(network: nn.Module):
    return fold.folded(network, model_of(network).input_shape)[0]


def changed(network: nn.Module, layer: str, factor: float):
    """Return the folded network with the weights of one layer wrong by a factor."""
    graph = folded(copy.deepcopy(network))  # which shares what it did not fold
    with torch.no_grad():
        parameter(graph, layers_of(graph)[layer].args[1]).mul_(factor)
    return graph


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (Exactness(LEAST_DB, None, None), True),
        (Exactness(LEAST_DB - 0.1, None, None), False),
        (Exactness(80.0, 74.0, 80.0), True),
        (Exactness(80.0, 73.9, 80.0), False),
        (Exactness(59.9, 80.0, 80.0), False),
        (Exactness(62.0, 60.0, 62.0), True),
        (Exactness(130.0, EXACT_DB - 6, 200.0), True),
        (Exactness(130.0, EXACT_DB - 6.1, 200.0), False),
    ],
)
def test_sixty_decibels_hold_and_six_below_what_the_network_itself_loses(found, holds):
    assert found.holds is holds


def test_a_fold_is_as_near_to_float64_as_the_module_is_itself():
    network = of_every_kind()
    found = require_equal("fold", network, folded(network), IMAGES)
    assert found.own_db is not None
    assert found.float64_db >= min(found.own_db, EXACT_DB) - 6


def test_the_module_is_asked_as_it_was_given_and_left_so():
    network = of_every_kind()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    require_equal("fold", network, folded(network), IMAGES)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("layer", ["conv2d_1", "linear"])
def test_a_wrong_step_is_named_with_the_node_where_the_networks_part(layer):
    network = of_every_kind()
    with pytest.raises(ToolFailed, match=rf"fold changed what the network computes: SQNR .* part at `{layer}`"):
        require_equal("fold", network, changed(network, layer, 1.01), IMAGES)


def test_an_error_that_passes_sixty_decibels_is_refused_where_the_network_is_better_itself():
    network = of_every_kind()
    wrong = changed(network, "linear", 1 + 1e-4)
    assert exactness(network, wrong, IMAGES).sqnr_db > LEAST_DB, "it is no smaller error"
    with pytest.raises(ToolFailed, match=r"dB against its float64, 90 dB demanded"):
        require_equal("fold", network, wrong, IMAGES)


def test_a_network_whose_code_insists_on_float32_is_held_to_sixty_decibels_alone():
    network = randomized(Passing(lambda self, x: self.net(x @ torch.eye(8)), net=headed(nn.Conv2d(3, 6, 3))))
    found = require_equal("torch.export", network, model_of(network).graph, IMAGES)
    assert found.own_db is None
    model = model_of(network).exactly("fold", "fold: 0 batch norms", folded(network), IMAGES)
    assert model.history == ("fold: 0 batch norms; held to 60 dB alone, for the network cannot be run in float64",)


@pytest.mark.parametrize("error", [TypeError, AssertionError, ValueError])
def test_whatever_a_module_raises_in_float64_it_is_only_not_run_there(error):
    class Insisting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = headed(nn.Conv2d(3, 6, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.dtype != torch.float32:
                raise error("float32, please")
            return self.net(x)

    network = randomized(Insisting())
    assert require_equal("fold", network, folded(network), IMAGES).own_db is None


@pytest.mark.parametrize("seed", range(6))
def test_a_fold_of_channels_with_a_mean_far_beyond_their_spread_is_no_fault(seed):
    network = randomized(headed(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)), seed)
    images = 1 + 0.01 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    for norm in (network[0], network[2]):
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    network(images)
    require_equal("fold", network.eval(), folded(network), images)


def test_what_lies_between_the_modules_is_known_too():
    network = randomized(
        Passing(lambda self, x: self.head(torch.relu(self.conv(x)) * 2.0), conv=nn.Conv2d(3, 6, 3), head=headed())
    )
    with pytest.raises(ToolFailed, match=r"part at `linear` \(module head.2\)"):
        require_equal("fold", network, changed(network, "linear", 1.01), IMAGES)


def test_weights_under_two_names_are_no_hindrance_in_float64():
    inner = block(3, 3)
    network = randomized(Passing(lambda self, x: self.head(self.b(self.a(x))), a=inner, b=inner, head=headed(width=3)))
    assert exactness(network, model_of(network).graph, IMAGES).own_db is not None
    assert {value.dtype for value in network.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_a_layer_under_two_names_gets_its_own_numbers_back():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    network = randomized(headed(layer, nn.ReLU(), layer, width=3))
    assert exactness(network, model_of(network).graph, IMAGES).own_db is not None
    assert network(IMAGES).dtype is torch.float32


def test_depthwise_convolutions_are_the_same_in_float64():
    network = randomized(headed(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6)))
    found = exactness(network, model_of(network).graph, IMAGES)
    assert found.own_db > 100, f"float64 computes something else: {found}"


def test_an_answer_that_changes_from_call_to_call_is_refused_by_name():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.calls = headed(nn.Conv2d(3, 6, 3)), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.net(x) * self.calls

    model = model_of(Counting())
    with pytest.raises(BadModel, match="a test answers the same image differently from call to call"):
        require_traced(model.network, model.graph, model.source, IMAGES)


def test_nan_is_the_networks_own_fault():
    network = headed(nn.Conv2d(3, 6, 3))
    with torch.no_grad():
        network[0].bias[0] = math.nan
    with pytest.raises(BadModel, match=r"`conv2d` \(module 0\) became NaN or infinite on an image"):
        require_traced(network, model_of(network).graph, "a test", IMAGES)


def test_a_network_that_answers_every_image_alike_is_refused():
    network = headed(nn.Conv2d(3, 6, 3))
    model = model_of(network)
    require_traced(network, model.graph, "a test", IMAGES)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
    with pytest.raises(BadModel, match="a test answers every image alike: its weights are zero"):
        require_traced(network, model_of(network).graph, "a test", IMAGES)
    require_traced(network, model_of(network).graph, "a test", IMAGES[:1].expand(4, -1, -1, -1))


def test_steps_are_held_against_the_users_module_until_one_changes_the_answers():
    network = of_every_kind()
    model = model_of(network)
    exact = model.exactly("fold", "fold", folded(network), IMAGES)
    assert exact.reference is network
    pruned = exact.after("prune", network=exact.network)
    assert pruned.reference is pruned.network
    assert (outputs_of(exact.reference, IMAGES)[0] == outputs_of(network, IMAGES)[0]).all()
