"""fp16 for a GPU, but for the operators that it hurts: those are found by calibration and stay fp32.

An operator stays fp32 where what it reads, holds or writes, times a headroom, is beyond fp16's 65504, and where its
output alone falls below a signal-to-noise ratio: values below 6e-5 lose digits in fp16, below 6e-8 they are zero. Each
operator is judged alone, on the fp32 network's own values (model/simulate_fp16.py); bfloat16, which has fp32's range
and 8 bits of fraction, is told beside it. Rounding to fp16 costs an operator some 70 dB at its best.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import BadInput, BadModel, Refused
from edgeslim.grid import SQNR_MOST_DB
from edgeslim.model.context import Context
from edgeslim.model.fp16_plan import LARGEST, HalfIo, HalfOperator, HalfPlan
from edgeslim.model.graph import (
    first_of,
    input_of,
    is_activation,
    is_folded,
    layers_of,
    observe,
    output_nodes,
    parameter,
    rows,
    weight_name,
)
from edgeslim.model.model import Model
from edgeslim.model.simulate_fp16 import is_operator, rounded, to_bfloat16, to_half

ROUNDINGS = {"fp16": to_half, "bf16": to_bfloat16}


@dataclass(frozen=True)
class Settings:
    """What a recipe may say about this step."""

    io: HalfIo = "fp32"  # what the fp16 file takes and gives
    min_sqnr_db: float = 50.0  # an operator below it stays fp32
    headroom: float = 2.0  # images beyond calibration may give values so many times as large
    images: int = 32  # of the calibration images, that give the SQNR

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise BadInput("\n".join(faults))

    def _faults(self) -> Iterator[str]:
        if not 0 <= self.min_sqnr_db <= SQNR_MOST_DB:
            yield f"mixed_precision: min_sqnr_db is {self.min_sqnr_db:g}; expected 0 to {SQNR_MOST_DB:g}"
        if not 1 <= self.headroom < LARGEST:
            yield f"mixed_precision: headroom is {self.headroom:g}; expected 1 or more, below {LARGEST:g}"
        if self.images < 1:
            yield f"mixed_precision: images is {self.images}; expected 1 or more"


def foresee(settings: Settings, profile: DeviceProfile, runtimes: Collection[str]) -> tuple[Settings, dict[str, str]]:
    """Return the settings as they are, and that the build chooses which operators stay fp32."""
    return settings, {"min_sqnr_db": "which operators fall below it is found by the build"}


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with its HalfPlan; its weights stay as they are.

    Expects a folded graph before `quantize`. Raises BadInput for a device that does not mix precisions, BadModel where
    calibration meets NaN or infinity, Refused where the file is to take or give fp16 and its input or output is out of
    range.
    """
    if not context.profile.mixes_precisions:
        raise BadInput(
            f"the recipe's step `mixed_precision` is for devices that mix precisions, not for {context.profile.name}"
        )
    if model.numerics is not None or model.half is not None or not is_folded(model.network):
        raise BadInput("the recipe's step `mixed_precision` comes once, after `fold` and before `quantize`")
    peaks = _peaks(model.graph, context)
    if settings.io == "fp16":
        _require_ends_in_range(model, peaks, settings.headroom)
    images = first_of(context.data.calibration.tensors(), settings.images)
    sqnr_db = _sqnr_db(model.graph, [images[0][: settings.images], *images[1:]])
    plan = HalfPlan(
        tuple(
            _judged(model.graph, node, peaks, sqnr_db, settings)
            for node in model.graph.graph.nodes
            if is_operator(node)
        ),
        settings.io,
        settings.min_sqnr_db,
        settings.headroom,
        min(settings.images, len(context.data.calibration)),
    )
    kept = ", ".join(f"{one.name} ({one.reason})" for one in plan.kept.values())
    line = f"mixed_precision: {len(plan.operators) - len(plan.kept)} of {len(plan.operators)} operators fp16"
    return replace(model.after(f"{line}; fp32: {kept}" if kept else line), half=plan)


