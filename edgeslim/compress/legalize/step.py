"""Rewrite what an NPU refuses into what it runs (rewrites/), then ask its rules again; what is left is refused.

Under `auto` only what the rules ask for is rewritten. A rewrite that is not exact is followed by a recovery without
labels or training: layer by layer, what it changed is fitted by least squares to what the network computed before
(model/reconstruct.py), and what is lost is told.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import fx

from edgeslim.compress.legalize.rewrites import known_rewrites, rewrite_named
from edgeslim.compress.legalize.rules import Violation, violations
from edgeslim.devices.npu_limits import NpuLimits
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import BadInput, Refused, near_misses
from edgeslim.model.context import Context
from edgeslim.model.equivalence import worst_db
from edgeslim.model.fitting.reconstruct import reconstruct
from edgeslim.model.graph import (
    batched,
    copy_of,
    drop_unused,
    is_folded,
    layers_of,
    outputs_of_batches,
    parameter,
    trace,
    two_at_least,
    weight_name,
)
from edgeslim.model.model import Model
from edgeslim.recipe import one_of

MOST_ROUNDS = 8  # a rewrite may call for another: a clip's new layer, an average's stride

# What a recipe may say of rewrites.
WORDS = ("auto", "none", *(f"{name}={answer}" for name in known_rewrites() for answer in ("yes", "no")))


@dataclass(frozen=True)
class Settings:
    """Which rewrites: `auto` (what the rules ask for), `none`, and NAME=yes or NAME=no beside either."""

    rewrite: tuple[Annotated[str, one_of(*WORDS)], ...] = ("auto",)

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise BadInput("\n".join(faults))

    def _faults(self) -> Iterator[str]:
        for word in self.rewrite:
            if word not in WORDS:
                name = word.partition("=")[0]
                known = ", ".join(known_rewrites())
                yield (
                    f"rewrite `{word}`: expected auto, none, NAME=yes or NAME=no, NAME one of {known}"
                    f"{near_misses(name, known_rewrites())}"
                )
        if {"auto", "none"} <= set(self.rewrite):
            yield "rewrite: auto and none contradict each other"

    def cures(self, violation: Violation) -> bool:
        """Tell whether what breaks a rule will be rewritten."""
        if violation.cure is None:
            return False
        return (self._answer(violation.cure) or ("no" if "none" in self.rewrite else "yes")) == "yes"

    @property
    def everywhere(self) -> list[str]:
        """Return the rewrites that are wanted wherever they apply, asked for by a rule or not."""
        return [name for name in known_rewrites() if self._answer(name) == "yes"]

    def _answer(self, name: str) -> str | None:
        answers = [word.partition("=")[2] for word in self.rewrite if word.partition("=")[0] == name]
        return answers[-1] if answers else None


def foresee(settings: Settings, profile: DeviceProfile, runtimes: Collection[str]) -> tuple[Settings, dict[str, str]]:
    """Return the settings as they are, and that `auto` depends on the network."""
    return settings, {} if "none" in settings.rewrite else {"rewrite": "auto: `edgeslim check` says what is rewritten"}


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model rewritten for the device's NPU, traced anew.

    Expects a folded network before `quantize`. Raises Refused, by layer, for what the rewrites leave outside the rules,
    ToolFailed where an exact rewrite changed what the network computes.
    """
    profile, limits = context.profile, context.profile.operator_limits
    if limits is None:
        raise BadInput(f"the recipe's step `legalize` is for devices with an NPU; {profile.name} has no section `npu`")
    if model.numerics is not None or not is_folded(model.network):
        raise BadInput("the recipe's step `legalize` comes after `fold` and before `quantize`")
    context.progress("rewriting for the NPU")
    given = model
    inexact = {
        **_wanted(model.graph, settings, limits, exact=False),
        **_asked(model.graph, settings, profile, exact=False),
    }
    if inexact:
        recovered, line = _recovered(model, inexact, limits, context)
        model = model.after(line, network=recovered)
    planned = _wanted(model.graph, settings, limits, exact=True)
    for _ in range(MOST_ROUNDS):
        if planned:
            graph = copy_of(model.graph)
            line = f"legalize, exact: {_rewrite(graph, planned, limits)}"
            model = model.exactly("legalize", line, trace(graph, model.input_shape), context.images)
        planned = _asked(model.graph, settings, profile, exact=True)
        if not planned:
            break
    if left := violations(model.graph, profile):
        raise Refused(
            f"{model.source} cannot be built for {profile.name}; left after rewriting:", [str(one) for one in left]
        )
    if model is given:
        return model.after(f"legalize: nothing, since the NPU of {profile.name} takes every layer")
    return model


