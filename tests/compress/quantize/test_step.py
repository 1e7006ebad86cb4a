"""The plan of INT8: weights, corrections and precisions, each held against arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import fx, nn

from edgeslim.compress import fold
from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.step import Settings
from edgeslim.devices.profile import load_profile
from edgeslim.errors import BadInput, BadModel
from edgeslim.grid import sqnr_db
from edgeslim.model.context import Demand
from edgeslim.model.graph import input_of, layers_of, output_nodes, parameter
from edgeslim.model.load import load_model
from edgeslim.model.numerics import LEVELS, WEIGHT_LIMIT, Numerics
from tests.support.small_models import (
    Passing,
    context,
    folded_in,
    headed,
    model_of,
    of_every_kind,
    random_images,
    randomized,
)

IMAGES = random_images(12)
CONTEXT = context(IMAGES)
TOO_FEW = "12 selection images are too few to say whether a layer must stay float, 100 would"


def folded(network: nn.Module):
    return folded_in(CONTEXT, network)


def quantized(network: nn.Module, **wanted):
    return quantize.apply(folded(network), Settings(**wanted), CONTEXT)


class FakeQuantized(fx.Interpreter):
    """Runs a quantized model's graph in float, each planned edge rounded to its 256 levels."""

    def __init__(self, graph: fx.GraphModule, numerics: Numerics) -> None:
        super().__init__(graph)
        self.edges = numerics.edges

    def run_node(self, n: fx.Node):
        value = super().run_node(n)
        if n.name not in self.edges:
            return value
        edge = self.edges[n.name]
        codes = (value / edge.scale).round().add(edge.zero_point).clamp(0, LEVELS)
        return (codes - edge.zero_point) * edge.scale


@torch.no_grad()
def fake_quantized_logits(model, images) -> np.ndarray:
    interpreter = FakeQuantized(model.graph, model.numerics)
    return np.concatenate([interpreter.run(row).numpy() for batch in images.tensors() for row in batch.split(1)])


@torch.no_grad()
def float_logits(model, images) -> np.ndarray:
    return np.concatenate([model.graph(row).numpy() for batch in images.tensors() for row in batch.split(1)])


def assert_on_its_grid(weight: torch.Tensor, scales: tuple[float, ...]) -> None:
    codes = weight.detach().double().flatten(1) / torch.tensor(scales, dtype=torch.float64)[:, None]
    assert float((codes - codes.round()).abs().max()) < 1e-3, "a weight lies between two codes"
    assert codes.round().abs().amax(1).tolist() == [WEIGHT_LIMIT] * len(scales), "a channel does not reach its limit"


def test_every_weight_lies_on_a_grid_whose_limit_its_channel_reaches():
    model = quantized(of_every_kind())
    for name, node in layers_of(model.graph).items():
        weight, scales = parameter(model.graph, node.args[1]).detach(), model.numerics.layers[name].weight_scales
        assert len(scales) == len(weight), f"{name}: not one scale for each output channel"
        assert_on_its_grid(weight, scales)
        derived = weight.abs().flatten(1).amax(1) / WEIGHT_LIMIT
        np.testing.assert_allclose(derived, scales, rtol=1e-6, err_msg="a scale derived anew is another")


@pytest.mark.parametrize("bias_correction", [True, False])
def test_rounded_together_every_channel_reaches_its_limit_too(bias_correction):
    model = quantized(of_every_kind(), rounding="gptq", bias_correction=bias_correction)
    for name, node in layers_of(model.graph).items():
        assert_on_its_grid(parameter(model.graph, node.args[1]), model.numerics.layers[name].weight_scales)
    assert model.history[-1].endswith(f"12 calibration images; weights rounded by gptq; {TOO_FEW}")


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_the_edges_of_a_plan_do_not_depend_on_how_weights_are_rounded(rounding):
    assert quantized(of_every_kind(), rounding=rounding).numerics.edges == quantized(of_every_kind()).numerics.edges


