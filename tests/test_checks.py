"""Every rule at its boundary: what just fits and what just does not."""

import math

import pytest
import torch
from small_models import Passing, model_of, normalized_layers, plain
from torch import nn

from edgeslim.checks import OPERATORS, RULES, device_class, memory, model_size, operators, refusals, stored_weights
from edgeslim.device_profile import DeviceProfile, load_profile
from edgeslim.sourced import Bytes

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
        assert refusals(MODEL, load_profile(name)) == [], f"{name} refuses a small classifier"


@pytest.mark.parametrize("name", ["jetson-orin-nano", "nvidia-cuda"])
def test_a_gpu_is_refused_only_without_tensorrt(name):
    device = load_profile(name)
    assert device_class(MODEL, device) == [], f"{name} has TensorRT and is refused"
    assert refusals(MODEL, device) == [], f"{name} refuses a small classifier"
    other = device.runtimes[0].model_copy(update={"name": "openvino"})
    assert device_class(MODEL, device.model_copy(update={"runtimes": (other,)})) == [
        f"{name} is a device of class gpu; building for GPUs without TensorRT and for NPUs other than Ethos-U is not "
        "there yet"
    ], "a GPU without TensorRT is not refused by name"


@pytest.mark.parametrize("name", ["nxp-imx93", "arm-corstone-300", "arm-corstone-320"])
def test_an_ethos_u_is_refused_only_where_its_profile_does_not_say_how_to_compile(name):
    device = load_profile(name)
    assert device_class(MODEL, device) == []
    without = device.compiler.model_copy(update={"memory_mode": None})
    (reason,) = device_class(MODEL, device.model_copy(update={"compiler": without}))
    assert reason == (
        f"{name} has an Ethos-U and its profile no memory mode: Vela would guess where weights and activations lie; "
        "write `memory_mode: ...` under `compiler` (vela.ini has Shared_Sram, Dedicated_Sram_384KB)"
    )
    (reason,) = device_class(MODEL, device.model_copy(update={"compiler": None}))
    assert "its profile no `compiler` section" in reason


def test_a_configuration_that_vela_ini_lacks_is_refused_with_the_near_misses():
    device = load_profile("nxp-imx93")
    wrong = device.compiler.model_copy(update={"memory_mode": "Dedicated_Sram", "system_config": "Ethos_U65"})
    first, second = device_class(MODEL, device.model_copy(update={"compiler": wrong}))
    assert "the system config `Ethos_U65`; did you mean `Ethos_U65_High_End`" in first
    assert "the memory mode `Dedicated_Sram`; did you mean `Dedicated_Sram_384KB`" in second


def test_an_operator_outside_the_table_is_refused_by_name_and_counted():
    assert operators(model_of(normalized_layers()), PI) == [
        "operator `gelu` (1x) was never seen to survive all three exporters",
        "operator `layer_norm` (1x) was never seen to survive all three exporters",
    ]
    twice = nn.Sequential(nn.ELU(), nn.Conv2d(3, 2, 1), nn.ELU(), nn.Flatten())
    assert operators(model_of(twice), PI) == ["operator `elu` (2x) was never seen to survive all three exporters"]


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
    assert operators(model_of(network), PI) == [], f"the table of {len(OPERATORS)} lacks a form"


def test_half_of_the_memory_holds_the_weights_and_the_two_largest_activations():
    needed = 4 * (PARAMETERS + 2 * 6 * 6 * 6)  # the convolution's output, before and after its batch norm
    assert MODEL.parameters == PARAMETERS
    assert memory(MODEL, with_ram(2 * needed)) == [], "what just fits is refused"
    (reason,) = memory(MODEL, with_ram(2 * needed - 1))
    assert reason.startswith("the float model needs"), "what just does not fit is accepted"
    assert reason.endswith(f"of {PI.name}")


def test_an_unknown_memory_refuses_nothing():
    assert memory(MODEL, with_ram(None)) == []


def test_the_largest_model_a_device_takes_is_counted_in_int8_weights():
    assert model_size(MODEL, with_largest_model(PARAMETERS)) == [], "what just fits is refused"
    assert model_size(MODEL, with_largest_model(PARAMETERS - 1)) == [
        f"{PARAMETERS} weights, a byte each, exceed the {PARAMETERS - 1} B that {PI.name} takes"
    ]
    assert model_size(MODEL, with_largest_model(None)) == [], "a limit that nobody knows refuses nothing"


def test_all_reasons_come_at_once():
    device = with_ram(64).model_copy(update={"device_class": "npu", "limits": with_largest_model(1).limits})
    reasons = refusals(model_of(normalized_layers()), device)
    assert len(reasons) == 5, reasons
    for word in ("class npu", "`gelu`", "`layer_norm`", "more than half", "a byte each"):
        assert any(word in reason for reason in reasons), f"no reason says {word}"


def test_every_rule_says_in_its_docstring_what_it_demands():
    for rule in RULES:
        assert rule.__doc__, f"{rule.__name__} has no docstring"
        assert rule.__doc__.rstrip().endswith("."), f"{rule.__name__}: its docstring is no sentence"


def test_memory_counts_activations_of_the_graph_and_no_parameters():
    image = torch.zeros(MODEL.input_shape)
    large = model_of(nn.Sequential(nn.Upsample(scale_factor=4), nn.MaxPool2d(4), nn.Flatten()))
    largest = 4 * (16 * image.numel() + image.numel())
    assert memory(large, with_ram(2 * largest)) == []
    assert memory(large, with_ram(2 * largest - 1)) != []
    assert math.prod(MODEL.input_shape) == image.numel()


def test_a_weight_computed_while_the_network_runs_is_refused_by_its_layer():
    computed = Passing(
        lambda self, x: nn.functional.linear(x.flatten(1), self.inner.weight * 2.0), inner=nn.Linear(3 * 8 * 8, 4)
    )
    assert stored_weights(model_of(computed), PI) == [
        "layer `linear` computes its weight while it runs; store the result as a parameter"
    ]
    assert stored_weights(MODEL, PI) == []