def _asked(graph: fx.GraphModule, settings: Settings, profile: DeviceProfile, *, exact: bool) -> dict[str, str]:
    """Return {node: rewrite} for what the rules ask for."""
    found = {one.layer: one.cure for one in violations(graph, profile) if one.cure and settings.cures(one)}
    return {layer: name for layer, name in found.items() if rewrite_named(name).EXACT is exact}


def _wanted(graph: fx.GraphModule, settings: Settings, limits: NpuLimits, *, exact: bool) -> dict[str, str]:
    """Return {node: rewrite} for what is wanted wherever it applies."""
    return {
        node.name: name
        for name in settings.everywhere
        for node in graph.graph.nodes
        if rewrite_named(name).EXACT is exact
        if node.op == "call_function" and rewrite_named(name).applies(node, limits)
    }


def _rewrite(graph: fx.GraphModule, planned: Mapping[str, str], limits: NpuLimits) -> str:
    """Rewrite nodes in place; return what was done, by rewrite."""
    done: dict[str, list[str]] = {}
    for layer, name in planned.items():
        node = next((one for one in graph.graph.nodes if one.name == layer), None)
        if node is not None and rewrite_named(name).applies(node, limits):  # an earlier rewrite may have taken it out
            rewrite_named(name).rewrite(graph, node, limits)
            done.setdefault(name, []).append(layer)
    graph.graph.eliminate_dead_code()
    drop_unused(graph)
    graph.graph.lint()
    graph.recompile()
    return "; ".join(f"{name} at {', '.join(layers)}" for name, layers in sorted(done.items()))


@torch.no_grad()
def _recovered(
    model: Model, planned: Mapping[str, str], limits: NpuLimits, context: Context
) -> tuple[fx.GraphModule, str]:
    """Return the graph with inexact rewrites, its layers fitted to what it computed before, and what that cost."""
    before = batched(model.graph)
    rewritten = copy_of(before)
    done = _rewrite(rewritten, planned, limits)
    fitted = copy_of(rewritten)
    rows = {
        weight_name(node): np.arange(len(weight))
        for node in layers_of(fitted).values()
        if (weight := parameter(fitted, node.args[1])) is not None
    }
    context.progress("rewriting for the NPU: fitting what follows")
    remarks = reconstruct(before, fitted, rows, two_at_least(list(context.data.calibration.tensors())))
    selection = context.data.selection
    wanted, plain, recovered = (outputs_of_batches(one, selection.tensors()) for one in (before, rewritten, fitted))
    better = worst_db(wanted, recovered) >= worst_db(wanted, plain)
    kept, outputs = (fitted, recovered) if better else (rewritten, plain)
    agreement_pct = model.task.agreement_pct
    cost = (
        f"{agreement_pct(wanted, outputs):.2f} % of {len(selection)} selection images answered as before, "
        f"{worst_db(wanted, outputs):.1f} dB SQNR"
    )
    how = f"recovered, {agreement_pct(wanted, plain):.2f} % without" if better else "no fit was better than none"
    return trace(kept, model.input_shape), "; ".join(
        [f"legalize, inexact: {done}; {cost} ({how})", *(remarks if better else [])]
    )
