"""A network at one point of its compression, with everything needed to feed it."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import Any

from torch import Tensor, fx, nn

from edgeslim.model.equivalence import LEAST_DB, require_equal
from edgeslim.model.fp16_plan import HalfPlan
from edgeslim.model.graph import output_nodes, shape_of, trace
from edgeslim.model.normalize import normalized
from edgeslim.model.numerics import Numerics
from edgeslim.model.trials import Trial
from edgeslim.tasks import DEFAULT_TASK, task_named
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.tasks.task import ModelFacts, Output

BUNDLED = "default"  # the source of the network that edgeslim ships
THE_MODULE = "the module"  # where the weights of a network come from that was there already


@dataclass(frozen=True)
class Model:
    """A network at one point of its compression; steps return changed copies (`dataclasses.replace`)."""

    source: str  # the words that load it again; "module:CLASS" for a module that was given
    weights_source: str  # "bundled", "random" (seeded), "factory", THE_MODULE, or a file's name
    network: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    task_name: str = DEFAULT_TASK
    output_names: tuple[str, ...] = ()  # in the network's order; none: as the task calls them
    history: tuple[str, ...] = ()
    numerics: Numerics | None = field(default=None)
    half: HalfPlan | None = None  # for a GPU
    trials: tuple[Trial, ...] = ()  # what pruning tried
    lost_points: float = 0.0  # on the selection images, before quantization
    trained_steps: int | None = None  # of the training that gave back what pruning took
    rounded_from: fx.GraphModule | None = None  # of a quantized network: the float one whose numbers were rounded
    origin: nn.Module | None = None  # what the network still computes exactly; None: it is that itself
    preprocessing_from: str = ""  # in words, who said how images become inputs
    labels_from: str = ""  # likewise, what it tells apart; "": nobody

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Return (1, channels, height, width)."""
        return (1, self.preprocessing.channels, self.preprocessing.height, self.preprocessing.width)

    @cached_property
    def graph(self) -> fx.GraphModule:
        """The network as aten operators, as few as can be; traced at the first use, BadModel where that fails."""
        if isinstance(self.network, fx.GraphModule) and any("val" in one.meta for one in self.network.graph.nodes):
            return self.network
        return normalized(trace(self.network, self.input_shape))

    @property
    def task(self) -> ModuleType:
        """What the network is for; BadModel for a task that there is not."""
        return task_named(self.task_name)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs of the network, named and in its order."""
        nodes = output_nodes(self.graph)
        names = self.output_names or (self.task.OUTPUT, *(f"output_{place}" for place in range(1, len(nodes))))
        return tuple(Output(name, shape_of(node)) for name, node in zip(names, nodes, strict=True))

    @property
    def facts(self) -> ModelFacts:
        """What its task may know of it."""
        return self.facts_with(self.outputs)

    def facts_with(self, outputs: tuple[Output, ...]) -> ModelFacts:
        """Return what its task may know of it if these were its outputs."""
        return ModelFacts(
            self.source,
            self.preprocessing,
            outputs,
            self.labels,
            bundled=self.source == BUNDLED,
            random_weights=self.weights_source == "random",
        )

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
    """One network along a build: as given, behind pruning, compressed but not quantized, and as it is delivered."""

    given: Model
    pruned: Model  # with its batch norms; the network as given where nothing was pruned
    unquantized: Model
    final: Model
