"""Pruned networks worth a look: from a plan to weights, and what they lose on images kept for the choice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from edgeslim.cache import remember
from edgeslim.compress.prune.blocks import Block, drop
from edgeslim.compress.prune.channels import Channels, Removed, cut, surviving_rows
from edgeslim.compress.prune.curves import Images
from edgeslim.model.fitting.reconstruct import reconstruct
from edgeslim.model.graph import copy_of, outputs_of_batches
from edgeslim.tasks.task import Drop


@dataclass(frozen=True)
class PrunedNetwork:
    """A pruned and reconstructed network, its nodes named as the dense one's; `drop` on the selection images."""

    graph: fx.GraphModule  # takes batches
    removed: Removed
    dropped: tuple[Block, ...]
    drop: Drop
    remarks: tuple[str, ...]


class Judge:
    """What the dense network answers on the selection images, found once, and what others lose against it.

    `dense` takes batches; `task` says what an answer is worth.
    """

    def __init__(self, dense: fx.GraphModule, images: Images, task: ModuleType) -> None:
        self.images = images
        self.task = task
        self._dense = dense

    @cached_property
    def _outputs(self) -> tuple[NDArray[Any], ...]:
        return outputs_of_batches(self._dense, self.images.batches)

    def marks(self, graph: fx.GraphModule) -> NDArray[np.float64]:
        """Return what each of a network's answers is worth, held against the dense one's where no target is known."""
        outputs = self._outputs if graph is self._dense else outputs_of_batches(graph, self.images.batches)
        return np.asarray(self.task.marks(outputs, self.images.targets, self._outputs))

    def lost(self, graph: fx.GraphModule) -> Drop:
        """Return the points that a network loses against the dense one."""
        found: Drop = self.task.drop(self.marks(self._dense), self.marks(graph))
        return found


def candidate(
    dense: fx.GraphModule,
    start: fx.GraphModule,
    channels: Channels,
    removed: Removed,
    dropped: Sequence[Block],
    calibration: Images,
    judge: Judge,
    network: str,
    store: Path | None,
) -> PrunedNetwork:
    """Return the network without some channels and blocks, reconstructed on calibration, judged on selection images.

    Both graphs take batches and have the same shapes: `start` is where the weights come from before they are fitted to
    what `dense` computes, mostly `dense` itself; `network` is the hash of both. Raises as `cut` and `reconstruct`.
    """
    pruned = cut(start, channels, removed)
    drop(pruned, dropped)
    plain = {name: sorted(int(i) for i in indices) for name, indices in sorted(removed.items()) if len(indices)}

    def compute() -> dict[str, Any]:
        remarks = reconstruct(dense, pruned, surviving_rows(channels, plain), calibration.batches)
        return {"state": dict(pruned.state_dict()), "remarks": remarks}

    depends_on = [network, plain, [block.name for block in dropped], calibration.sha256]
    found = remember(store, "candidate", depends_on, compute)
    pruned.load_state_dict(found["state"])

    def lost() -> dict[str, float]:
        return asdict(judge.lost(pruned))

    verdict = Drop(**remember(store, "judged", [*depends_on, judge.images.sha256, judge.task.__name__], lost))
    return PrunedNetwork(pruned, plain, tuple(dropped), verdict, tuple(found["remarks"]))


def masked(one: PrunedNetwork, dense: fx.GraphModule, channels: Channels) -> fx.GraphModule:
    """Return a candidate in the dense network's shapes, without the blocks it does without: what its cut must compute.

    Its nodes are the dense one's, traced for one image or taking batches as that does.
    """
    wide = widened(one, dense, channels)
    drop(wide, one.dropped)
    return wide


def widened(one: PrunedNetwork, dense: fx.GraphModule, channels: Channels) -> fx.GraphModule:
    """Return a candidate in the dense network's shapes: what it computes, with zeros where channels are gone."""
    wide = copy_of(dense)
    stays = channels.kept(one.removed)
    narrow = one.graph.state_dict()
    for name, value in wide.state_dict().items():
        if name not in narrow:
            continue  # nothing reads it
        lines = channels.labels.parameters.get(name)
        if lines is None:
            value.copy_(narrow[name])
            continue
        value.zero_()
        kept = [
            torch.arange(size) if line is None else torch.from_numpy(np.flatnonzero(stays[line]))
            for line, size in zip(lines, value.shape, strict=True)
        ]
        value[torch.meshgrid(*kept, indexing="ij")] = narrow[name]
    return wide
