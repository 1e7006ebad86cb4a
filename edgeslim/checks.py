"""What a device or edgeslim cannot do, found before any work: one function a rule, its docstring is the rule."""

import math
from collections import Counter
from collections.abc import Callable

from edgeslim.device_profile import DeviceProfile
from edgeslim.graph import is_activation, layers_of, operator_name, parameter, shape_of
from edgeslim.model import Model
from edgeslim.units import show_bytes
from edgeslim.vela_config import profile_faults

Rule = Callable[[Model, DeviceProfile], list[str]]

# Every operator that all three exporters write and all three runtimes run: each stood in a network that was built.
OPERATORS = frozenset(
    {
        "adaptive_avg_pool2d", "add", "add_", "avg_pool2d", "batch_norm", "cat", "chunk", "contiguous", "conv2d",
        "dropout", "dropout_", "flatten", "getitem", "hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_",
        "hardtanh", "hardtanh_", "linear", "max_pool2d", "mean", "mul", "mul_", "permute", "relu", "relu6", "relu_",
        "reshape", "sigmoid", "sigmoid_", "silu", "silu_", "transpose", "view",
    }
)  # fmt: skip


def device_class(model: Model, profile: DeviceProfile) -> list[str]:  # noqa: ARG001 - the Rule signature
    """Edgeslim builds for CPUs, for GPUs with TensorRT, and for Ethos-U NPUs whose profile says how to compile."""
    if profile.device_class == "cpu" or profile.tensorrt is not None:
        return []
    if profile.device_class == "npu" and profile.runtime("ethos-u") is not None:
        return profile_faults(profile)
    return [
        f"{profile.name} is a device of class {profile.device_class}; building for GPUs without TensorRT and for NPUs "
        "other than Ethos-U is not there yet"
    ]


def operators(model: Model, profile: DeviceProfile) -> list[str]:
    """Every operator is one that all exporters were seen to write and all runtimes to run; NPUs have their own."""
    if profile.npu is not None:
        return []
    unknown = Counter(
        name
        for name in (operator_name(n) for n in model.graph.graph.nodes if n.op == "call_function")
        if name not in OPERATORS
    )
    return [
        f"operator `{name}` ({count}x) was never seen to survive all three exporters"
        for name, count in sorted(unknown.items())
    ]


def memory(model: Model, profile: DeviceProfile) -> list[str]:
    """The float weights and the two largest activations fit into half of the device's RAM."""
    ram = profile.memory.ram.value
    if ram is None:
        return []
    sizes = sorted((4 * math.prod(shape_of(n)) for n in model.graph.graph.nodes if is_activation(n)), reverse=True)
    needed = 4 * model.parameters + sum(sizes[:2])
    if needed <= ram / 2:
        return []
    return [f"the float model needs {show_bytes(needed)}, more than half of the {show_bytes(ram)} of {profile.name}"]


def model_size(model: Model, profile: DeviceProfile) -> list[str]:
    """The INT8 weights stay below the largest model the device takes, where its profile names one."""
    limit = profile.limits.max_model.value
    if limit is None or model.parameters <= limit:
        return []
    return [f"{model.parameters} weights, a byte each, exceed the {show_bytes(limit)} that {profile.name} takes"]


def stored_weights(model: Model, profile: DeviceProfile) -> list[str]:  # noqa: ARG001 - the Rule signature
    """Every convolution and linear layer reads a stored weight, not one computed while the network runs."""
    return [
        f"layer `{name}` computes its weight while it runs; store the result as a parameter"
        for name, node in layers_of(model.graph).items()
        if parameter(model.graph, node.args[1]) is None
    ]


def weight_scales(model: Model, profile: DeviceProfile) -> list[str]:  # noqa: ARG001 - the Rule signature
    """Every INT8 runtime of the device takes one weight scale for each output channel, as edgeslim's files have."""
    return [
        f"{support.name} on {profile.name} takes one weight scale for a whole layer (`per_channel_weights: false`); "
        "edgeslim writes one for each output channel"
        for support in profile.runtimes
        if "int8" in support.precisions and not support.per_channel_weights
    ]


RULES: tuple[Rule, ...] = (device_class, operators, stored_weights, memory, model_size, weight_scales)


def refusals(model: Model, profile: DeviceProfile) -> list[str]:
    """Return every reason why the device cannot have this model, all rules asked."""
    return [reason for rule in RULES for reason in rule(model, profile)]
