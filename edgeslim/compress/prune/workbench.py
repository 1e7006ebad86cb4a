"""One network on the bench: its channels and blocks, what they cost on a device, and the images they are judged on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx

from edgeslim.cache import graph_sha256
from edgeslim.compress.prune.allocation import Plan
from edgeslim.compress.prune.blocks import Block, blocks_of
from edgeslim.compress.prune.candidates import Judge, PrunedNetwork, candidate
from edgeslim.compress.prune.channels import Channels, channels_of
from edgeslim.compress.prune.curves import Curve, Images, studied_widths, study
from edgeslim.compress.prune.sizes import Sizes, Times, grid, sizes_of, times_of
from edgeslim.devices.machine import this_machine
from edgeslim.errors import Refused
from edgeslim.formats import RUNTIMES
from edgeslim.model.context import Context
from edgeslim.model.graph import batched, layers_of, macs_of, parameter
from edgeslim.model.model import Model
from edgeslim.model.operator import OperatorLatency
from edgeslim.tasks.images import ImageSet
from edgeslim.units import show_memory

CURVE_IMAGES = 512  # of the selection images, for the curves; candidates are judged on all
CURVE_MACS = 5e13  # for all curves together; larger networks are judged on fewer images, down to CURVE_IMAGES_LEAST
CURVE_IMAGES_LEAST = 64
WORKING_COPIES = 6  # matrices of inputs by inputs, float64, that a layer's fit and order hold at a time


@dataclass(frozen=True)
class Workbench:
    """What every candidate of one network is made from and judged with."""

    graph: fx.GraphModule  # takes batches
    channels: Channels
    blocks: Mapping[str, Block]
    sizes: Sizes
    criterion: str  # by which channels go
    latency: OperatorLatency
    calibration: Images
    judge: Judge  # on all selection images
    studied: Images  # those of the selection that curves are judged on
    context: Context

    @cached_property
    def _sha256(self) -> str:
        return graph_sha256(self.graph)

    def curves(self, graph: fx.GraphModule | None = None) -> dict[str, Curve]:
        """Return the curves of the network, or of what became of it in the same shapes."""
        return study(
            graph or self.graph,
            self.channels,
            self.blocks,
            self.criterion,
            self.latency.multiple,
            self.calibration,
            self.studied,
            self.judge.task,
            self.context.store,
            self.context.progress,
        )

    def times(self) -> Times:
        """Return the INT8 times of the network's operators at the studied widths."""
        multiple = self.latency.multiple
        rows = grid(self.sizes, {name: studied_widths(self.channels, name, multiple) for name in self.channels.groups})
        operators = {one for place in rows for row in place for one in row}
        return times_of(self.sizes, rows, self.latency.seconds(operators))

    def candidate(self, plan: Plan, curves: Mapping[str, Curve], start: fx.GraphModule | None = None) -> PrunedNetwork:
        """Return the reconstructed network of a plan; its weights come from `start`, from the dense one without it."""
        removed = {name: curve.removed(plan.widths[name]) for name, curve in curves.items() if name not in self.blocks}
        dropped = [block for name, block in self.blocks.items() if not plan.widths[name]]
        network = self._sha256 if start is None else f"{self._sha256} from {graph_sha256(start)}"
        return candidate(
            self.graph,
            start or self.graph,
            self.channels,
            removed,
            dropped,
            self.calibration,
            self.judge,
            network,
            self.context.store,
        )


def workbench_of(model: Model, criterion: str, context: Context, *, blocks: bool, timed: bool) -> Workbench:
    """Return the workbench of a model.

    `blocks`: dropping residual blocks is looked at too; `timed`: operators must be timed. Raises Refused where they
    cannot be, and for a network whose channels cannot be told apart or cannot become fewer on this device.
    """
    channels = channels_of(model.graph)
    latency = context.operator_latency()
    if timed and latency.missing is not None:
        raise Refused(latency.missing)
    multiple = latency.multiple
    sums_are_free = any(one.sums_are_free for name, one in RUNTIMES.items() if name == latency.runtime)
    found = blocks_of(model.graph) if blocks else {}
    widths = sum(len(studied_widths(channels, name, multiple)) for name in channels.groups)
    if widths == len(channels.groups) and not found:
        raise Refused(
            f"{model.source} cannot be pruned for {context.profile.name}: no group of channels has a narrower width on "
            f"a multiple of {multiple}"
        )
    _require_memory(model.graph)
    graph = batched(model.graph)
    selection = images_of(context.data.selection)
    images = round(CURVE_MACS / (max(macs_of(model.graph), 1) * (widths + len(found))))
    return Workbench(
        graph=graph,
        channels=channels,
        blocks=found,
        sizes=sizes_of(model.graph, channels, found, sums_are_free=sums_are_free),
        criterion=criterion,
        latency=latency,
        calibration=images_of(context.data.calibration),
        judge=Judge(graph, selection, model.task),
        studied=selection.first(min(max(images, CURVE_IMAGES_LEAST), CURVE_IMAGES)),
        context=context,
    )


def _require_memory(graph: fx.GraphModule) -> None:
    """Raise Refused where the second moments of one layer do not fit into this machine while they are worked on."""
    most = this_machine().ram_bytes
    for name, node in layers_of(graph).items():
        weight = parameter(graph, node.args[1])
        inputs = 0 if weight is None else weight[0].numel()
        needed = WORKING_COPIES * 8 * inputs**2
        if needed > most:
            raise Refused(
                f"`{name}` reads {inputs:,} inputs: pruning works on {WORKING_COPIES} matrices of that size squared, "
                f"{show_memory(needed)}; this machine has {show_memory(most)}"
            )


def images_of(images: ImageSet) -> Images:
    """Return a set of images as batches in memory, two at least, with the hash of what they hold."""
    batches = list(images.tensors())
    if len(batches) > 1 and 2 * len(batches[-1]) < len(batches[0]):  # halves are alternate batches
        batches[-2:] = torch.cat(batches[-2:]).chunk(2)
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.numpy().tobytes())
    if images.targets is not None:
        digest.update(images.targets.tobytes())
    found = Images(tuple(batches), digest.hexdigest(), images.targets)
    return found if len(batches) > 1 else found.first(len(found))
