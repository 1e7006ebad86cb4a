"""Where a network can give: what every group of channels loses at every width, and every layer as INT8.

Nothing is pruned or quantized for good. Groups are narrowed one at a time, with the layers that read them refitted
(compress/prune/curves.py); layers are rounded one at a time (compress/quantize/promote.py). Each result is kept in the
store as soon as it is there; `build` finds curves and operator times there too.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeslim.compress import fold
from edgeslim.compress.prune.curves import Curve
from edgeslim.compress.prune.sizes import Times, timed_alone
from edgeslim.compress.prune.workbench import workbench_of
from edgeslim.compress.quantize import step as quantize
from edgeslim.compress.quantize.edges import can_be_dynamic
from edgeslim.compress.quantize.promote import sensitivity as layer_sensitivity
from edgeslim.compress.quantize.rounding import parameters
from edgeslim.devices.machine import this_machine
from edgeslim.devices.profile import is_this_machine, load_profile
from edgeslim.errors import BadInput, Refused
from edgeslim.measure.operators.times import RANGING
from edgeslim.model.context import Context
from edgeslim.model.equivalence import require_traced
from edgeslim.model.graph import layers_of
from edgeslim.model.load import Source, load_data, load_model
from edgeslim.model.model import Model
from edgeslim.model.numerics import PRECISIONS
from edgeslim.model.operator import OperatorLatency
from edgeslim.pipeline.latency import operator_latency
from edgeslim.pipeline.rules import refusals, require_possible
from edgeslim.pipeline.targets import require_fitting_targets
from edgeslim.progress import ProgressCallback, StagedProgress, silent
from edgeslim.readable import Readable
from edgeslim.resources import default_store, whole_file
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.work_folders import work_folder

FORMAT = "edgeslim-sensitivity/3"


@dataclass(frozen=True)
class WidthLoss:
    """One group at one width, everything else as it was; losses on the selection images."""

    width: int
    divergence: float  # of the answers from the dense network's, an image, as the task measures it
    lost_points: float  # in the task's unit; negative: won
    saved_s: float  # of the INT8 network's time, from single operators; negative: slower

    @property
    def title(self) -> str:
        """The width in words."""
        return str(self.width) if self.width else "gone"


@dataclass(frozen=True)
class GroupLoss:
    """A group of channels that go together, by the layer that produces them first; widths descending, its own first.

    Or a residual block: of width 1 it is there, of width 0 it is not.
    """

    group: str
    widths: tuple[WidthLoss, ...]

    @property
    def title(self) -> str:
        """The group with its own width; a block has none."""
        return f"{self.group} ({self.widths[0].width})" if self.widths[-1].width else self.group


@dataclass(frozen=True)
class LayerLoss:
    """One layer in one precision, every other float; simulated on the selection images.

    "int8": weight, input and output rounded; "dynamic": weight, and input at run time, where the runtime can; "w8": the
    weight; "fp16": the weight, to half precision; "fp32": nothing, so that nothing is lost.
    """

    layer: str
    module: str  # in the network's own words: "stages.0.conv1"
    precision: str
    size_bytes: int  # of weight and bias as files hold them
    seconds: float | None  # None where operators cannot be timed, or this one cannot alone
    sqnr_db: float | None  # at that output which departs most; None where nothing is lost
    lost_points: float  # in the task's unit; negative: won
    lost_points_at_most: float  # upper end of the one-sided 95 % interval


@dataclass(frozen=True)
class SensitivityReport(Readable, view="sensitivity:sensitivity_table"):
    """What was found, and on what: `kind` says whether points are of accuracy or of agreement with the dense network.

    `not_pruned`: why there are no groups, None where there are some. Times were measured on this machine, which is the
    device where `measured_on_device`; or `estimated` for the device, whose estimator knows the runtime's own code.
    """

    format: str
    model: str
    device: str
    data: str
    synthetic: bool
    kind: str
    metric: str
    unit: str
    images: int  # on which layers are judged
    images_for_groups: int  # fewer of them for a network of many multiplications
    runtime: str | None
    threads: int
    measured_on: str
    measured_on_device: bool
    estimated: bool
    dense_int8_s: float | None  # the sum over the operators
    groups: tuple[GroupLoss, ...]
    not_pruned: str | None
    layers: tuple[LayerLoss, ...]

    def __repr__(self) -> str:
        """Say what it is about; the whole is in the file that `save` writes."""
        layers = len({one.layer for one in self.layers})
        return f"SensitivityReport({self.model} for {self.device}: {len(self.groups)} groups, {layers} layers)"

    @property
    def times_are(self) -> str:
        """How the times were obtained: "measured on this machine (AMD EPYC), NOT on a raspberry-pi-4"."""
        if self.estimated:
            return f"estimated for a {self.device} from counts on its emulated core"
        if self.measured_on_device:
            return f"measured on this machine, a {self.device} ({self.measured_on})"
        return f"measured on this machine ({self.measured_on}), NOT on a {self.device}"


@dataclass(frozen=True)
class _Groups:
    images: int = 0
    dense_s: float | None = None
    losses: tuple[GroupLoss, ...] = ()
    refusal: str | None = None


def sensitivity(
    source: Source = None,
    *,
    device: str | Path,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    selection: str | Path | None = None,
    evaluation: str | Path | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    trust_labels: bool = False,
    progress: ProgressCallback = silent,
) -> SensitivityReport:
    """Return what each group of channels loses at each legal width and each layer as INT8, with the time it saves.

    `source` to `task`: as `load_model`; `data` and the sets, of which none judges, and `trust_labels`: as `build`. A
    network whose channels cannot be told apart is reported without groups, with the reason. Raises BadInput before any
    work, and Refused when the device cannot have the model.
    """
    profile = load_profile(device)
    stages = StagedProgress(progress, 5)
    stages.begin("loading the model")
    model = load_model(source, weights, seed, preprocessing=preprocessing, labels=labels, task=task)
    require_possible(model, profile, refusals(model, profile, formats=()))
    stages.begin("reading the images")
    images = load_data(
        model,
        data,
        calibration=calibration,
        selection=selection,
        evaluation=evaluation,
        skip_bad=skip_bad,
        seed=seed,
    )
    with work_folder() as work:
        latency = partial(operator_latency, profile, 1, default_store(), stages)
        context = Context(profile, images, seed, work, stages, store=default_store(), operator_latency=latency)
        stages.begin("checking trace and labels")
        require_traced(model.network, model.graph, model.source, context.images)
        if not trust_labels:
            require_fitting_targets(model, images)
        timed = _latency(context)
        stages.begin("groups of channels")
        groups = _groups(model, context)
        stages.begin("layers")
        layers = _layers(model, context, timed)
    return SensitivityReport(
        format=FORMAT,
        model=model.source,
        device=profile.name,
        data=images.source,
        synthetic=images.synthetic,
        kind="agreement" if images.selection.targets is None else "accuracy",
        metric=model.task.METRIC,
        unit=model.task.UNIT,
        images=len(images.selection),
        images_for_groups=groups.images,
        runtime=None if timed is None else timed.runtime,
        threads=context.threads,
        measured_on=this_machine().cpu_model,
        measured_on_device=is_this_machine(profile),
        estimated=timed is not None and timed.estimated,
        dense_int8_s=groups.dense_s,
        groups=groups.losses,
        not_pruned=groups.refusal,
        layers=layers,
    )


def _groups(model: Model, context: Context) -> _Groups:
    """Return what groups lose, from the curves and times that `compress/prune` chooses widths by."""
    try:
        bench = workbench_of(model, "obs", context, blocks=True, timed=True)
    except Refused as refusal:
        return _Groups(refusal=refusal.sentence)
    curves, times = bench.curves(), bench.times()
    losses = tuple(_loss(curve, times) for curve in curves.values())
    dense_s = times.latency_s(times.sizes.dense)
    return _Groups(len(bench.studied), dense_s, losses)


def _loss(curve: Curve, times: Times) -> GroupLoss:
    dense = times.sizes.dense
    dense_s = times.latency_s(dense)
    saved = [dense_s - times.latency_s({**dense, curve.group: width}) for width in curve.widths]
    lost = [round(curve.score[0] - score, 4) for score in curve.score]
    rows = zip(curve.widths, curve.divergence, lost, saved, strict=True)
    return GroupLoss(curve.group, tuple(WidthLoss(*row) for row in rows))


def _latency(context: Context) -> OperatorLatency | None:
    """Return what operators take on the device; None where that cannot be said."""
    try:
        found = context.operator_latency()
    except Refused:
        return None
    return found if found.missing is None else None


def _layers(model: Model, context: Context, timed: OperatorLatency | None) -> tuple[LayerLoss, ...]:
    """Return what each layer alone loses in each precision, and what it takes."""
    dense = fold.apply(model, fold.Settings(), context)
    quantized = quantize.apply(dense, quantize.Settings(promote=False), context)
    numerics = quantized.numerics
    if numerics is None or quantized.rounded_from is None:
        raise TypeError("quantize gives every network its numerics")
    dense = replace(dense, network=quantized.rounded_from)
    kinds = [one for one in PRECISIONS if one != "dynamic" or (timed is not None and timed.runtime in RANGING)]
    found = layer_sensitivity(
        dense.graph,
        quantized.graph,
        numerics,
        context.data.selection,
        model.task,
        context.store,
        context.progress,
        kinds[:-1],
    )
    losses = {(one.layer, one.precision): one for one in found}
    seconds = {} if timed is None else _layer_times(dense, context, kinds)
    rows = []
    for name, layer in numerics.layers.items():
        for precision in [one for one in kinds if one == "fp32" or (name, one) in losses]:
            loss = losses.get((name, precision))
            rows.append(
                LayerLoss(
                    name,
                    layer.module,
                    precision,
                    _size_bytes(dense, name, precision),
                    seconds.get((name, precision)),
                    None if loss is None else round(loss.sqnr_db, 2),
                    0.0 if loss is None else round(loss.lost.points, 4),
                    0.0 if loss is None else round(loss.lost.at_most, 4),
                )
            )
    return tuple(rows)


def _size_bytes(model: Model, layer: str, precision: str) -> int:
    """Return what weight, bias (4 bytes a number) and scales of a layer take."""
    weight, bias = parameters(model.graph, layers_of(model.graph)[layer])
    each = {"fp32": 4, "fp16": 2}.get(precision, 1)
    return each * weight.numel() + (4 * len(weight) if each == 1 else 0) + 4 * bias.numel()


def _layer_times(model: Model, context: Context, kinds: Sequence[str]) -> dict[tuple[str, str], float]:
    """Return the seconds of layers as single operators by (layer, precision)."""
    nodes, found = layers_of(model.graph), {}
    operators = timed_alone(model.graph, nodes)
    for precision in kinds:
        some = {n: one for n, one in operators.items() if precision != "dynamic" or can_be_dynamic(nodes[n])}
        with suppress(Refused):  # a precision of which nobody knows what it takes on the device
            known = context.operator_latency(precision=precision).seconds(some.values())
            found.update({(name, precision): known[one] for name, one in some.items()})
    return found


def save(report: SensitivityReport, folder: Path) -> Path:
    """Write `sensitivity.json` into a folder, made where it is missing, and return the file; BadInput where it fails.

    The file appears whole or not at all.
    """
    file = folder / "sensitivity.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}; name a place with --out") from error
    return file
