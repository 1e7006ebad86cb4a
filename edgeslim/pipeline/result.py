"""What a build made, found and raises."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from edgeslim.artifact.archive import Artifact
from edgeslim.artifact.manifest import ErrorByDepth
from edgeslim.backends import Delivery
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import BadInput, Refused, ToolFailed
from edgeslim.export.evaluation.run import Judged
from edgeslim.measure.measurement import Measurement
from edgeslim.measure.operators.used import UsedTimes
from edgeslim.model.graph import batched, copy_of
from edgeslim.model.load import refuse_broken_weights
from edgeslim.model.model import Model, Stages
from edgeslim.pipeline.documents.times import DeviceTimes, Times
from edgeslim.readable import Readable
from edgeslim.recipe import Recipe
from edgeslim.tasks.images import Data


@dataclass(frozen=True)
class BuildReport(Readable, view="summary:build_view"):
    """What a build made and what it found; `warnings` are sentences for a person."""

    artifact: Artifact
    profile: DeviceProfile
    pruned: Model
    measurements: tuple[Measurement, ...]  # taken on this machine
    warnings: tuple[str, ...]
    times: DeviceTimes  # on the device, estimated
    data_read: str | None  # in words, how the data were read, where that had to be decided
    in_float: tuple[str, ...] = ()  # in words, what the INT8 files compute in float
    costs: str | None = None  # in words, what pruning and what INT8 costs; None where nothing was pruned
    advice: tuple[str, ...] = ()  # what would help, where it was rejected

    @cached_property
    def model(self) -> nn.Module:
        """The network behind pruning, for one's own training: floats, for batches; batch norms keep their statistics.

        Where nothing was pruned, it is the network as it was given. `build(start=report)` goes on from it. Raises
        Refused for a network that takes one image alone.
        """
        network = batched(self.pruned.graph)
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        return network

    def __repr__(self) -> str:
        """Say what was made and where it lies."""
        return f"BuildReport({self.artifact.manifest!r} in {self.artifact.folder}, {len(self.warnings)} warnings)"


def source_of(report: BuildReport, **said: object) -> str:
    """Return the words of the network that a build starts from; BadInput where something else is `said`."""
    if given := [name for name, value in said.items() if value is not None]:
        raise BadInput(f"`start` brings its network: leave out {', '.join(f'`{one}`' for one in given)}")
    return report.pruned.source


def started_from(report: BuildReport) -> Model:
    """Return the network of `report.model`, with the numbers that it has by now, as the model of a build.

    Raises BadModel where one of them is NaN or infinite.
    """
    network = copy_of(report.pruned.graph)
    network.load_state_dict(report.model.state_dict())
    model = replace(report.pruned, network=network, origin=None, lost_points=0.0, trained_steps=None)
    refuse_broken_weights(model)
    if model.weights_sha256() != report.pruned.weights_sha256():
        return replace(model, weights_source="trained behind pruning")
    return model if model.weights_source == "random" else replace(model, weights_source="as an earlier build left them")


class Rejected(Refused):
    """The artifact was written, but falls below what was demanded; `report` says all about it."""

    def __init__(self, report: BuildReport, reasons: Iterable[str]) -> None:
        self.report = report
        words = f"{report.artifact.folder} was written and marked rejected:"
        super().__init__(words, reasons, "\n".join(report.advice))


class Incomplete(ToolFailed):
    """The artifact was written without what an exporter or a runtime failed at; `report` says all about the rest."""

    def __init__(self, report: BuildReport, reasons: Iterable[str]) -> None:
        self.report = report
        lines = [
            f"{report.artifact.folder} was written incomplete and marked rejected:",
            *(f"  - {r}" for r in reasons),
        ]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Provenance:
    """Where a network came from, in words, and its licence, an SPDX expression; None where nobody said."""

    origin: str | None
    licence: str | None


@dataclass(frozen=True)
class Built:
    """Everything a build made and found, from which the artifact is written."""

    stages: Stages
    data: Data
    recipe: Recipe
    profile: DeviceProfile
    judged: Sequence[Judged]
    delivery: Delivery
    times: Times
    error_by_depth: ErrorByDepth | None  # None where nothing was quantized
    operator_times: UsedTimes | None  # by which widths were chosen
    reasons: Sequence[str]  # why it is rejected; none for an accepted one
    not_judged: str | None  # why the images cannot say whether too much is lost
    provenance: Provenance
    warnings: Sequence[str]  # without those of `times`
    in_float: Sequence[str]  # in words, what the INT8 files compute in float
    costs: str | None  # in words, what pruning and what INT8 costs; None where nothing was pruned
