"""The training loop held against what it promises: what learns, what is kept, how often an image comes, how it ends."""

import time

import pytest
import torch
from torch import Tensor, fx

from edgeslim.errors import BadInput
from edgeslim.model.fitting.training import Schedule, Trained, steps_within, train
from edgeslim.model.graph import ATEN, batched, forward, trace
from tests.support.small_models import COLOR, SIDE, block, headed, random_images, randomized

IMAGES = random_images(96)
SHAPE = (1, 3, SIDE, SIDE)


def graph(seed: int = 0) -> fx.GraphModule:
    return batched(trace(randomized(headed(block(3, 16), block(16, 16), width=16), seed), SHAPE))


TEACHER = graph(1)


def apart(outputs: tuple[Tensor, ...], inputs: Tensor, places: Tensor) -> Tensor:
    """Return how far outputs are from those of the teacher."""
    with torch.no_grad():
        wanted = forward(TEACHER, inputs)
    return (outputs[0] - wanted[0]).square().mean()


def trained(network: fx.GraphModule, loss=apart, steps: int = 30, rate: float = 0.02, seed: int = 0) -> Trained:
    return train(network, IMAGES, loss, Schedule(steps, 32, rate, seed), lambda done, total: None)


def state(network: fx.GraphModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_every_number_of_layers_and_norms_learns_and_the_graph_is_left_as_it_was() -> None:
    network = graph()
    before = state(network)
    code = network.code
    found = trained(network)
    assert found.steps == 30
    assert found.stopped is None
    assert found.last_loss < 0.5 * found.first_loss, "it does not come nearer"
    for name, value in network.named_parameters():
        assert not torch.equal(value, before[name]), f"{name} does not learn"
        assert not value.requires_grad
    norms = [node for node in network.graph.nodes if node.target is ATEN.batch_norm.default]
    assert len(norms) == 2
    assert all(node.args[5] is False for node in norms), "the norms still normalize by their batches"
    assert network.code == code


def test_the_same_call_gives_the_same_bytes_and_another_seed_others() -> None:
    networks = [graph() for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        trained(network, seed=seed)
    one, again, other = map(state, networks)
    assert same(one, again)
    assert not same(one, other)


def test_every_image_comes_once_before_any_comes_again() -> None:
    seen: list[int] = []

    def noting(outputs: tuple[Tensor, ...], inputs: Tensor, places: Tensor) -> Tensor:
        assert torch.equal(inputs, torch.cat(list(IMAGES.at(places.numpy()).tensors())))
        seen.extend(places.tolist())
        return apart(outputs, inputs, places)

    trained(graph(), noting, steps=6)
    everything = sorted(range(96))
    assert sorted(seen[:96]) == sorted(seen[96:]) == everything
    assert seen[:96] not in (everything, seen[96:]), "in no random order"


def test_norms_end_with_the_statistics_of_the_images() -> None:
    network = graph()
    for name, value in network.named_buffers():
        if "running" in name:
            value.fill_(100.0)
    trained(network, steps=1, rate=1e-12)
    images = torch.cat(list(IMAGES.tensors()))
    first = next(node for node in network.graph.nodes if node.target is ATEN.conv2d.default)
    weight = dict(network.named_parameters())[str(first.args[1].target)]
    rows = torch.nn.functional.conv2d(images, weight, padding=1)
    means = [value for name, value in network.named_buffers() if "running_mean" in name]
    assert torch.allclose(means[0], rows.mean((0, 2, 3)), atol=1e-4)


def test_a_large_gradient_moves_no_further_than_a_clipped_one() -> None:
    network = graph()
    before = state(network)
    trained(network, lambda *given: 1e6 * apart(*given), steps=1, rate=0.01)
    moved = sum(float((value - before[name]).square().sum()) for name, value in network.named_parameters()) ** 0.5
    norm = sum(float(value.square().sum()) for value in before.values()) ** 0.5
    assert 0.0 < moved <= 0.01 * 1.9 * (5.0 + 5e-4 * norm)  # Nesterov's first step is 1.9 times the gradient


def test_a_loss_that_is_no_number_ends_it_with_the_last_good_weights() -> None:
    seen: list[dict[str, Tensor]] = []
    network = graph()

    def breaking(outputs: tuple[Tensor, ...], inputs: Tensor, places: Tensor) -> Tensor:
        seen.append({name: value.detach().clone() for name, value in network.named_parameters()})
        return apart(outputs, inputs, places) * (float("nan") if len(seen) == 3 else 1.0)

    found = trained(network, breaking)
    assert (found.steps, found.stopped) == (2, 3)
    assert same(seen[1], state(network)), "the weights are those whose step led to it"
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_a_gradient_that_is_no_number_in_the_last_step_is_undone() -> None:
    network = graph()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    found = trained(network, lambda outputs, *_: (outputs[0] * 0).sum().sqrt(), steps=1)
    assert found.stopped == 1
    assert same(before, state(network))


def test_the_time_for_all_steps_is_counted_with_what_a_loss_keeps_of_each_image() -> None:
    answered: set[int] = set()

    def slow_at_first(outputs: tuple[Tensor, ...], inputs: Tensor, places: Tensor) -> Tensor:
        if not answered.issuperset(places.tolist()):
            time.sleep(0.2)
        answered.update(places.tolist())
        return apart(outputs, inputs, places)

    network = graph()
    before = state(network)
    steps = steps_within(network, IMAGES, slow_at_first, seconds=2.0, batch=32)
    assert steps > 15, "each step is taken for as slow as one whose images come for the first time"
    assert same(before, state(network))


def test_a_time_below_one_step_is_refused_with_what_a_step_takes() -> None:
    with pytest.raises(BadInput, match=r"one step of training takes [\d.e-]+ s here, and 1e-07 s are given for all"):
        steps_within(graph(), IMAGES, apart, seconds=1e-7, batch=32)


def test_a_network_without_norms_is_trained_too() -> None:
    network = batched(trace(randomized(headed(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU())), (1, COLOR.channels, 8, 8)))
    before = state(network)
    trained(network, lambda outputs, *_: outputs[0].square().mean(), steps=3)
    assert not same(before, state(network))
