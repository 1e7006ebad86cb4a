"""Pruned networks worth a look: from a plan to weights, and what they lose on images kept for the choice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgeslim.cache import remember
from edgeslim.compress.prune.blocks import Block, drop
from edgeslim.compress.prune.channels import Channels, Removed, cut, surviving_rows
from edgeslim.compress.prune.curves import Images
from edgeslim.model.graph import copy_of
from edgeslim.model.reconstruct import reconstruct
from edgeslim.tasks.classification import Drop, drop_points


@dataclass(frozen=True)
class Candidate:
    """A pruned and reconstructed network, its nodes named as the dense one's; `drop` on the selection images."""

    graph: fx.GraphModule  # takes batches
    removed: Removed
    dropped: tuple[Block, ...]
    drop: Drop
    remarks: tuple[str, ...]


class Judge:
    """What the dense network answers on the selection images, found once, and what others lose against it.

    `dense` takes batches.
    """

    def __init__(self, dense: fx.GraphModule, images: Images) -> None:
        self.images = images
        self._dense = dense

    @cached_property
    def _answers(self) -> Tensor:
        return _answers(self._dense, self.images)

    def right(self, graph: fx.GraphModule) -> NDArray[np.bool_]:
        """Tell of each image whether a network names its class, or where none is known what the dense one names."""
        answers = self._answers if graph is self._dense else _answers(graph, self.images)
        wanted = self.images.labels if self.images.labels is not None else self._answers.argmax(1).numpy()
        return np.asarray((answers.argmax(1).numpy() == wanted) & ~torch.isnan(answers).any(1).numpy())

    def lost(self, graph: fx.GraphModule) -> Drop:
        """Return the points that a network loses against the dense one."""
        return drop_points(self.right(self._dense), self.right(graph))


@torch.no_grad()
def _answers(graph: fx.GraphModule, images: Images) -> Tensor:
    return torch.cat([graph(batch) for batch in images.batches])


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
) -> Candidate:
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

    verdict = Drop(**remember(store, "judged", [*depends_on, judge.images.sha256], lost))
    return Candidate(pruned, plain, tuple(dropped), verdict, tuple(found["remarks"]))


def masked(one: Candidate, dense: fx.GraphModule, channels: Channels) -> fx.GraphModule:
    """Return a candidate in the dense network's shapes, without the blocks it does without: what its cut must compute.

    Its nodes are the dense one's, traced for one image or taking batches as that does.
    """
    wide = widened(one, dense, channels)
    drop(wide, one.dropped)
    return wide


def widened(one: Candidate, dense: fx.GraphModule, channels: Channels) -> fx.GraphModule:
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
