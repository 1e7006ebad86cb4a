"""Equalized weights: the same logits, matching ranges, and nothing touched where a factor would not commute."""

import pytest
import torch
from torch import nn

from edgeslim.compress import equalize, fold
from edgeslim.compress.equalize import MOST_FACTOR, Pair, Settings, pairs_of
from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.rounding import round_weights
from edgeslim.devices.profile import load_profile
from edgeslim.errors import BadInput
from edgeslim.grid import sqnr_db
from edgeslim.model.graph import batched, layers_of, parameter
from edgeslim.pipeline.rules import Request, refusals, weight_scales
from tests.support.small_models import Passing, context, headed, model_of, random_images, randomized

IMAGES = random_images(12)
CONTEXT = context(IMAGES)
BATCH = next(iter(IMAGES.tensors()))


def folded(network: nn.Module):
    return fold.apply(model_of(network.eval()), fold.Settings(), CONTEXT)


def uneven(network: nn.Module) -> nn.Module:
    """Give every layer's channels ranges that differ by up to a factor of a hundred."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in randomized(network).modules():
            if isinstance(module, nn.Conv2d):
                spread = 10 ** (2 * torch.rand(len(module.weight), generator=generator) - 1)
                module.weight *= spread.view(-1, 1, 1, 1)
                module.bias *= spread
    return network


def chain() -> nn.Module:
    """Return a network of dense, depthwise, grouped and linear layers, each read by the next alone."""
    return uneven(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 1), nn.ReLU(),
            nn.Conv2d(16, 6, 3, groups=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(24, 4),
        )
    )  # fmt: skip


def ranges(graph, pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest weight that writes and that reads each channel, found channel by channel."""
    layers = layers_of(graph)
    first, second = (parameter(graph, layers[name].args[1]).detach().abs() for name in (pair.first, pair.second))
    writes = torch.stack([channel.max() for channel in first])
    reads = []
    for channel in range(len(first)):
        if second.ndim == 2:
            each = second.shape[1] // len(first)
            reads.append(second[:, channel * each : (channel + 1) * each].max())
            continue
        inputs = second.shape[1]
        group, outputs = channel // inputs, len(second) * inputs // len(first)
        reads.append(second[group * outputs : (group + 1) * outputs, channel % inputs].max())
    return writes, torch.stack(reads)


def test_the_logits_stay_and_every_channel_is_written_and_read_with_one_range():
    before = folded(chain())
    after = equalize.apply(before, Settings(), CONTEXT)
    torch.testing.assert_close(batched(after.graph)(BATCH), batched(before.graph)(BATCH), rtol=1e-5, atol=1e-4)
    pairs = pairs_of(after.graph)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("conv2d", "conv2d_1"), ("conv2d_1", "conv2d_2"), ("conv2d_2", "conv2d_3"), ("conv2d_3", "linear"),
    ]  # fmt: skip
    for pair in pairs:
        writes, reads = ranges(after.graph, pair)
        torch.testing.assert_close(writes, reads, rtol=1e-3, atol=0)
        old_writes, old_reads = ranges(before.graph, pair)
        assert float((old_writes / old_reads).log().abs().max()) > 1, f"{pair} was even before"
    assert after.history[-1] == "equalize: 4 pairs of layers"


def test_the_model_before_stays_as_it_was():
    before = folded(chain())
    weights = before.weights_sha256()
    assert equalize.apply(before, Settings(), CONTEXT).weights_sha256() != weights, "nothing was equalized"
    assert before.weights_sha256() == weights


@pytest.mark.parametrize(
    "between",
    [
        [nn.ReLU6()],
        [nn.Hardswish()],
        [nn.Sigmoid()],
        [nn.ReLU(), nn.PixelShuffle(1), nn.Hardtanh()],
    ],
    ids=["relu6", "hard-swish", "sigmoid", "one that commutes and one that does not"],
)
def test_layers_joined_by_what_does_not_commute_with_a_factor_stay_as_they_are(between):
    before = folded(uneven(nn.Sequential(nn.Conv2d(3, 6, 3), *between, nn.Conv2d(6, 4, 6), nn.Flatten())))
    assert pairs_of(before.graph) == []
    assert equalize.apply(before, Settings(), CONTEXT).weights_sha256() == before.weights_sha256()


def test_channels_that_a_shortcut_reads_too_stay_as_they_are():
    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(self.outer(self.inner(x).relu()) + x)

    network = Passing(
        forward,
        stem=nn.Conv2d(3, 6, 3),
        inner=nn.Conv2d(6, 8, 3, padding=1),
        outer=nn.Conv2d(8, 6, 3, padding=1),
        head=headed(),
    )
    before = folded(uneven(network))
    assert pairs_of(before.graph) == [Pair("conv2d_1", "conv2d_2")]
    after = equalize.apply(before, Settings(), CONTEXT)
    torch.testing.assert_close(batched(after.graph)(BATCH), batched(before.graph)(BATCH), rtol=1e-5, atol=1e-4)


def test_a_pooled_channel_is_read_through_its_mean():
    before = folded(uneven(headed(nn.Conv2d(3, 6, 3), nn.ReLU())))
    assert pairs_of(before.graph) == [Pair("conv2d", "linear")]


def test_a_dead_channel_stays_dead_and_a_nearly_dead_one_is_moved_within_bounds():
    network = chain()
    with torch.no_grad():
        network[0].weight[0] = 0.0
        network[0].weight[1] = 1e-12
    before = folded(network)
    after = equalize.apply(before, Settings(), CONTEXT)
    torch.testing.assert_close(batched(after.graph)(BATCH), batched(before.graph)(BATCH), rtol=1e-5, atol=1e-4)
    old, new = (parameter(m.graph, layers_of(m.graph)["conv2d"].args[1]).detach() for m in (before, after))
    assert not new[0].any()
    assert float((new[1] / old[1]).max()) <= MOST_FACTOR * 1.001


def test_with_one_scale_for_a_whole_layer_equalized_weights_keep_more_of_the_logits():
    before = folded(chain())
    after = equalize.apply(before, Settings(), CONTEXT)
    wanted = batched(before.graph)(BATCH).detach().numpy()

    def kept_db(graph) -> float:
        rounded = round_weights(graph, [BATCH], 8, False, "nearest")
        return sqnr_db(wanted, rounded(BATCH).detach().numpy())

    assert kept_db(after.graph) > kept_db(before.graph) + 4


def test_a_network_that_is_not_folded_or_is_quantized_is_refused():
    model = folded(chain())
    for wrong in (model_of(chain()), quantize.apply(model, quantize.Settings(), CONTEXT)):
        with pytest.raises(BadInput, match="`equalize` comes after `fold` and before `quantize`"):
            equalize.apply(wrong, Settings(), CONTEXT)


def test_a_device_whose_int8_runtime_takes_one_scale_for_a_layer_is_refused_by_that_reason():
    device = load_profile("raspberry-pi")
    assert weight_scales(Request(model_of(chain()), device)) == []
    first, *others = device.runtimes
    coarse = device.model_copy(update={"runtimes": (first.model_copy(update={"per_channel_weights": False}), *others)})
    (reason,) = refusals(model_of(chain()), coarse, ())
    assert reason.startswith(f"{first.name} on {device.name} takes one weight scale for a whole layer")
    only_float = first.model_copy(update={"per_channel_weights": False, "precisions": ("fp32",)})
    assert (
        weight_scales(Request(model_of(chain()), coarse.model_copy(update={"runtimes": (only_float, *others)}))) == []
    )
