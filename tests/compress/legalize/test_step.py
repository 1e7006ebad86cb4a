"""The step `legalize`: what the rules ask for is rewritten, what is left is refused by layer, what it cost is told."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgeslim.compress import fold
from edgeslim.compress.legalize import step as legalize
from edgeslim.compress.legalize.rules import violations
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.errors import BadInput, Refused
from edgeslim.model.context import Context
from edgeslim.model.graph import ATEN, copy_of
from edgeslim.model.model import Model
from tests.support.npu_cases import shuffled
from tests.support.small_models import CLASSES, Passing, context, headed, model_of, random_images, randomized

IMX93 = load_profile("nxp-imx93")


def on(profile: DeviceProfile = IMX93) -> Context:
    return replace(context(random_images(24)), profile=profile)


def device(**limits) -> DeviceProfile:
    assert IMX93.npu is not None
    return IMX93.model_copy(update={"npu": IMX93.npu.model_copy(update=limits)})


def folded(network: nn.Module) -> Model:
    return fold.apply(model_of(randomized(network)), fold.Settings(), on())


def legalized(network: nn.Module, *rewrite: str, profile: DeviceProfile = IMX93) -> Model:
    return legalize.apply(folded(network), legalize.Settings(rewrite or ("auto",)), on(profile))


def beyond_many_limits() -> nn.Module:
    """A classifier that breaks four rules, each of which a rewrite cures."""
    return Passing(
        lambda self, x: self.head((functional.hardtanh(y := self.norm(self.stem(x))) + y).mean((2, 3))),
        stem=nn.Conv2d(3, 8, 3, 4, 1), norm=nn.BatchNorm2d(8), head=nn.Linear(8, CLASSES),
    )  # fmt: skip


def gated() -> nn.Module:
    """SiLU and a squeeze-and-excite block before a classifier."""
    squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Sigmoid())
    return Passing(
        lambda self, x: self.head((y := functional.silu(self.stem(x))) * self.squeeze(y)),
        stem=nn.Conv2d(3, 8, 3, padding=1), squeeze=squeeze, head=headed(nn.Conv2d(8, 6, 3), nn.ReLU()),
    )  # fmt: skip


def test_what_the_rules_ask_for_is_rewritten_exactly():
    before = folded(beyond_many_limits())
    assert {one.rule for one in violations(before.graph, IMX93)} == {"convolution_strides", "means", "clips"}
    after = legalize.apply(before, legalize.Settings(), on())
    assert violations(after.graph, IMX93) == []
    done = " ".join(after.history)
    for name in ("strides at conv2d", "global_mean at mean", "clip at hardtanh"):
        assert name in done, after.history
    image = torch.randn(before.input_shape)
    with torch.no_grad():
        assert torch.allclose(before.graph(image), after.graph(image), atol=1e-5)


def test_what_no_rule_asks_for_is_left_alone():
    before = folded(gated())
    after = legalize.apply(before, legalize.Settings(), on())
    assert after.network is before.network
    assert after.history[-1] == "legalize: nothing, since the NPU of nxp-imx93 takes every layer"


def test_without_rewrites_every_layer_is_refused_with_its_cure():
    with pytest.raises(Refused) as refused:
        legalized(beyond_many_limits(), "none")
    assert len(refused.value.reasons) == 3
    assert refused.value.reasons[0] == (
        "layer `conv2d` (stem): has stride 4 and pads; the NPU then takes 3; --rewrite strides=yes cures it"
    )


def test_a_rewrite_can_be_forbidden_or_be_the_only_one():
    with pytest.raises(Refused) as refused:
        legalized(beyond_many_limits(), "auto", "strides=no")
    assert ["strides" in reason for reason in refused.value.reasons] == [True]
    with pytest.raises(Refused) as refused:
        legalized(beyond_many_limits(), "none", "strides=yes")
    assert not any("strides" in reason for reason in refused.value.reasons)


def test_an_operator_outside_the_rules_is_refused_after_rewriting():
    network = Passing(
        lambda self, x: self.net(functional.elu(self.stem(x))), stem=nn.Conv2d(3, 6, 3, 4, 1), net=headed()
    )
    with pytest.raises(Refused, match="left after rewriting") as refused:
        legalized(network)
    assert refused.value.reasons == (
        "layer `elu`: `elu` is no operator that the NPU of nxp-imx93 runs; no rewrite cures it",
    )


def test_a_layer_that_reads_too_many_channels_is_refused():
    with pytest.raises(Refused) as refused:
        legalized(headed(nn.Conv2d(3, 6, 3)), profile=device(max_channels=5))
    assert refused.value.reasons == (
        "layer `linear` (3): reads 6 channels; the NPU reads 5 at most; no rewrite cures it",
    )


def test_more_images_than_one_are_refused():
    inside = Passing(
        lambda self, x: self.net(self.stem(x).view(2, 3, 8, 8).mean((2, 3), keepdim=True).view(1, 6)),
        stem=nn.Conv2d(3, 6, 1), net=nn.Linear(6, CLASSES),
    )  # fmt: skip
    with pytest.raises(Refused) as refused:
        legalized(inside)
    assert any("is a mean of 2 images at once; the NPU takes it of one" in one for one in refused.value.reasons)
    both, _ = fold.folded(headed(nn.Conv2d(3, 6, 3)).eval(), (2, 3, 8, 8))
    with pytest.raises(Refused) as refused:
        legalize.apply(model_of(both), legalize.Settings(), on())
    assert "takes 2 images at once; nxp-imx93 takes 1" in refused.value.reasons[0]


def test_an_inexact_rewrite_is_recovered_and_its_cost_is_told():
    after = legalized(gated(), "relu6=yes", "squeeze_excite=yes")
    assert violations(after.graph, IMX93) == []
    names = [node.name for node in after.graph.graph.nodes if node.op == "call_function"]
    assert not any(name.startswith(("mul", "sigmoid")) for name in names), names
    (line,) = [one for one in after.history if "inexact" in one]
    for word in ("relu6 at mul", "squeeze_excite at mul_1", "of 24 selection images answered as before", "dB SQNR"):
        assert word in line, line


def test_a_recovery_brings_the_network_nearer_to_what_it_was():
    before = folded(gated())
    plain = copy_of(before.graph)
    node = next(one for one in plain.graph.nodes if one.name == "mul_1")
    limits = IMX93.npu
    assert limits is not None
    from edgeslim.compress.legalize.rewrites import squeeze_excite

    squeeze_excite.rewrite(plain, node, limits)
    plain.recompile()
    after = legalize.apply(before, legalize.Settings(("squeeze_excite=yes",)), on())
    images = torch.cat(list(random_images(24).tensors()))
    with torch.no_grad():
        errors = [
            sum(float((graph(image) - before.graph(image)).square().sum()) for image in images.split(1))
            for graph in (plain, after.graph)
        ]
    assert errors[1] < 0.5 * errors[0], errors


def test_operators_that_were_exchanged_one_for_one_are_recovered_from_too():
    before = folded(gated())
    plain = copy_of(before.graph)
    for node in plain.graph.nodes:
        node.target = ATEN.hardsigmoid.default if node.target is ATEN.sigmoid.default else node.target
    plain.recompile()
    after = legalize.apply(before, legalize.Settings(("hard_sigmoid=yes",)), on())
    images = torch.cat(list(random_images(24).tensors()))
    with torch.no_grad():
        errors = [
            sum(float((graph(image) - before.graph(image)).square().sum()) for image in images.split(1))
            for graph in (plain, after.graph)
        ]
    assert errors[1] < 0.5 * errors[0], f"nothing was fitted to what the new operators give: {errors}"


def test_an_npu_without_sigmoid_gets_hard_sigmoid():
    assert IMX93.npu is not None
    profile = device(operators=tuple(name for name in IMX93.npu.operators if name != "sigmoid"))
    after = legalized(gated(), profile=profile)
    assert any("hard_sigmoid at sigmoid, sigmoid_1" in line for line in after.history), after.history


def test_a_shuffle_becomes_a_convolution_on_demand():
    network = Passing(lambda self, x: self.net(shuffled(self.stem(x))), stem=nn.Conv2d(3, 6, 3), net=headed())
    after = legalized(network, "shuffle_as_convolution=yes")
    assert after.history[-1] == "legalize, exact: shuffle_as_convolution at reshape"


def test_the_step_wants_a_folded_network_and_a_device_with_an_npu():
    with pytest.raises(BadInput, match="comes after `fold`"):
        legalize.apply(model_of(randomized(gated())), legalize.Settings(), on())
    with pytest.raises(BadInput, match="raspberry-pi-4 has no section `npu`"):
        legalize.apply(folded(gated()), legalize.Settings(), on(load_profile("raspberry-pi")))


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (("always",), "expected auto, none, NAME=yes or NAME=no, NAME one of average_as_convolution"),
        (("relu=yes",), "did you mean `relu6`"),
        (("relu6=maybe",), "expected auto, none, NAME=yes or NAME=no"),
        (("auto", "none"), "auto and none contradict each other"),
    ],
)
def test_a_word_that_is_no_rewrite_is_refused(rewrite, message):
    with pytest.raises(BadInput, match=message.replace("?", r"\?")):
        legalize.Settings(rewrite)