def test_symmetric_activations_have_their_zero_in_the_middle_and_hold_their_range():
    one, other = quantized(of_every_kind()).numerics, quantized(of_every_kind(), symmetric=True).numerics
    assert (one.symmetric, other.symmetric) == (False, True), "only the plan that was asked to be is symmetric"
    assert list(one.edges) == list(other.edges), "the plans quantize different edges"
    for name, edge in other.edges.items():
        assert edge.high * (1 + 1e-5) >= max(one.edges[name].high, -one.edges[name].low) * 126 / 127, f"{name} is cut"


def test_the_model_before_stays_as_it_was():
    before = folded(of_every_kind())
    weights = before.weights_sha256()
    after = quantize.apply(before, Settings(), CONTEXT)
    assert before.weights_sha256() == weights, "quantizing changed the model it was given"
    assert before.numerics is None, "the model before has a plan"
    assert after.weights_sha256() != weights, "nothing was quantized"
    assert after.history[-1] == f"quantize: 5 of 5 layers int8, 12 calibration images; {TOO_FEW}"


@pytest.mark.parametrize("bias", [0.0, 3.0, -1e4])
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e-9])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_a_channel_of_nearly_zero_weights_keeps_its_output_within_int32(rounding, factor, bias):
    network = randomized(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)))
    with torch.no_grad():
        network[0].weight[2] *= factor
        network[0].bias[2] = bias
    dense = folded(network)
    model = quantize.apply(dense, Settings(rounding=rounding), CONTEXT)
    name, node = next(iter(layers_of(model.graph).items()))
    layer = model.numerics.layers[name]
    assert all(np.isfinite(scale) and scale > 0 for scale in layer.weight_scales), "a scale is zero or not finite"
    weight, corrected = (parameter(model.graph, argument).detach() for argument in node.args[1:3])
    steps = corrected.double() / (model.numerics.edges[layer.inputs].scale * torch.tensor(layer.weight_scales))
    assert float(steps.abs().max()) < 2**31, "the bias does not fit into int32"
    assert_on_its_grid(weight, layer.weight_scales)
    image = next(IMAGES.tensors())
    output = torch.conv2d(image, weight, corrected)[:, 2]
    np.testing.assert_allclose(output, bias, rtol=1e-3, atol=1e-3, err_msg="the channel yields something else")


@pytest.mark.parametrize("factor", [1e-8, 1e-3, 1e3])
def test_the_size_of_a_layers_weights_changes_nothing_but_the_size_of_its_output(factor):
    network = randomized(nn.Sequential(nn.Conv2d(3, 6, 8, bias=False), nn.Flatten()))
    model = quantized(network)
    with torch.no_grad():
        network[0].weight *= factor
    scaled = quantized(network)
    np.testing.assert_allclose(
        fake_quantized_logits(scaled, IMAGES) / factor,
        fake_quantized_logits(model, IMAGES),
        rtol=1e-3,
        atol=0.02 * np.abs(fake_quantized_logits(model, IMAGES)).max(),
    )


@pytest.mark.parametrize("kind", ["dense", "depthwise", "padding same", "linear"])
def test_bias_correction_brings_the_mean_error_of_every_channel_to_nothing(kind):
    network = {
        "dense": nn.Conv2d(3, 6, 3, stride=2, padding=1),
        "depthwise": nn.Conv2d(3, 6, 3, groups=3),
        "padding same": nn.Conv2d(3, 6, 3, padding="same"),
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(192, 6)),
    }[kind]
    dense = folded(randomized(network))
    wanted = float_logits(dense, IMAGES)

    def mean_error(**settings) -> np.ndarray:
        got = float_logits(quantize.apply(dense, Settings(**settings), CONTEXT), IMAGES)
        return np.abs((got - wanted).mean(axis=(0, 2, 3) if got.ndim == 4 else 0))

    assert mean_error(bias_correction=False).max() > 1e-4, "the rounding causes no error that could be corrected"
    assert mean_error(bias_correction=True).max() < 1e-6, "an error is left"