def _peaks(graph: fx.GraphModule, context: Context) -> dict[str, float]:
    """Return the largest magnitude of every activation on the calibration images, and of every parameter read."""
    peaks: dict[str, float] = {}

    def see(name: str, value: Tensor) -> None:
        peak = float(value.abs().max())
        if not math.isfinite(peak):
            raise BadModel(f"calibration gives NaN or infinite values at `{name}`")
        peaks[name] = max(peaks.get(name, 0.0), peak)

    context.progress("calibrating: ranges for fp16")
    observe(graph, context.data.calibration.tensors(), see)
    for node in graph.graph.nodes:
        value = parameter(graph, node)
        if value is not None and value.is_floating_point() and value.numel():
            peaks[node.name] = float(value.detach().abs().max())
    return peaks


def _require_ends_in_range(model: Model, peaks: dict[str, float], headroom: float) -> None:
    ends = [("input", input_of(model.graph).name), *(("output", node.name) for node in output_nodes(model.graph))]
    reasons = [
        f"its {end} `{name}` reaches {peaks[name]:.4g} on the calibration images; with a headroom of {headroom:g} that "
        f"overflows fp16, which ends at {LARGEST:g}; let the file take and give fp32: `io: fp32` in the step "
        "mixed_precision"
        for end, name in ends
        if peaks[name] * headroom > LARGEST
    ]
    if reasons:
        raise Refused(f"{model.source} cannot take and give fp16:", reasons)


class _Alone(fx.Interpreter):
    """Runs the fp32 network and, on its values, every operator once more with rounded inputs, weights and output."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.signal: defaultdict[str, float] = defaultdict(float)
        self.noise: defaultdict[tuple[str, str], float] = defaultdict(float)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if is_operator(n):
            self.signal[n.name] += float((value.double() ** 2).sum())
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            for name, rounding in ROUNDINGS.items():
                given, named = rounded(args, rounding), rounded(kwargs, rounding)
                alone = rounded(self.call_function(n.target, given, named), rounding)
                self.noise[name, n.name] += float(((alone.double() - value) ** 2).sum())
        return value


@torch.no_grad()
def _sqnr_db(graph: fx.GraphModule, batches: list[Tensor]) -> dict[tuple[str, str], float]:
    """Return the SQNR of every operator's output, it alone being rounded, by (rounding, operator)."""
    alone = _Alone(graph)
    for row in rows(batches):
        alone.run(row)
    return {(kind, name): _decibels(alone.signal[name], noise) for (kind, name), noise in alone.noise.items()}


def _decibels(signal: float, noise: float) -> float:
    if not math.isfinite(noise):
        return -SQNR_MOST_DB
    if noise == 0.0:
        return SQNR_MOST_DB
    if signal == 0.0:
        return -SQNR_MOST_DB
    return round(max(-SQNR_MOST_DB, min(10 * (math.log10(signal) - math.log10(noise)), SQNR_MOST_DB)), 1)


def _judged(
    graph: fx.GraphModule,
    node: fx.Node,
    peaks: dict[str, float],
    sqnr_db: dict[tuple[str, str], float],
    settings: Settings,
) -> HalfOperator:
    touched = [one for one in (node, *node.all_input_nodes) if one.name in peaks]
    largest = max(touched, key=lambda one: peaks[one.name])
    peak = peaks[largest.name]
    own_db = sqnr_db["fp16", node.name]
    reason = None
    if peak * settings.headroom > LARGEST:
        verb = "writes" if largest is node else "reads" if is_activation(largest) else "holds"
        reason = f"{verb} up to {peak:.4g}; with a headroom of {settings.headroom:g} that overflows fp16"
    elif own_db < settings.min_sqnr_db:
        reason = f"SQNR of {own_db:g} dB alone in fp16, {settings.min_sqnr_db:g} dB demanded"
    weight = weight_name(node) if node.name in layers_of(graph) else None
    operator = str(getattr(getattr(node.target, "overloadpacket", node.target), "__name__", node.target))
    return HalfOperator(node.name, operator, weight, peak, own_db, sqnr_db["bf16", node.name], reason)
