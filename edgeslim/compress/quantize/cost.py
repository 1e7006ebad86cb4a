"""What layers that must not be INT8 may be in place of fp32, the cheapest first: by measured time, then by size."""

from collections.abc import Collection, Mapping, Sequence

from torch import fx

from edgeslim.compress.prune.sizes import timed_alone
from edgeslim.compress.quantize.edges import can_be_dynamic
from edgeslim.errors import BadInput, Refused
from edgeslim.formats import RUNTIMES, RuntimeName
from edgeslim.model.context import Context
from edgeslim.model.graph import layers_of
from edgeslim.model.numerics import PRECISIONS

ALIKE = 0.05  # of fp32's time: the steps in which times are compared, so that noise decides less often


def cheaper(context: Context) -> tuple[str, ...]:
    """Return what may be cheaper than fp32 in the device's first runtime among the files', in the order of the rule."""
    runtime = _runtime(context)
    if runtime is None:
        return ()
    has = {"dynamic": RUNTIMES[runtime].ranges_inputs, "w8": RUNTIMES[runtime].unpacks_once, "fp16": True}
    return tuple(one for one in PRECISIONS if has.get(one, False))


def cheapest_first(graph: fx.GraphModule, context: Context, layers: Sequence[str]) -> tuple[str, ...]:
    """Return the precisions in which some layers are no slower than in fp32, the fastest first, then the smallest.

    As a rule has them, where nobody knows what layers take in that runtime on the device.
    """
    kinds = cheaper(context)
    try:
        seconds = _seconds(graph, context, layers, (*kinds, "fp32"))
    except (BadInput, Refused):  # also where operator times were given that lack these
        return kinds
    if not seconds:
        return kinds
    steps = {kind: round(seconds[kind] / seconds["fp32"] / ALIKE) for kind in kinds}
    return tuple(sorted((one for one in kinds if steps[one] <= round(1 / ALIKE)), key=lambda one: steps[one]))


def _runtime(context: Context) -> RuntimeName | None:
    """Return that runtime of the files' which the device prefers; None where it is none of edgeslim's own."""
    names = [one.name for one in context.profile.runtimes if context.runtimes is None or one.name in context.runtimes]
    return next((name for name in RUNTIMES if names[:1] == [name]), None)


def _seconds(
    graph: fx.GraphModule, context: Context, layers: Sequence[str], kinds: Sequence[str]
) -> Mapping[str, float]:
    """Return what layers take together in each precision, those that can be timed alone; nothing where none can."""
    timed, nodes = timed_alone(graph, layers), layers_of(graph)
    latency = context.operator_latency(precision="fp32")
    if not timed or latency.missing is not None or latency.runtime != _runtime(context):
        return {}

    def together(names: Collection[str], kind: str) -> float:
        known = context.operator_latency(precision=kind).seconds([timed[name] for name in names]) if names else {}
        return sum(known[timed[name]] for name in names)

    found = {}
    for kind in kinds:
        able = [name for name in timed if kind != "dynamic" or can_be_dynamic(nodes[name])]
        found[kind] = together(able, kind) + together(timed.keys() - set(able), "w8")  # as such a file has them
    return found
