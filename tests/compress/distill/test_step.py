"""Distillation: it gives back answers that pruning took, is undone where it takes more, and repeats to the byte."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeslim.compress import fold
from edgeslim.compress.distill import losses
from edgeslim.compress.distill import step as distill
from edgeslim.compress.prune.channels import channels_of, cut
from edgeslim.compress.quantize import step as quantize
from edgeslim.errors import BadInput
from edgeslim.model.context import Context
from edgeslim.model.graph import ATEN, copy_of, output_nodes
from edgeslim.model.load import load_data, load_model
from edgeslim.model.model import Model
from edgeslim.tasks.images import Data
from tests.support.small_models import SIDE, context, model_of, random_images, randomized, residual

CALIBRATION, SELECTION, TRAIN = random_images(96), random_images(256, seed=1), random_images(320, seed=2)
STEPS = distill.Settings(steps=40, batch=32)


def sure(network: nn.Module) -> Model:
    """Return a model whose norms fit its images, and whose answers are decided and of all classes."""
    images = torch.cat(list(TRAIN.tensors()))
    norms = [one for one in randomized(network).modules() if isinstance(one, nn.BatchNorm2d)]
    for one in norms:
        one.momentum = None
        one.reset_running_stats()
    with torch.no_grad():
        network.train()(images)
        outputs = network.eval()(images)
        (head,) = (one for one in network.modules() if isinstance(one, nn.Linear))
        factor = 3.0 / outputs.std(0).mean()
        head.bias.copy_((head.bias - outputs.mean(0)) * factor)
        head.weight.mul_(factor)
    return model_of(network)


def harmed(behind: nn.Module | None = None) -> tuple[Model, Context]:
    """Return a network that noise was added to, and surroundings that know what it was."""
    given = sure(residual())
    if behind is not None:
        given = replace(given, network=nn.Sequential(given.network, behind).eval())
    network = copy_of(given.graph)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in network.parameters():
            if one.ndim > 1:
                one.add_(0.5 * one.std() * torch.randn(one.shape, generator=generator))
    data = Data("a test", False, CALIBRATION, SELECTION, SELECTION, TRAIN)
    return given.after("harmed", network=network), replace(context(CALIBRATION), data=data, given=given, store=None)


@pytest.fixture(scope="module")
def harm() -> tuple[Model, Context]:
    return harmed()


def points(line: str) -> tuple[float, float]:
    found = re.search(r"([\d.]+) to ([\d.]+) points lost on 256 selection images before quantization", line)
    assert found, line
    return float(found[1]), float(found[2])


def test_it_gives_back_answers_and_says_how_many_at_what_cost(harm: tuple[Model, Context]) -> None:
    model, around = harm
    after = distill.apply(model, STEPS, around)
    line = after.history[-1]
    before, left = points(line)
    assert left < 0.7 * before
    assert line.endswith("; 40 steps of 32 of 320 images")
    assert after.lost_points == pytest.approx(model.lost_points - before + left, abs=0.01)
    assert after.trained_steps == 40
    assert distill.gained(after) == line.removeprefix("distill: ")
    assert after.network.training is False
    assert after.weights_sha256() != model.weights_sha256()
    assert str(after.graph.graph) == str(model.graph.graph)


def test_it_gives_a_pruned_network_answers_back() -> None:
    given = load_model(None)
    data = load_data(given, None)
    data = replace(data, selection=data.selection.at(np.arange(500)))
    around = replace(context(data.calibration), data=data, given=given, store=None)
    channels = channels_of(given.graph)
    every_fourth = {name: range(0, group.width, 4) for name, group in channels.groups.items()}
    narrow = given.after("pruned", network=cut(given.graph, channels, every_fourth))
    after = distill.apply(narrow, distill.Settings(steps=30, batch=64), around)
    found = re.search(r"([\d.]+) to ([\d.]+) points lost on 500 selection images", after.history[-1])
    assert found, after.history[-1]
    assert float(found[2]) < 0.7 * float(found[1])
    assert after.history[-1].endswith("30 steps of 64 of 5000 images")


def test_without_images_to_train_on_those_that_calibrate_train(harm: tuple[Model, Context]) -> None:
    model, around = harm
    after = distill.apply(model, STEPS, replace(around, data=replace(around.data, train=None)))
    assert after.history[-1].endswith("of 96 images")


def test_fewer_images_than_a_batch_are_one_batch(harm: tuple[Model, Context]) -> None:
    model, around = harm
    few = replace(around, data=replace(around.data, train=random_images(20, seed=3)))
    after = distill.apply(model, distill.Settings(steps=5), few)
    assert "5 steps of 20 of 20 images" in after.history[-1]


def test_what_makes_it_worse_is_undone_and_said(harm: tuple[Model, Context]) -> None:
    model, around = harm
    after = distill.apply(model, replace(STEPS, learning_rate=50.0), around)
    assert after.history[-1].startswith("distill: nothing is kept of it: ")
    assert after.weights_sha256() == model.weights_sha256()
    assert (after.lost_points, after.trained_steps) == (model.lost_points, None)
    assert distill.gained(after) is None


def test_a_loss_that_is_no_number_stops_it_and_is_told(harm: tuple[Model, Context]) -> None:
    model, around = harm
    after = distill.apply(model, replace(STEPS, learning_rate=1e30), around)
    assert re.search(r"\d+ steps of 32 of 320 images, stopped at step \d+, whose loss was no number", after.history[-1])


def test_a_network_that_ends_in_a_softmax_learns_the_logits_in_front_of_it() -> None:
    model, around = harmed(nn.Softmax(1))
    after = distill.apply(model, STEPS, around)
    before, left = points(after.history[-1])
    assert left < 0.7 * before
    assert [node.target for node in output_nodes(after.graph)] == [ATEN.softmax.int]


@pytest.mark.parametrize(
    "mix",
    [
        {"features": 1.0},
        {"attention": 10.0},
        {"relations": 5.0},
        {"answers": 0.0, "labels": 1.0},
        {"answers": 0.5, "labels": 0.5, "features": 1.0, "attention": 1.0, "relations": 1.0},
    ],
    ids="+".join,
)
def test_other_losses_give_back_answers_too_and_leave_nothing_in_the_network(
    mix: dict[str, float], harm: tuple[Model, Context]
) -> None:
    model, around = harm
    assert around.given is not None
    images = around.data.train
    assert images is not None
    with torch.no_grad():
        answers = torch.cat([around.given.network(one[None]) for batch in images.tensors() for one in batch])
    labelled = replace(images, targets=answers.argmax(1).numpy())
    around = replace(around, data=replace(around.data, train=labelled))
    after = distill.apply(model, replace(STEPS, **mix), around)
    before, left = points(after.history[-1])
    assert left < 0.7 * before
    assert after.network.state_dict().keys() == model.graph.state_dict().keys()
    assert str(after.graph.graph) == str(model.graph.graph)


def test_labels_that_are_not_there_are_refused_with_what_to_name(harm: tuple[Model, Context]) -> None:
    model, around = harm
    with pytest.raises(
        BadInput, match=r"labels weigh, and the images to train on have none\nhelp: name some with --train"
    ):
        distill.apply(model, replace(STEPS, labels=1.0), around)


def test_activations_that_are_not_there_are_refused_by_the_loss_that_asks() -> None:
    given = sure(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 4)))
    data = Data("a test", False, CALIBRATION, SELECTION, SELECTION, TRAIN)
    around = replace(context(CALIBRATION), data=data, given=given, store=None)
    other = given.after("other", network=copy_of(given.graph))
    with pytest.raises(BadInput, match="attention, relations: no activation of the network as it was given is left"):
        distill.apply(other, replace(STEPS, attention=1.0, relations=1.0), around)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ("whole", "nothing, since the network is what was given"),
        ("synthetic", "nothing, since on synthetic images no network answers as on real ones"),
        ("sigmoid", "nothing, since an output ends in a sigmoid: its classes do not exclude each other"),
    ],
)
def test_where_there_is_nothing_to_give_back_nothing_is_done(
    changes: str, why: str, harm: tuple[Model, Context]
) -> None:
    model, around = harm
    if changes == "whole":
        assert around.given is not None
        model = around.given
    elif changes == "synthetic":
        around = replace(around, data=replace(around.data, synthetic=True))
    else:
        model, around = harmed(nn.Sigmoid())
    after = distill.apply(model, STEPS, around)
    assert after.history == (*model.history, f"distill: {why}")
    assert after.weights_sha256() == model.weights_sha256()


def test_behind_quantization_it_is_refused(harm: tuple[Model, Context]) -> None:
    model, around = harm
    folded = fold.apply(model, fold.Settings(), around)
    quantized = quantize.apply(folded, quantize.Settings(promote=False), around)
    with pytest.raises(BadInput, match="`distill` comes before `quantize` and `mixed_precision`"):
        distill.apply(quantized, STEPS, around)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"seconds": 0.0}, "seconds is 0; expected a number above 0"),
        ({"temperature": float("nan")}, "temperature is nan; expected a number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; expected a number above 0"),
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"batch": 1}, "batch is 1; expected 2 or more"),
        ({"attention": -1.0}, "attention is -1; expected a weight of 0 or more"),
        ({"answers": 0.0}, "answers, labels, features, attention, relations are all 0; expected one above 0 at least"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_reason(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=f"^distill: {re.escape(reason)}"):
        distill.Settings(**settings)


def test_a_time_below_one_step_is_refused(harm: tuple[Model, Context]) -> None:
    model, around = harm
    with pytest.raises(BadInput, match=r"one step of training takes .* s here, and 1e-07 s are given for all"):
        distill.apply(model, distill.Settings(seconds=1e-7), around)


def test_killed_and_started_again_it_does_as_many_steps_and_ends_in_the_same_bytes(
    harm: tuple[Model, Context], tmp_path: Path
) -> None:
    model, around = harm
    settings = distill.Settings(seconds=0.5, batch=32)

    def killed(line: str, done: int | None = None, total: int | None = None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill.apply(model, settings, replace(around, store=tmp_path, progress=killed))
    again = distill.apply(model, settings, replace(around, store=tmp_path))
    alone = distill.apply(model, replace(settings, steps=again.trained_steps), around)
    assert again.trained_steps is not None
    assert again.trained_steps > 3
    assert again.weights_sha256() == alone.weights_sha256()
    assert again.history[-1] == alone.history[-1]


def test_the_same_training_is_done_once(harm: tuple[Model, Context], tmp_path: Path) -> None:
    model, around = harm
    first = distill.apply(model, STEPS, replace(around, store=tmp_path))

    def no_step(line: str, done: int | None = None, total: int | None = None) -> None:
        assert done is None, "it is trained again"

    second = distill.apply(model, STEPS, replace(around, store=tmp_path, progress=no_step))
    assert second.weights_sha256() == first.weights_sha256()
    assert second.history == first.history
    other = replace(around, store=tmp_path, data=replace(around.data, train=random_images(320, seed=4)))
    assert distill.apply(model, STEPS, other).weights_sha256() != first.weights_sha256()


def test_a_teacher_whose_answers_are_too_many_to_keep_answers_again(
    harm: tuple[Model, Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, around = harm
    kept = distill.apply(model, STEPS, around)
    monkeypatch.setattr(losses, "MOST_ANSWERS_BYTES", 0)
    again = distill.apply(model, STEPS, around)
    ours, theirs = (list(one.network.state_dict().values()) for one in (kept, again))
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs, strict=True))
