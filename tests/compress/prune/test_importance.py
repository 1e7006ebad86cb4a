"""The order in which channels go: what nobody misses first, and never two that stand for each other."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgeslim.compress.prune.channels import channels_of
from edgeslim.compress.prune.importance import (  # fmt: skip
    CRITERIA,
    consumers_of,
    criterion_order,
    gradients_of,
    moments_by_layer,
    obs_order,
)
from edgeslim.compress.prune.workbench import images_of
from edgeslim.model.graph import batched, layers_of, parameter, trace
from edgeslim.tasks import classification
from tests.support.small_models import (  # fmt: skip
    SIDE,
    concatenated,
    flattened,
    grouped,
    headed,
    random_images,
    randomized,
    residual,
    shared,
)

IMAGES = images_of(random_images(128)).batches


def opened(network: nn.Module):
    """Return a network as a graph that takes batches, and its channels."""
    graph = batched(trace(network, (1, 3, SIDE, SIDE)))
    return graph, channels_of(graph)


def order_by_obs(network: nn.Module, name: str) -> list[int]:
    graph, channels = opened(network)
    consumers = consumers_of(graph, channels, channels.groups[name])
    moments = moments_by_layer(graph, [one.layer for one in consumers], IMAGES)
    return obs_order(graph, consumers, moments, channels.groups[name].width)


def two_layers(width: int = 32) -> nn.Module:
    return randomized(headed(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 6, 3), nn.ReLU()))


@pytest.mark.parametrize("width", [32, 96])
def test_a_channel_that_its_consumer_does_not_use_goes_first(width):
    network = two_layers(width)
    with torch.no_grad():
        network[2].weight[:, 17] = 0
    assert order_by_obs(network, "0")[0] == 17


@pytest.mark.parametrize("width", [32, 96])  # of more than 63, several go before the costs are looked at again
def test_of_two_channels_that_are_alike_only_one_goes_early(width):
    network = two_layers(width)
    with torch.no_grad():
        network[0].weight[9], network[0].bias[9] = network[0].weight[21], network[0].bias[21]
    order = order_by_obs(network, "0")
    assert order[0] in (9, 21)
    other = 9 + 21 - order[0]
    assert order.index(other) > width // 8, "both copies went, and nothing is left that says what they said"


def test_what_one_consumer_does_not_use_but_another_one_does_stays():
    network = randomized(residual())
    with torch.no_grad():
        network.first[0].weight[:, 5] = 0  # the head still reads it
        network.first[0].weight[:, 6] = 0
        network.head[2].weight[:, 6] = 0
    order = order_by_obs(network, "stem.0")
    assert order[0] == 6
    assert order[1] != 5


@pytest.mark.parametrize("make", [residual, grouped, concatenated, flattened])
def test_an_order_names_every_channel_of_every_group_once(make):
    network = randomized(make())
    _, channels = opened(network)
    for name, group in channels.groups.items():
        assert sorted(order_by_obs(network, name)) == list(range(group.width)), name


def test_a_group_of_one_channel_and_a_group_that_nobody_reads_have_an_order():
    graph, _ = opened(two_layers())
    assert obs_order(graph, [], {}, 1) == [0]
    assert sorted(obs_order(graph, [], {}, 40)) == list(range(40))


def by_hand(scores: torch.Tensor) -> list[int]:
    return torch.argsort(scores, stable=True).tolist()


def normed() -> nn.Module:
    return randomized(headed(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), width=32))


@pytest.mark.parametrize(
    ("criterion", "score"),
    [
        ("l1", lambda network: network[0].weight.abs().sum((1, 2, 3))),
        ("l2", lambda network: network[0].weight.square().sum((1, 2, 3)).sqrt()),
        ("bn_scale", lambda network: network[1].weight.abs()),
    ],
)
@torch.no_grad()
def test_a_criterion_orders_channels_by_its_formula(criterion, score):
    network = normed()
    network[1].weight[4:9] *= -1
    graph, channels = opened(network)
    found = criterion_order(graph, channels, channels.groups["0"], criterion, {})
    assert found == by_hand(score(network))


def test_taylor_orders_channels_by_weight_times_gradient_on_the_networks_own_answers():
    network = normed()
    for batch in IMAGES:
        logits = network(batch)
        functional.cross_entropy(logits, logits.detach().argmax(1)).backward()
    graph, channels = opened(network)
    found = criterion_order(
        graph, channels, channels.groups["0"], "taylor", gradients_of(graph, IMAGES, classification)
    )
    assert found == by_hand((network[0].weight * network[0].weight.grad).sum((1, 2, 3)).abs())
    assert all(weight.grad is None for weight in graph.parameters()), "gradients are left in the network itself"


def test_taylor_without_gradients_is_no_order():
    graph, channels = opened(normed())
    with pytest.raises(TypeError, match="needs gradients"):
        criterion_order(graph, channels, channels.groups["0"], "taylor", {})


@torch.no_grad()
def test_a_channel_that_several_layers_produce_is_worth_what_they_all_put_into_it():
    network = randomized(residual())
    graph, channels = opened(network)
    found = criterion_order(graph, channels, channels.groups["stem.0"], "l1", {})
    weights = network.stem[0].weight, network.second.weight
    assert found == by_hand(sum(weight.abs().sum((1, 2, 3)) for weight in weights))
    assert set(CRITERIA) == {"l1", "l2", "bn_scale", "taylor"}


# --- who reads a group's channels


def read_by(network: nn.Module, name: str) -> dict[str, list[list[int]]]:
    """Return for each consumer of a group, by its module, the columns of its unfolded inputs for every channel."""
    graph, channels = opened(network)
    modules = {node.name: str(node.args[1].target).removesuffix(".weight") for node in layers_of(graph).values()}
    found = consumers_of(graph, channels, channels.groups[name])
    return {modules[one.layer]: one.columns.tolist() for one in found}


def test_every_place_of_a_channel_is_a_column_of_a_linear_layer_behind_a_flattening():
    found = read_by(flattened(), "0.0")
    assert list(found) == ["3"]
    assert found["3"] == [list(range(16 * channel, 16 * channel + 16)) for channel in range(16)]


def test_every_tap_of_a_channel_is_a_column_of_a_convolution():
    found = read_by(two_layers(), "0")
    assert found == {"2": [list(range(9 * channel, 9 * channel + 9)) for channel in range(32)]}


def test_a_depthwise_convolution_passes_channels_on_and_reads_none():
    depthwise = nn.Conv2d(32, 32, 3, groups=32)
    assert list(read_by(headed(nn.Conv2d(3, 32, 1), depthwise, nn.Conv2d(32, 6, 1)), "0")) == ["2"]


def test_a_convolution_in_groups_reads_a_channel_in_every_group_at_the_same_columns():
    found = read_by(grouped(), "0.0")
    assert list(found) == ["1.0"]
    assert found["1.0"][2] == list(range(2 * 9, 3 * 9))
    assert len(found["1.0"]) == 16, "a channel is one of the first group together with its twin of the second"


def test_a_concatenation_shifts_the_columns_of_what_comes_later():
    found = read_by(concatenated(), "other.0")
    assert list(found) == ["head.0.0"]
    assert found["head.0.0"][0] == list(range(16, 17))
    assert set(read_by(concatenated(), "stem.0")) == {"one.0", "other.0", "head.0.0"}


def test_a_layer_used_twice_reads_once():
    assert sorted(read_by(shared(), "stem.0")) == ["body.0", "head.2"]


@torch.no_grad()
def test_moments_of_a_layer_are_those_of_what_enters_and_leaves_it():
    network = two_layers(8)
    graph, _ = opened(network)
    found = moments_by_layer(graph, ["conv2d_1"], IMAGES)["conv2d_1"]
    entering = network[1](network[0](torch.cat(list(IMAGES))))
    rows = functional.unfold(entering, 3).transpose(1, 2).reshape(-1, 72).double()
    leaving = network[2](entering).transpose(0, 1).flatten(1).double()
    assert found.rows == len(rows)
    torch.testing.assert_close(found.xx[0], rows.T @ rows, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(found.y[0], leaving.sum(1), rtol=1e-4, atol=1e-2)


@torch.no_grad()
def test_removing_a_channel_costs_what_a_new_least_squares_fit_without_it_loses():
    network = two_layers(8)
    graph, channels = opened(network)
    (consumer,) = consumers_of(graph, channels, channels.groups["0"])
    first = order_by_obs(network, "0")[0]
    node = layers_of(graph)[consumer.layer]
    weight = parameter(graph, node.args[1]).double().flatten(1).T
    entering = network[1](network[0](torch.cat(list(IMAGES))))
    rows = functional.unfold(entering, 3).transpose(1, 2).reshape(-1, 72).double()
    rows -= rows.mean(0)

    def error(channel: int) -> float:
        kept = rows[:, [i for i in range(72) if i // 9 != channel]]
        return float((kept @ torch.linalg.lstsq(kept, rows @ weight).solution - rows @ weight).square().sum())

    assert first == min(range(8), key=error)
