"""The step that removes channels: what it refuses, what an amount means, and what it says it did."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeslim.compress import fold
from edgeslim.compress.prune import step as prune
from edgeslim.compress.prune.importance import CRITERIA
from edgeslim.compress.prune.workbench import images_of
from edgeslim.compress.quantize import step as quantize
from edgeslim.devices.machine import this_machine
from edgeslim.errors import BadInput, BadModel, Refused
from edgeslim.model.context import Context, Demand
from edgeslim.model.graph import layers_of, macs_of, parameter
from edgeslim.model.model import Model
from edgeslim.tasks import classification
from edgeslim.tasks.images import Data
from tests.support.installed import skip_without
from tests.support.small_models import (  # fmt: skip
    COLOR,
    SIDE,
    WIDE,
    block,
    context,
    depthwise,
    headed,
    model_of,
    normalized_layers,
    plain,
    random_images,
    randomized,
    residual,
)

SETS = random_images(96), random_images(128, seed=1), random_images(8, seed=2)


def around(work: Path = Path(), *, synthetic: bool = False, device: str = "raspberry-pi") -> Context:
    return replace(context(SETS[0], work, device), data=Data("a test", synthetic, *SETS))


def pruned(network: nn.Module, work: Path = Path(), **settings) -> tuple[Model, Model]:
    """Return a model before and after the step."""
    model = model_of(randomized(network))
    return model, prune.apply(model, prune.Settings(**settings), around(work))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"keep_macs": 0.0}, "keep_macs is 0; expected a share above 0 and below 1 of what is there"),
        ({"keep_macs": 1.0}, "keep_macs is 1; expected a share above 0 and below 1"),
        ({"keep_latency": -0.5}, "keep_latency is -0.5; expected a share above 0"),
        ({"keep_channels": float("nan")}, "keep_channels is nan; expected a share above 0"),
        ({"keep_macs": 0.5, "keep_latency": 0.5}, "keep_macs and keep_latency contradict each other; give one of them"),
        ({"importance": "random"}, "importance is `random`; expected obs, l1, l2, taylor, bn_scale"),
        ({"allocation": "global"}, "allocation is `global`; expected measured or uniform"),
        ({"rounds": 2}, "2 rounds need an amount to reach: keep_channels, keep_parameters, keep_macs, keep_latency"),
        ({"rounds": 0, "keep_macs": 0.5}, "rounds is 0; expected 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_reason(settings, reason):
    with pytest.raises(BadInput, match=rf"^prune: {re.escape(reason)}"):
        prune.Settings(**settings)


@torch.no_grad()
def counts(model: Model) -> dict[str, tuple[int, int]]:
    """Return output and input channels of every layer by its module."""
    weights = [(node.args[1].target, parameter(model.graph, node.args[1])) for node in layers_of(model.graph).values()]
    return {str(name).removesuffix(".weight"): tuple(weight.shape[:2]) for name, weight in weights}


@pytest.mark.parametrize("make", WIDE)
def test_half_of_the_macs_are_kept_at_most_in_widths_on_multiples_of_8(make):
    model, after = pruned(make(), keep_macs=0.5)
    assert macs_of(after.graph) <= 0.5 * macs_of(model.graph)
    narrower = [name for name, (outputs, _) in counts(after).items() if outputs != counts(model)[name][0]]
    assert narrower
    assert all(counts(after)[name][0] % 8 == 0 for name in narrower)
    assert after.graph(torch.zeros(1, 3, SIDE, SIDE)).shape == (1, 4)


@pytest.mark.parametrize("allocation", ["measured", "uniform"])
@pytest.mark.parametrize("amount", ["keep_parameters", "keep_channels"])
def test_an_amount_is_met_in_its_own_unit(amount, allocation):
    model, after = pruned(residual(), allocation=allocation, **{amount: 0.6})

    def figure(one: Model) -> int:
        shapes = counts(one)
        if amount == "keep_channels":
            return shapes["stem.0"][0] + shapes["first.0"][0]
        return sum(parameter(one.graph, node.args[1]).numel() for node in layers_of(one.graph).values())

    assert 0.25 * figure(model) < figure(after) <= 0.6 * figure(model)


@pytest.mark.parametrize("importance", ["obs", *CRITERIA])
def test_every_importance_keeps_more_of_the_answers_than_weights_that_are_not_reconstructed(importance):
    model, after = pruned(residual(), importance=importance, keep_macs=0.5)
    images = torch.cat(list(SETS[1].tensors()))
    with torch.no_grad():
        wanted, found = (torch.cat([one.graph(row) for row in images.split(1)]) for one in (model, after))
    assert (wanted - found).square().mean() < 0.5 * wanted.var(0).mean()
    assert f"prune ({importance}, MACs): " in after.history[-1]


def test_importances_choose_different_channels():
    _, one = pruned(residual(), importance="obs", keep_macs=0.5)
    _, other = pruned(residual(), importance="l1", keep_macs=0.5)
    assert counts(one) == counts(other) or one.history != other.history
    weights = [model.graph.get_parameter("stem.0.weight") for model in (one, other)]
    assert weights[0].shape != weights[1].shape or not torch.equal(*weights)


def test_uniform_keeps_the_same_share_of_every_group():
    _, after = pruned(residual(), allocation="uniform", keep_channels=0.5)
    assert {outputs for name, (outputs, _) in counts(after).items() if name != "head.2"} == {16}


@pytest.mark.parametrize("make", [residual, depthwise])
def test_an_amount_is_reached_in_two_rounds(make):
    model, after = pruned(make(), rounds=2, keep_macs=0.4)
    assert macs_of(after.graph) <= 0.4 * macs_of(model.graph)


def test_the_history_says_how_much_of_what_is_left():
    model, after = pruned(residual(), keep_macs=0.5)
    line = after.history[-1]
    assert after.history[: len(model.history)] == model.history
    expected = (
        f"prune (obs, MACs): {model.parameters:,} to {after.parameters:,} parameters, "
        f"{macs_of(model.graph):,} to {macs_of(after.graph):,} MACs, "
    )
    assert line.startswith(expected)
    assert re.search(r"\d+\.\d\d points lost on 128 selection images before quantization", line)


def test_the_model_itself_stays_as_it_was():
    model = model_of(randomized(residual()))
    before = model.weights_sha256()
    prune.apply(model, prune.Settings(keep_macs=0.5), around())
    assert model.weights_sha256() == before


def test_the_same_step_gives_the_same_weights_every_time_and_from_the_store(tmp_path):
    with_store = replace(around(), store=tmp_path)
    model, settings = model_of(randomized(residual())), prune.Settings(keep_macs=0.5)
    hashes = {prune.apply(model, settings, one).weights_sha256() for one in (around(), with_store, with_store)}
    assert len(hashes) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"curve", "candidate", "judged"}


def test_a_pruned_network_can_be_folded_and_quantized():
    _, after = pruned(residual(), keep_macs=0.5)
    planned = quantize.apply(fold.apply(after, fold.Settings(), around()), quantize.Settings(), around())
    assert len(planned.numerics.layers) == 4


def test_a_network_without_narrower_widths_is_refused():
    with pytest.raises(Refused, match=r"cannot be pruned for .*: no group .* narrower width on a multiple of 8"):
        pruned(plain(), keep_macs=0.5)


def test_an_amount_below_the_narrowest_network_is_refused():
    with pytest.raises(Refused, match=r"no legal widths keep 1% \(keep_macs\): the narrowest network keeps more"):
        pruned(residual(), keep_macs=0.01)


@pytest.mark.parametrize("allocation", ["measured", "uniform"])
def test_an_amount_below_the_narrowest_network_is_refused_for_every_allocation(allocation):
    with pytest.raises(Refused, match=r"no legal widths keep 1% \(keep_channels\)"):
        pruned(residual(), keep_channels=0.01, allocation=allocation)


def test_a_network_whose_norms_mix_all_channels_is_refused_with_the_reason():
    with pytest.raises(Refused, match=r"no group of channels has a narrower width on a multiple of 8"):
        pruned(normalized_layers(), keep_macs=0.5)


def test_a_quantized_network_is_bad_input():
    planned = quantize.apply(
        fold.apply(model_of(randomized(residual())), fold.Settings(), around()), quantize.Settings(), around()
    )
    with pytest.raises(BadInput, match="`prune` comes before `quantize`"):
        prune.apply(planned, prune.Settings(keep_macs=0.5), around())


def test_a_network_that_answers_nan_is_a_bad_model():
    network = randomized(residual())
    with torch.no_grad():
        network.first[0].weight *= 1e38
    with pytest.raises(BadModel, match="became NaN or infinite on a calibration image"):
        prune.apply(model_of(network), prune.Settings(keep_macs=0.5), around())


def test_synthetic_images_without_an_amount_prune_nothing_and_say_so():
    model = model_of(randomized(residual()))
    after = prune.apply(model, prune.Settings(), around(synthetic=True))
    assert after.graph is model.graph or macs_of(after.graph) == macs_of(model.graph)
    assert after.history[-1] == (
        "prune: nothing, since synthetic images cannot say what is lost; give an amount to prune"
    )
    given = prune.apply(model, prune.Settings(keep_macs=0.5), around(synthetic=True))
    assert macs_of(given.graph) < macs_of(model.graph), "an amount is obeyed on synthetic images too"


@pytest.mark.parametrize("batch", [1, 2])
def test_images_come_in_two_batches_at_least_with_all_their_labels(batch):
    from edgeslim.tasks.images import ImageSet

    images = random_images(64 * batch)
    labelled = ImageSet(images.images, torch.arange(64 * batch).numpy() % 4, COLOR)
    found = images_of(labelled)
    assert sum(map(len, found.batches)) == 64 * batch
    assert len(found.batches) == 2
    assert found.sha256 != images_of(images).sha256, "labels are part of what results depend on"
    torch.testing.assert_close(torch.cat(found.batches), torch.cat(list(images.tensors())))


# --- measured times


@pytest.fixture(scope="module")
def measured_in(tmp_path_factory) -> Path:
    """A folder in which measured times are kept for all tests of this file."""
    skip_without("litert")
    return tmp_path_factory.mktemp("times")


def test_a_share_of_the_latency_is_reached_in_measured_times(measured_in):
    model, after = pruned(headed(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(),
                                 width=32), measured_in, keep_latency=0.7)  # fmt: skip
    assert macs_of(after.graph) < macs_of(model.graph)
    assert "prune (obs, INT8 times of single operators in litert, measured here): " in after.history[-1]
    assert list((measured_in / "operator_times").glob("litert-*.json"))


def test_without_an_amount_the_most_is_taken_that_loses_no_more_than_demanded(measured_in):
    network = randomized(headed(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), width=32))
    with torch.no_grad():
        network[0].weight[8:] = 0  # 24 channels that say nothing
    model = model_of(network)
    free = prune.apply(model, prune.Settings(), replace(around(measured_in), demand=Demand(max_drop_points=100.0)))
    exact = prune.apply(model, prune.Settings(), replace(around(measured_in), demand=Demand(max_drop_points=0.5)))
    assert macs_of(free.graph) < macs_of(exact.graph) <= macs_of(model.graph)


def test_so_few_images_that_nothing_can_be_shown_are_said_before_any_work(tmp_path):
    before = model_of(randomized(residual()))
    after = prune.apply(before, prune.Settings(), around(tmp_path))
    assert after.history[-1].startswith("prune: nothing: ")
    told = re.search(
        r"(\d+) selection images cannot show with 95 % confidence that at most 1 points are lost; (\d+) could "
        r"\(--selection, or more of --data\), or name an amount to prune",
        after.history[-1],
    )
    assert told is not None, after.history[-1]
    enough = np.full(int(told[2]), 100.0)
    assert classification.drop(enough, enough).at_most <= 1 < classification.drop(enough[1:], enough[1:]).at_most
    assert not list(tmp_path.iterdir())
    strict = prune.apply(before, prune.Settings(), replace(around(tmp_path), demand=Demand(max_drop_points=0.1)))
    assert strict.history[-1].endswith("; nor could the 2000 that are used at most; name an amount to prune")


def test_importance_by_batch_norms_is_refused_where_there_is_none(tmp_path):
    bare = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * SIDE * SIDE, 4))
    with pytest.raises(Refused, match=r"importance `bn_scale` says nothing of the channels of `0`"):
        pruned(bare, tmp_path, keep_macs=0.5, importance="bn_scale")


def test_a_layer_too_large_for_this_machines_memory_is_named(monkeypatch, tmp_path):
    small = replace(this_machine(), ram_bytes=10_000)
    monkeypatch.setattr("edgeslim.compress.prune.workbench.this_machine", lambda: small)
    with pytest.raises(
        Refused, match=r"`\w+` reads \d+ inputs: pruning works on 6 matrices .* this machine has 9.77 KiB"
    ):
        pruned(residual(), tmp_path, keep_macs=0.5)


def test_on_a_gpu_every_width_is_a_multiple_of_what_tensor_cores_want():
    gpu = around(device="jetson-orin-nano")
    network = randomized(headed(block(3, 96), block(96, 96), width=96))
    pruned = prune.apply(model_of(network), prune.Settings(keep_macs=0.6), gpu)
    widths = [parameter(pruned.graph, node.args[1]).shape[0] for node in layers_of(pruned.graph).values()][:-1]
    assert min(widths) < 96, "nothing was pruned"
    assert all(width % 32 == 0 for width in widths), f"{widths}: not all are multiples of 32"
