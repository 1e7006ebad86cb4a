"""A network at one point of its compression, with everything needed to feed it."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor, fx, nn

from edgeslim.model.equivalence import LEAST_DB, require_equal
from edgeslim.model.fp16_plan import HalfPlan
from edgeslim.model.graph import output_of, shape_of, trace
from edgeslim.model.numerics import Numerics
from edgeslim.model.trials import Trial
from edgeslim.tasks.preprocessing import Preprocessing


@dataclass(frozen=True)
class Model:
    """A classifier at one point of its compression; steps return changed copies (`dataclasses.replace`)."""

    source: str  # the words that load it again
    weights_source: str  # "bundled", "random" (seeded) or a file's name
    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    history: tuple[str, ...] = ()
    numerics: Numerics | None = field(default=None)
    half: HalfPlan | None = None  # for a GPU
    trials: tuple[Trial, ...] = ()  # what pruning tried
    lost_points: float = 0.0  # of top-1 on the selection images, before quantization
    origin: nn.Module | None = None  # what the network still computes exactly; None: it is that itself

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Return (1, channels, height, width)."""
        return (1, self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width)

    @cached_property
    def graph(self) -> fx.GraphModule:
        """The network as aten operators; traced at the first use, BadModel where that fails."""
        return self.network if isinstance(self.network, fx.GraphModule) else trace(self.network, self.input_shape)

    @property
    def classes(self) -> int:
        """Number of logits."""
        return shape_of(output_of(self.graph))[1]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.network.parameters())

    def weights_sha256(self) -> str:
        """Return the hash of all names, shapes and values of the state."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def reference(self) -> nn.Module:
        """What the network must compute: the user's module, or what the last step made that changed the answers."""
        return self.network if self.origin is None else self.origin

    def after(self, step: str, **changes: Any) -> "Model":
        """Return a copy with `changes` and one more line of history; a new network is its own reference."""
        if "network" in changes:
            changes["origin"] = None
        return replace(self, history=(*self.history, step), **changes)

    def exactly(self, step: str, line: str, network: fx.GraphModule, images: Tensor) -> "Model":
        """Return a copy with a network that computes the same, and one more line of history.

        `images` (n, C, H, W) are those on which it must. Raises ToolFailed, naming `step` and the first node where the
        two part, where it does not.
        """
        found = require_equal(step, self.reference, network, images)
        if found.own_db is None:
            line += f"; held to {LEAST_DB:g} dB alone, for the network cannot be run in float64"
        return replace(self, history=(*self.history, line), network=network, origin=self.reference)


@dataclass(frozen=True)
class Stages:
    """One network along a build: as it was given, compressed but not quantized, and as it is delivered."""

    given: Model
    unquantized: Model
    final: Model