def test_of_two_ways_to_range_activations_that_is_taken_which_brings_the_outputs_nearer():
    chosen = set()
    for seed in range(6):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten())
        dense = folded(network)
        plans = {one: quantize.apply(dense, Settings(activation_range=one), CONTEXT) for one in ("mse", "minmax")}
        taken = quantize.apply(dense, Settings(), CONTEXT).numerics.edges
        wanted = float_logits(dense, IMAGES)

        def noise_db(plan: Numerics, dense=dense, wanted=wanted) -> float:
            only_edges = replace(dense, numerics=plan)
            return sqnr_db(wanted, fake_quantized_logits(only_edges, IMAGES))

        nearer = max(plans, key=lambda one: noise_db(plans[one].numerics))
        assert taken == plans[nearer].numerics.edges, seed
        chosen.add(nearer)
    assert chosen == {"mse", "minmax"}, "one of the two always wins: nothing was shown"


def test_layers_kept_float_keep_every_bit_and_the_plan_says_so():
    before = folded(of_every_kind())
    model = quantize.apply(before, Settings(keep_float=("^stem", r"head\.2")), CONTEXT)
    kept = {(layer.module, layer.why) for layer in model.numerics.layers.values() if layer.precision == "fp32"}
    assert kept == {("stem.0", "--keep-float"), ("head.2", "--keep-float")}
    for name, value in model.network.state_dict().items():
        same = torch.equal(value, before.network.state_dict()[name])
        assert same == (name.rpartition(".")[0] in ("stem.0", "head.2")), f"{name} changed, or stayed"
    assert len(model.numerics.integer_layers) == 3
    assert model.history[-1].startswith("quantize: 3 of 5 layers int8")


def test_a_pattern_that_fits_no_layer_is_named_with_the_layers_there_are():
    with pytest.raises(BadInput, match=r"--keep-float `classifer` fits no layer; layers are: 0, 3$"):
        quantized(headed(nn.Conv2d(3, 6, 3)), keep_float=("classifer",))
    with pytest.raises(BadInput, match=r"--weights-only `classifer` fits no layer; layers are: 0, 3$"):
        quantized(headed(nn.Conv2d(3, 6, 3)), weights_only=("classifer",))


def test_a_layer_that_is_asked_for_in_two_precisions_is_refused_by_name():
    with pytest.raises(
        BadInput, match=r"--weights-only `\.` fits 0, and so does --keep-float; a layer has one precision"
    ):
        quantized(headed(nn.Conv2d(3, 6, 3)), keep_float=("0",), weights_only=(".",))
    with pytest.raises(BadInput, match=r"--dynamic `0` fits 0, and so does --weights-only; a layer has one precision"):
        quantized(headed(nn.Conv2d(3, 6, 3)), weights_only=("0",), dynamic=("0",))


def test_a_layer_of_which_only_the_weights_are_int8_has_the_same_weights_and_no_edges_of_its_own():
    whole, model = quantized(of_every_kind()), quantized(of_every_kind(), weights_only=("^head",))
    name = next(reversed(model.numerics.layers))
    layer = model.numerics.layers[name]
    assert (layer.precision, layer.weight_scales) == ("w8", whole.numerics.layers[name].weight_scales)
    assert layer.output not in model.numerics.edges, "its answer is rounded"
    assert set(whole.numerics.edges) - set(model.numerics.edges) >= {layer.output}
    for value, other in zip(model.network.state_dict().values(), whole.network.state_dict().values(), strict=True):
        assert torch.equal(value, other)
    assert model.history[-1].startswith("quantize: 4 of 5 layers int8, 1 with int8 weights only, 12 calibration images")


def test_weights_held_in_fp16_are_what_fp16_holds_and_those_beyond_it_are_refused():
    model = quantized(of_every_kind(), half_weights=("^head",))
    (layer,) = [one for one in model.numerics.layers.values() if one.precision == "fp16"]
    whole = quantized(of_every_kind(), keep_float=("^head",))
    held, given = (m.network.state_dict()[layer.weight] for m in (model, whole))
    assert torch.equal(held, given.half().float())
    assert not torch.equal(held, given)
    assert (layer.weight_scales, model.numerics.narrow_layers[-1]) == ((), "linear")
    assert model.numerics.edges == whole.numerics.edges
    assert "1 with fp16 weights" in model.history[-1]


