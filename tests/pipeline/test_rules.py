"""Every rule at its boundary: what just fits and what just does not."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.devices.sourced import Bytes
from edgeslim.export.operator_facts import Fact, operator_facts
from edgeslim.formats import FORMATS
from edgeslim.pipeline import rules
from edgeslim.pipeline.rules import (
    RULES,
    Request,
    arguments,
    batch_axis,
    device_class,
    memory,
    model_size,
    operators,
    refusals,
    same_every_time,
    stored_weights,
)
from tests.support.small_models import COLOR, Passing, headed, model_of, plain

PI = load_profile("raspberry-pi")
MODEL = model_of(plain())
PARAMETERS = 3 * 6 * 9 + 6 + 6 + 6 * 4 + 4  # convolution, batch norm, linear layer


def with_ram(ram_bytes: int | None) -> DeviceProfile:
    ram = Bytes(value=None if ram_bytes is None else f"{ram_bytes} B", source="a test")
    return PI.model_copy(update={"memory": PI.memory.model_copy(update={"ram": ram})})


def with_largest_model(size_bytes: int | None) -> DeviceProfile:
    largest = Bytes(value=None if size_bytes is None else f"{size_bytes} B", source="a test")
    return PI.model_copy(update={"limits": PI.limits.model_copy(update={"max_model": largest})})


def test_a_small_classifier_is_refused_by_no_cpu_device():
    for name in ("raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w", "x86-64-host", "intel-n100"):
        assert refusals(MODEL, load_profile(name), FORMATS) == [], f"{name} refuses a small classifier"


@pytest.mark.parametrize("name", ["jetson-orin-nano", "nvidia-cuda"])
def test_a_gpu_is_refused_only_without_tensorrt(name):
    device = load_profile(name)
    assert device_class(Request(MODEL, device)) == [], f"{name} has TensorRT and is refused"
    assert refusals(MODEL, device, FORMATS) == [], f"{name} refuses a small classifier"
    other = device.runtimes[0].model_copy(update={"name": "openvino"})
    assert device_class(Request(MODEL, device.model_copy(update={"runtimes": (other,)}))) == [
        f"{name} is a device of class gpu; building for GPUs without TensorRT and for NPUs other than Ethos-U is not "
        "there yet"
    ], "a GPU without TensorRT is not refused by name"


@pytest.mark.parametrize("name", ["nxp-imx93", "arm-corstone-300", "arm-corstone-320"])
def test_an_ethos_u_is_refused_only_where_its_profile_does_not_say_how_to_compile(name):
    device = load_profile(name)
    assert device_class(Request(MODEL, device)) == []
    without = device.compiler.model_copy(update={"memory_mode": None})
    (reason,) = device_class(Request(MODEL, device.model_copy(update={"compiler": without})))
    assert reason == (
        f"{name} has an Ethos-U and its profile no memory mode: Vela would guess where weights and activations lie; "
        "write `memory_mode: ...` under `compiler` (vela.ini has Shared_Sram, Dedicated_Sram_384KB)"
    )
    (reason,) = device_class(Request(MODEL, device.model_copy(update={"compiler": None})))
    assert "its profile no `compiler` section" in reason


def test_a_configuration_that_vela_ini_lacks_is_refused_with_the_near_misses():
    device = load_profile("nxp-imx93")
    wrong = device.compiler.model_copy(update={"memory_mode": "Dedicated_Sram", "system_config": "Ethos_U65"})
    first, second = device_class(Request(MODEL, device.model_copy(update={"compiler": wrong})))
    assert "the system config `Ethos_U65`; did you mean `Ethos_U65_High_End`" in first
    assert "the memory mode `Dedicated_Sram`; did you mean `Dedicated_Sram_384KB`" in second


def test_an_operator_that_was_never_tried_is_refused_by_name_and_counted():
    network = Passing(lambda self, x: self.net(x.cumsum(2).sin().cumsum(3)), net=plain())
    assert operators(Request(model_of(network), PI, tuple(FORMATS))) == [
        "operator `cumsum` (2x) was never tried: no network with it was built and run",
        "operator `sin` (1x) was never tried: no network with it was built and run",
    ]


def test_an_operator_is_refused_for_the_formats_asked_for_that_cannot_have_it(monkeypatch):
    can, cannot = Fact("integer"), Fact("none", "its INT8 file is 11 steps off")
    facts = {**operator_facts(), "elu": {"onnx": can, "openvino": can, "tflite": cannot}}
    monkeypatch.setattr(rules, "operator_facts", lambda: facts)
    asked = Request(model_of(nn.Sequential(nn.ELU(), nn.Conv2d(3, 2, 1), nn.ELU(), nn.Flatten())), PI, tuple(FORMATS))
    told = "operator `elu` (2x) is not built as tflite: its INT8 file is 11 steps off; leave out tflite (--format)"
    assert operators(asked) == [told]
    assert operators(replace(asked, formats=("onnx", "openvino"))) == []


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.SiLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()),
        nn.Sequential(nn.ReLU6(inplace=True), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.AvgPool2d(2)),
        nn.Sequential(nn.Dropout(inplace=True), nn.AdaptiveAvgPool2d((1, 1))),
    ],
    ids=["padding same", "activations", "pooling"],
)
def test_an_operator_in_the_table_is_not_refused_in_any_of_its_forms(network):
    assert operators(Request(model_of(network), PI, tuple(FORMATS))) == []


def test_half_of_the_memory_holds_the_weights_and_the_two_largest_activations():
    needed = 4 * (PARAMETERS + 2 * 6 * 6 * 6)  # the convolution's output, before and after its batch norm
    assert MODEL.parameters == PARAMETERS
    assert memory(Request(MODEL, with_ram(2 * needed))) == [], "what just fits is refused"
    (reason,) = memory(Request(MODEL, with_ram(2 * needed - 1)))
    assert reason.startswith(f"{needed // 4} weights and activations need"), "what just does not fit is accepted"
    assert memory(Request(MODEL, with_ram(needed // 2), value_bytes=1)) == [], "INT8 takes a quarter"
    assert memory(Request(MODEL, with_ram(needed // 2 - 1), value_bytes=1)) != []
    assert reason.endswith(f"of {PI.name}")


def test_an_unknown_memory_refuses_nothing():
    assert memory(Request(MODEL, with_ram(None))) == []


def test_the_largest_model_a_device_takes_is_counted_in_int8_weights():
    assert model_size(Request(MODEL, with_largest_model(PARAMETERS))) == [], "what just fits is refused"
    assert model_size(Request(MODEL, with_largest_model(PARAMETERS - 1))) == [
        f"{PARAMETERS} weights, a byte each, exceed the {PARAMETERS - 1} B that {PI.name} takes"
    ]
    assert model_size(Request(MODEL, with_largest_model(None))) == [], "a limit that nobody knows refuses nothing"


def test_all_reasons_come_at_once():
    device = with_ram(64).model_copy(update={"device_class": "npu", "limits": with_largest_model(1).limits})
    network = Passing(lambda self, x: self.net(x.cumsum(2).sin()), net=plain())
    reasons = refusals(model_of(network), device, FORMATS)
    assert len(reasons) == 5, reasons
    for word in ("class npu", "`cumsum`", "`sin`", "more than half", "a byte each"):
        assert any(word in reason for reason in reasons), f"no reason says {word}"


def test_every_rule_says_in_its_docstring_what_it_demands():
    for rule in RULES:
        assert rule.__doc__, f"{rule.__name__} has no docstring"
        assert rule.__doc__.rstrip().endswith("."), f"{rule.__name__}: its docstring is no sentence"


def test_memory_counts_activations_of_the_graph_and_no_parameters():
    image = torch.zeros(MODEL.input_shape)
    large = model_of(nn.Sequential(nn.Upsample(scale_factor=4), nn.MaxPool2d(4), nn.Flatten()))
    largest = 4 * (16 * image.numel() + image.numel())
    assert memory(Request(large, with_ram(2 * largest))) == []
    assert memory(Request(large, with_ram(2 * largest - 1))) != []
    assert math.prod(MODEL.input_shape) == image.numel()


def test_a_weight_computed_while_the_network_runs_is_refused_by_its_layer():
    computed = Passing(
        lambda self, x: nn.functional.linear(x.flatten(1), self.inner.weight * x.mean()), inner=nn.Linear(3 * 8 * 8, 4)
    )
    assert stored_weights(Request(model_of(computed), PI)) == [
        "layer `linear` computes its weight while it runs; store the result as a parameter"
    ]
    assert stored_weights(Request(MODEL, PI)) == []


def pooled(pool: nn.Module, side: int) -> Request:
    """Return a request for a network with one pool over 6 channels of `side` x `side`, in every format."""
    preprocessing = replace(COLOR, width=side, height=side, resize=side)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), pool, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    return Request(model_of(network, preprocessing), PI, tuple(FORMATS))


# At each limit and beyond it: (pool, side of the image, formats that refuse). What is accepted here was built and run.
POOLS = [
    (nn.MaxPool2d(3, 1, 1), 8, []),
    (nn.MaxPool2d(3, 1, 1, dilation=2), 8, ["tflite"]),
    (nn.AvgPool2d(3, 2, ceil_mode=True), 8, []),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), 9, []),
    (nn.AvgPool2d(3, 2, 1, ceil_mode=True), 8, []),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), 9, []),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), 8, []),
    (nn.AvgPool2d(3, 2, 0, count_include_pad=False), 9, []),
    (nn.AvgPool2d(2, divisor_override=3), 8, []),
]


@pytest.mark.parametrize(("pool", "side", "refused"), POOLS, ids=[f"{pool} on {side}" for pool, side, _ in POOLS])
def test_a_pool_is_refused_for_the_formats_that_cannot_hold_it(pool, side, refused):
    asked = pooled(pool, side)
    found = arguments(asked)
    assert [re.search(r"leave out (\w+) \(--format\)", reason)[1] for reason in found] == refused
    assert all(re.match(r"pool `(avg|max)_pool2d` \(module 1\) \w+", reason) for reason in found), found
    assert arguments(replace(asked, formats=())) == [], "no format was asked for"


def test_a_pool_over_an_image_without_its_batch_axis_is_no_stumbling_block():
    network = Passing(lambda self, x: self.net(nn.functional.avg_pool2d(x.flatten(0, 1), 1)[None]), net=plain())
    assert arguments(Request(model_of(network), PI, tuple(FORMATS))) == []


def test_a_batch_norm_that_computes_from_its_batch_is_refused_by_name():
    own = headed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False))
    training = Passing(
        lambda self, x: self.head(nn.functional.batch_norm(self.conv(x), torch.zeros(6), torch.ones(6), training=True)),
        conv=nn.Conv2d(3, 6, 3),
        head=headed(),
    )
    for network, name in ((own, "`batch_norm` (module 1)"), (training, "`batch_norm`")):
        (reason,) = same_every_time(Request(model_of(network), PI))
        assert reason.startswith(f"batch norm {name} computes from its batch, in eval mode too")
    assert same_every_time(Request(MODEL, PI)) == []


def test_what_is_random_in_eval_mode_is_refused_by_name_and_a_dropout_that_does_nothing_is_not():
    def network(change) -> nn.Module:
        return Passing(lambda self, x: self.net(change(x)), net=plain())

    (reason,) = same_every_time(Request(model_of(network(lambda x: nn.functional.dropout(x, 0.5))), PI))
    assert reason.startswith("`dropout` at `dropout` is random, in eval mode too")
    (reason,) = same_every_time(Request(model_of(network(lambda x: x + torch.randn_like(x))), PI))
    assert reason.startswith("`randn_like` at `randn_like` is random")
    assert same_every_time(Request(model_of(nn.Sequential(nn.Dropout(0.5), plain())), PI)) == []
    attending = network(lambda x: nn.functional.scaled_dot_product_attention(x, x, x))
    assert same_every_time(Request(model_of(attending), PI)) == [], "without dropout nothing is drawn"


def test_a_linear_layer_over_a_vector_without_images_is_refused_by_name_and_one_over_rows_is_not():
    vector = Passing(lambda self, x: self.layer(torch.flatten(x)).reshape(1, 4), layer=nn.Linear(192, 4))
    (reason,) = batch_axis(Request(model_of(vector), PI))
    assert reason.startswith("linear layer `linear` (module layer) reads a vector without an axis for images")
    rows = Passing(lambda self, x: self.layer(x.flatten(2)).mean(1), layer=nn.Linear(64, 4))
    assert batch_axis(Request(model_of(rows), PI)) == []


def test_a_network_that_mixes_images_is_refused_before_the_work_that_runs_several_at_once():
    mixing = Passing(lambda self, x: self.net(x - x.mean(0, keepdim=True) * 0.5), net=plain())
    assert batch_axis(Request(model_of(mixing), PI)) == [
        "the network mixes the images of a batch: two at once do not give what each gives alone"
    ]
    assert batch_axis(Request(model_of(mixing), load_profile("nxp-imx93"))) == [], "nothing there runs several at once"
