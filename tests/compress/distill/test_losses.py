"""Each loss: nothing where there is nothing to learn, a figure by hand, and what it is blind to."""

import pytest
import torch
from torch import nn

from edgeslim.compress.distill.losses import Mix, attention, features, relations, stages_of
from edgeslim.model.graph import batched, trace
from edgeslim.model.load import load_model
from edgeslim.tasks import classification
from tests.support.small_models import SIDE, randomized, residual

SHAPE = (1, 3, SIDE, SIDE)
IMAGES = torch.randn(12, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
ACTIVATION = torch.randn(12, 5, 4, 4, generator=torch.Generator().manual_seed(1))


def mix(**settings):
    """Return a loss of a network against another, and what both answer."""
    student, teacher = (batched(trace(randomized(residual(), seed), SHAPE)) for seed in (0, 1))
    made = Mix(student, teacher, classification, settings, 2.0, len(IMAGES), torch.arange(len(IMAGES)) % 4)
    return made, student, teacher


@pytest.mark.parametrize("loss", [features, attention])
def test_what_is_as_it_should_be_costs_nothing(loss) -> None:
    assert float(loss([ACTIVATION], [ACTIVATION])) == 0.0
    assert float(loss([ACTIVATION.flip(0)], [ACTIVATION])) > 0.1


def test_features_are_held_to_what_they_are() -> None:
    assert float(features([2 * ACTIVATION], [ACTIVATION])) == pytest.approx(1.0)
    assert float(features([2 * ACTIVATION, ACTIVATION], [ACTIVATION, ACTIVATION])) == pytest.approx(0.5)


def test_attention_sees_places_and_neither_channels_nor_sizes() -> None:
    assert float(attention([3 * ACTIVATION[:, [4, 0, 2, 1, 3]]], [ACTIVATION])) == pytest.approx(0.0, abs=1e-9)
    here, there = torch.zeros(2, 1, 2, 2), torch.zeros(2, 7, 2, 2)
    here[:, :, 0, 0], there[:, :, 1, 1] = 1.0, 1.0
    assert float(attention([here], [there])) == pytest.approx(2.0)  # of two vectors of length 1, one across the other


def test_relations_see_neither_rotations_nor_sizes() -> None:
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))[0]
    turned = 3 * torch.einsum("nchw,cd->ndhw", ACTIVATION, turn)
    assert float(relations(turned, ACTIVATION)) == pytest.approx(0.0, abs=1e-6)
    assert float(relations(ACTIVATION.flip(0), ACTIVATION)) > 0.1


def test_relations_of_two_triangles_are_those_of_the_paper() -> None:
    flat, right = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    lengths = [torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 1.0, 2.0**0.5])]
    first, second = (one / one.mean() for one in lengths)
    apart = (0.5 * (first - second) ** 2).mean()
    # At each corner its angle counts twice, and each of two sides with itself, whose cosine is 1 in both.
    cosines = torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.5**0.5, 0.5**0.5]])
    far = (cosines[0] - cosines[1]).abs()
    huber = torch.where(far < 1, 0.5 * far**2, far - 0.5)
    wanted = apart + 2 * 2 * huber.sum() / 27
    assert float(relations(flat[..., None, None], right[..., None, None])) == pytest.approx(float(wanted), rel=1e-5)


def test_equal_images_have_a_gradient_that_is_a_number() -> None:
    same = torch.ones(4, 3, 2, 2, requires_grad=True)
    relations(same, ACTIVATION[:4]).backward()
    assert same.grad is not None
    assert bool(torch.isfinite(same.grad).all())


def test_stages_end_where_images_become_smaller() -> None:
    graph = batched(load_model(None).graph)
    assert stages_of(graph, graph) == ["relu_2", "relu_6", "relu_8"]


def test_the_mix_is_the_weighed_sum_of_its_losses() -> None:
    parts = {"answers": 0.5, "labels": 2.0, "features": 0.25, "attention": 10.0, "relations": 3.0}

    def value(weights: dict[str, float]) -> float:
        made, student, _ = mix(**weights)
        with torch.no_grad():
            return float(made(student(IMAGES), IMAGES, torch.arange(len(IMAGES))))

    alone = {name: value({name: 1.0}) for name in parts}
    assert all(one > 0 for one in alone.values())
    assert value(parts) == pytest.approx(sum(weight * alone[name] for name, weight in parts.items()), rel=1e-4)
    assert value({**parts, "relations": 0.0}) < value(parts)


def test_labels_are_those_of_the_images_places() -> None:
    made, student, _ = mix(labels=1.0)
    places = torch.tensor([7, 2, 5])
    outputs = student(IMAGES[places])
    wanted = nn.functional.cross_entropy(outputs[0], places % 4)
    assert torch.allclose(made(outputs, IMAGES[places], places), wanted)
