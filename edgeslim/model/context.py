"""What a step may look at besides the model it changes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import Refused
from edgeslim.model.model import Model
from edgeslim.model.operator import OperatorLatency
from edgeslim.progress import Tell
from edgeslim.tasks.images import Data


@dataclass(frozen=True)
class Demand:
    """What the result must meet; None: no bound.

    `max_drop_points`: points of its score that it may lose; `max_latency_s`: seconds an image; `max_size_bytes`: of the
    file.
    """

    max_drop_points: float = 1.0
    max_latency_s: float | None = None
    max_size_bytes: int | None = None


def untimed(precision: str = "int8") -> OperatorLatency:
    """Refuse to say what operators take: nobody was asked to time them."""
    raise Refused(f"nothing is known here of what {precision} operators take")


@dataclass(frozen=True)
class Context:
    """The surroundings of a step: the device, the data, a seed, a work folder, and whom to tell of progress.

    `given` is the network as the build was given it, before any step; None: nobody compares with it.
    `runtimes` are those that files are written for, None: any; `int8_ends`: an INT8 file takes and gives codes.
    `store` is where finished parts are kept for the next build, None: nowhere. `operator_latency` says what
    operators take on the device in a precision, by default INT8; it raises Refused where that cannot be said.
    """

    profile: DeviceProfile
    data: Data
    seed: int
    work: Path
    progress: Tell
    demand: Demand = field(default=Demand())
    threads: int = 1
    store: Path | None = None
    operator_latency: Callable[..., OperatorLatency] = untimed  # (precision="int8")
    runtimes: tuple[str, ...] | None = None
    int8_ends: bool = False
    given: Model | None = None

    @cached_property
    def images(self) -> Tensor:
        """Some preprocessed selection images (n, C, H, W), on which exact steps are held to be exact."""
        return next(iter(self.data.selection.tensors()))