X86 = load_profile("intel-n100")
OLD_X86 = X86.model_copy(update={"cores": tuple(one.model_copy(update={"isa": ("avx2",)}) for one in X86.cores)})


@pytest.mark.parametrize(
    ("profile", "runtimes", "wish", "limit"),
    [
        (X86, None, None, 127),
        (OLD_X86, None, None, 63),
        (OLD_X86, ("openvino",), None, 63),
        (OLD_X86, ("onnxruntime", "litert"), None, 127),
        (OLD_X86, None, False, 127),
        (X86, None, True, 63),
    ],
)
def test_weights_have_seven_bits_where_openvino_would_saturate_and_where_it_is_wished(profile, runtimes, wish, limit):
    model = folded(of_every_kind())
    asked = replace(CONTEXT, profile=profile, runtimes=runtimes)
    found = quantize.apply(model, Settings(reduce_range=wish), asked)
    assert found.numerics.weight_limit == limit
    assert ("7 bits" in found.history[-1]) == (limit == 63)
    layer = found.numerics.layers["conv2d"]
    weight = found.network.state_dict()[layer.weight]
    codes = weight / torch.tensor(layer.weight_scales).view(-1, 1, 1, 1)
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
    assert codes.abs().amax((1, 2, 3)).round().tolist() == [limit] * len(weight)


def test_weights_beyond_fp16_are_refused_when_asked_for_and_never_chosen():
    before = with_a_head_that_breaks()
    with torch.no_grad():
        parameter(before.graph, layers_of(before.graph)["linear"].args[1])[0, 0] = 1e5
    with pytest.raises(BadInput, match="--half-weights: 4 has weights beyond the range of fp16; leave it in float"):
        quantize.apply(before, Settings(half_weights=("4",)), CONTEXT)
    assert quantize.apply(before, Settings(), demanding()).numerics.layers["linear"].precision != "fp16"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"activation_range": "max"}, "activation_range is `max`; expected closest, mse, minmax"),
        ({"rounding": "up"}, "rounding is `up`; expected nearest or gptq"),
        ({"keep_float": ("(",)}, r"keep_float `\(` is no regular expression"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wanted, message):
    with pytest.raises(BadInput, match=message):
        Settings(**wanted)


def test_a_value_that_becomes_nan_is_named():
    network = Passing(lambda self, x: self.head(self.conv(x).sqrt()), conv=nn.Conv2d(3, 6, 3), head=headed())
    graph, _ = fold.folded(randomized(network), model_of(network).input_shape)
    with pytest.raises(BadModel, match="`sqrt` became NaN or infinite on a calibration image"):
        quantize.apply(model_of(graph), quantize.Settings(), context(random_images(4)))


def with_a_head_that_breaks():
    """Return a folded classifier whose last layer weighs a constant far more than all that tells classes apart.

    No factor passes a ReLU6, so that the constant cannot be made larger and its weight smaller.
    """
    network = randomized(headed(nn.Conv2d(3, 6, 3), nn.ReLU6()))
    with torch.no_grad():
        network[0].weight[0], network[0].bias[0] = 0.0, 1.0
        network[4].weight[:, 0], network[4].bias[:] = 1000.0, -1000.0
    return folded(network)


