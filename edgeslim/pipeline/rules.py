"""What a device or edgeslim cannot do, found before any work: one function a rule, its docstring is the rule."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from edgeslim.backends import backend_of
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import Refused
from edgeslim.export.operator_facts import fact_name, operator_facts
from edgeslim.formats import FormatName
from edgeslim.model.graph import (
    ATEN,
    argument,
    batched,
    is_activation,
    layers_of,
    named,
    operator_name,
    parameter,
    shape_of,
)
from edgeslim.model.model import Model
from edgeslim.units import show_memory


@dataclass(frozen=True)
class Request:
    """What is to be built: a model, for a device, in some formats."""

    model: Model
    profile: DeviceProfile
    formats: Collection[FormatName] = ()
    value_bytes: int = 4  # of a weight or an activation in what is built

    @property
    def own_rules(self) -> bool:
        """Whether the device's accelerator has rules of its own for operators, averages and batches."""
        return bool(backend_of(self.profile).OWN_RULES)


Rule = Callable[[Request], list[str]]


def device_class(asked: Request) -> list[str]:
    """The device is a CPU, or has an accelerator that edgeslim knows, and its profile says how to build for it."""
    return list(backend_of(asked.profile).profile_faults(asked.profile))


def operators(asked: Request) -> list[str]:
    """Every operator was built and run in each wanted format (docs/operators.md); NPUs have rules of their own."""
    if asked.own_rules:
        return []
    counts = Counter(fact_name(n) for n in asked.model.graph.graph.nodes if n.op == "call_function")
    reasons = []
    for name, count in sorted(counts.items()):
        facts = operator_facts().get(name)
        if facts is None:
            reasons.append(f"operator `{name}` ({count}x) was never tried: no network with it was built and run")
            continue
        reasons += [
            f"operator `{name}` ({count}x) is not built as {one}: {facts[one].reason}; leave out {one} (--format)"
            for one in asked.formats
            if facts[one].kind == "none"
        ]
    return reasons


def arguments(asked: Request) -> list[str]:
    """No maximum over a dilated window is wanted as TFLite, for which LiteRT has no INT8 kernel."""
    if "tflite" not in asked.formats:
        return []
    return [
        f"pool {named(node)} has a dilated window, for which LiteRT has no INT8 kernel; leave out tflite (--format) "
        "or change the pool"
        for node in asked.model.graph.graph.nodes
        if node.target is ATEN.max_pool2d.default and set(argument(node, "dilation")) != {1}
    ]


def memory(asked: Request) -> list[str]:
    """The weights and the two largest activations, a byte each where INT8 is built, fit into half of the RAM."""
    ram = asked.profile.memory.ram.value
    if ram is None:
        return []
    sizes = sorted((math.prod(shape_of(n)) for n in asked.model.graph.graph.nodes if is_activation(n)), reverse=True)
    needed = asked.value_bytes * (asked.model.parameters + sum(sizes[:2]))
    if needed <= ram / 2:
        return []
    return [
        f"{needed // asked.value_bytes:,} weights and activations need {show_memory(needed)}, more than half of the "
        f"{show_memory(ram)} of {asked.profile.name}"
    ]


def model_size(asked: Request) -> list[str]:
    """The INT8 weights stay below the largest model the device takes, where its profile names one."""
    limit = asked.profile.limits.max_model.value
    if limit is None or asked.model.parameters <= limit:
        return []
    return [
        f"{asked.model.parameters} weights, a byte each, exceed the {show_memory(limit)} that {asked.profile.name} "
        "takes"
    ]


def stored_weights(asked: Request) -> list[str]:
    """Every convolution and linear layer reads a stored weight, not one computed while the network runs."""
    return [
        f"layer `{name}` computes its weight while it runs; store the result as a parameter"
        for name, node in layers_of(asked.model.graph).items()
        if parameter(asked.model.graph, node.args[1]) is None
    ]


def weight_scales(asked: Request) -> list[str]:
    """Every INT8 runtime of the device takes one weight scale for each output channel, as edgeslim's files have."""
    return [
        f"{support.name} on {asked.profile.name} takes one weight scale for a whole layer "
        "(`per_channel_weights: false`); edgeslim writes one for each output channel"
        for support in asked.profile.runtimes
        if "int8" in support.precisions and not support.per_channel_weights
    ]


def same_every_time(asked: Request) -> list[str]:
    """An image gets the same answer every time: nothing is random, and no batch norm computes from its batch."""
    reasons = []
    for node in asked.model.graph.graph.nodes:
        if node.target is ATEN.batch_norm.default and (
            argument(node, "training") or parameter(asked.model.graph, argument(node, "running_mean")) is None
        ):
            reasons.append(
                f"batch norm {named(node)} computes from its batch, in eval mode too, so that an answer depends on "
                "what else is asked; use running statistics (track_running_stats=True, training=False)"
            )
        elif _draws(node):
            reasons.append(
                f"`{operator_name(node)}` at {named(node)} is random, in eval mode too; let it do nothing there "
                "(F.dropout has an argument `training`)"
            )
    return reasons


def _draws(node: fx.Node) -> bool:
    """Tell whether an operator draws random numbers; a dropout in eval mode has the same tag and draws none."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    names = [one.name for one in node.target._schema.arguments]  # type: ignore[union-attr] # an aten operator
    switch = next((name for name in ("train", "training", "dropout_p") if name in names), None)
    return switch is None or bool(argument(node, switch))


def batch_axis(asked: Request) -> list[str]:
    """Several images at once give what each gives alone: every linear layer's input has an axis for them, say."""
    vectors = [
        f"linear layer {named(node)} reads a vector without an axis for images, so that it takes one image only; "
        "flatten from the first axis on: torch.flatten(x, 1)"
        for node in layers_of(asked.model.graph).values()
        if len(shape_of(node)) == 1
    ]
    if vectors or asked.own_rules or same_every_time(asked):
        return vectors
    try:
        batched(asked.model.graph)
    except Refused as refusal:
        return [refusal.sentence]
    return []


RULES: tuple[Rule, ...] = (
    device_class,
    operators,
    arguments,
    same_every_time,
    batch_axis,
    stored_weights,
    memory,
    model_size,
    weight_scales,
)


def way_out(profile: DeviceProfile) -> str:
    """Return what to do about a device that nothing is built for; of others the reasons say it themselves."""
    return (
        "`edgeslim devices` lists the others, with their class" if backend_of(profile).profile_faults(profile) else ""
    )


def require_possible(model: Model, profile: DeviceProfile, reasons: Sequence[str]) -> None:
    """Raise Refused where there are reasons why a device cannot have a model."""
    if reasons:
        raise Refused(f"{model.source} cannot be built for {profile.name}:", reasons, way_out(profile))


def refusals(model: Model, profile: DeviceProfile, formats: Collection[FormatName], value_bytes: int = 1) -> list[str]:
    """Return every reason why the device cannot have this model in these formats, all rules asked."""
    asked = Request(model, profile, formats, value_bytes)
    return [reason for rule in RULES for reason in rule(asked)]
