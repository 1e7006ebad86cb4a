"""Which operators stay fp32 on a GPU, and what is refused."""

import pytest
import torch
from torch import nn

from edgeslim.compress import fold, mixed_precision
from edgeslim.compress.mixed_precision import Settings
from edgeslim.compress.quantize import step as quantize
from edgeslim.errors import BadInput, Refused
from edgeslim.model.fp16_plan import LARGEST
from edgeslim.model.model import Model
from tests.support.fp16_models import on_gpu, scaled
from tests.support.small_models import context, model_of, of_every_kind, random_images


def folded(network: nn.Module) -> Model:
    return fold.apply(model_of(network.eval()), fold.Settings(), on_gpu())


def planned(network: nn.Module, **settings):
    return mixed_precision.apply(folded(network), Settings(**settings), on_gpu()).half


def test_an_ordinary_network_runs_in_fp16_throughout_and_keeps_its_weights():
    before = folded(of_every_kind())
    after = mixed_precision.apply(before, Settings(), on_gpu())
    assert after.half.kept == {}, "an operator of an ordinary network stays fp32"
    assert min(one.sqnr_db for one in after.half.operators) > 60.0, "rounding to fp16 costs more than its digits"
    for one in after.half.operators:
        assert one.bf16_sqnr_db <= one.sqnr_db, f"{one.name}: bf16 has fewer digits than fp16"
    assert after.weights_sha256() == before.weights_sha256(), "the step changed weights"
    assert "operators fp16" in after.history[-1], "the history does not tell"


def test_what_overflows_stays_fp32_with_all_that_reads_it_and_nothing_else():
    kept = planned(scaled(3e5, 1e-5)).kept
    assert set(kept) == {"conv2d", "conv2d_1"}, "the writer and the reader of a large value stay fp32"
    assert kept["conv2d"].reason.startswith(("writes up to", "holds up to")), "the reason says who is too large"
    assert "overflows fp16" in kept["conv2d_1"].reason, "the reader's reason is the overflow"


@pytest.mark.parametrize(("weight", "stays"), [(LARGEST / 2, False), (LARGEST / 2 * 1.001, True)])
def test_the_limit_is_fp16s_largest_number_over_the_headroom(weight, stays):
    network = scaled(1.0, 1.0)
    with torch.no_grad():
        network[1].weight.mul_(1e-6)
        network[1].weight[0, 0, 0, 0] = weight
        network[0].weight.mul_(1e-6)
        network[0].bias.mul_(1e-6)
    reasons = [one.reason or "" for one in planned(network, min_sqnr_db=0.0).operators if one.name == "conv2d_1"]
    assert [reason.startswith("holds up to") for reason in reasons] == [stays], "the limit is elsewhere"


def test_an_operator_whose_values_are_too_small_for_fp16_stays_fp32():
    kept = planned(scaled(1e-6, 1e6)).kept
    assert "conv2d" in kept, "values below fp16's smallest stay in fp16"
    assert "dB alone in fp16, 50 dB demanded" in kept["conv2d"].reason, "the reason is no ratio"


def test_fp16_ends_out_of_range_are_refused_with_the_output_and_the_cure():
    with pytest.raises(Refused) as refused:
        planned(scaled(3e5, 10.0), io="fp16")
    assert refused.value.exit_code == 3, "a refusal ends with 3"
    assert "its output `linear` reaches" in str(refused.value), "the output is not named"
    assert "overflows fp16" in str(refused.value), "the reason is not named"
    assert "`io: fp32` in the step mixed_precision" in str(refused.value), "the cure is not named"
    assert "linear" in planned(scaled(3e5, 10.0)).kept, "with fp32 at the ends the same network is built"


def test_it_comes_after_fold_before_quantize_and_once():
    model = folded(of_every_kind())
    for wrong in (
        model_of(of_every_kind()),
        quantize.apply(model, quantize.Settings(promote=False), on_gpu()),
        mixed_precision.apply(model, Settings(), on_gpu()),
    ):
        with pytest.raises(BadInput, match="comes once, after `fold` and before `quantize`"):
            mixed_precision.apply(wrong, Settings(), on_gpu())


def test_a_device_without_tensorrt_has_no_use_for_it():
    with pytest.raises(BadInput, match="is for devices that mix precisions, not for raspberry-pi-4"):
        mixed_precision.apply(folded(of_every_kind()), Settings(), context(random_images(2)))


@pytest.mark.parametrize("wrong", [{"min_sqnr_db": -1.0}, {"headroom": 0.5}, {"images": 0}])
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(BadInput, match=f"mixed_precision: {next(iter(wrong))} is"):
        Settings(**wrong)