def demanding(synthetic=False):
    """Return surroundings with enough selection images to judge by, in which 5 points may be lost."""
    data = replace(CONTEXT.data, selection=random_images(120, seed=7), synthetic=synthetic)
    return replace(CONTEXT, data=data, demand=Demand(max_drop_points=5.0))


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_a_layer_that_costs_more_than_the_demand_stays_float_and_the_history_says_why(rounding):
    before = with_a_head_that_breaks()
    model = quantize.apply(before, Settings(rounding=rounding), demanding())
    assert model.numerics.layers["linear"].precision == "fp16", "1000 is a number of fp16's"
    assert model.numerics.layers["linear"].weight_scales == ()
    assert model.numerics.layers["linear"].why == "for --max-drop"
    assert model.numerics.integer_layers == ["conv2d"]
    kept, dense = (parameter(m.graph, layers_of(m.graph)["linear"].args[1]) for m in (model, before))
    assert torch.equal(kept, dense.half().float()), "a layer kept float changed"
    assert model.history[-1].startswith("quantize: 1 of 2 layers int8, 1 with fp16 weights, 12 calibration images; ")
    assert "5 allowed: 4 (as int8 " in model.history[-1]


@pytest.mark.parametrize(
    ("wanted", "surroundings", "remark"),
    [({"promote": False}, demanding(), ""), ({}, demanding(synthetic=True), ""), ({}, CONTEXT, f"; {TOO_FEW}")],
)
def test_no_layer_is_promoted_unasked_or_on_images_that_say_nothing(wanted, surroundings, remark):
    model = quantize.apply(with_a_head_that_breaks(), Settings(**wanted), surroundings)
    assert model.history[-1] == f"quantize: 2 of 2 layers int8, 12 calibration images{remark}"


def test_what_pruning_lost_is_no_more_there_to_lose():
    before = replace(with_a_head_that_breaks(), lost_points=5.0)
    model = quantize.apply(before, Settings(), demanding())
    assert "0 allowed: 4 (as int8 " in model.history[-1]


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
@pytest.mark.parametrize("activation_range", ["mse", "minmax"])
def test_a_network_with_every_kind_of_layer_survives_its_plan(activation_range, rounding):
    network = of_every_kind()
    model = quantized(network, activation_range=activation_range, rounding=rounding)
    held_out = random_images(16, seed=5)
    sqnr = sqnr_db(float_logits(folded(network), held_out), fake_quantized_logits(model, held_out))
    assert sqnr > 20, f"only {sqnr} dB are left"


def test_the_bundled_model_survives_its_plan_on_images_it_was_not_calibrated_on():
    dense = load_model()
    data = dense.task.read(None, dense.facts)
    calibration = replace(data.calibration, images=data.calibration.images[:32])
    model = fold.apply(dense, fold.Settings(), context(calibration))
    model = quantize.apply(model, Settings(), context(calibration))
    held_out = replace(data.evaluation, images=data.evaluation.images[:64])
    wanted, got = float_logits(dense, held_out), fake_quantized_logits(model, held_out)
    assert sqnr_db(wanted, got) > 20, f"only {sqnr_db(wanted, got)} dB are left"
    assert (wanted.argmax(1) == got.argmax(1)).sum() >= 63, "the answers differ"


@pytest.mark.parametrize("held", [False, True])
def test_a_device_that_takes_and_gives_codes_has_its_ends_in_the_plan_beside_float_layers(held):
    model = folded(of_every_kind())
    settings = Settings(promote=False, keep_float=(".",))
    plan = quantize.apply(model, settings, replace(CONTEXT, int8_ends=held)).numerics
    ends = {input_of(model.graph).name, *(node.name for node in output_nodes(model.graph))}
    assert set(plan.edges) == (ends if held else set())


@pytest.mark.parametrize(
    "spoil", [lambda t: nn.functional.pad(t, (0, 0, 1, 1)), lambda t: nn.functional.max_pool2d(t, (2, 1))]
)
def test_what_pads_or_pools_tokens_is_quantized(spoil):
    network = Passing(
        lambda self, x: self.head(spoil(self.conv(x).flatten(2).transpose(1, 2)).mean(1)),
        conv=nn.Conv2d(3, 6, 3), head=nn.Linear(6, 4),
    )  # fmt: skip
    model = quantize.apply(folded(randomized(network)), Settings(promote=False), CONTEXT)
    assert len(model.numerics.integer_layers) == 2
