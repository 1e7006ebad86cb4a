"""One model of the compression benchmark: its images, its operator times, and what a compressed form is worth."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from edgeslim.compress import fold
from edgeslim.compress.prune.blocks import blocks_of
from edgeslim.compress.prune.candidates import Judge
from edgeslim.compress.prune.channels import channels_of
from edgeslim.compress.prune.curves import Images, studied_widths
from edgeslim.compress.prune.sizes import Sizes, Times, grid, sizes_of, times_of
from edgeslim.compress.prune.workbench import images_of
from edgeslim.compress.quantize import step as quantize
from edgeslim.deploy.run_model import run_model
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.errors import BadInput
from edgeslim.export.export_all import export_job
from edgeslim.formats import FORMATS, FormatName
from edgeslim.measure.operators.used import UsedTimes
from edgeslim.model.context import Context
from edgeslim.model.graph import batched, layers_of, program_of
from edgeslim.model.load import load_model
from edgeslim.model.model import Model
from edgeslim.model.operator import OperatorLatency
from edgeslim.pipeline.latency import operator_latency
from edgeslim.progress import silent
from edgeslim.tasks.classification import score
from edgeslim.tasks.images import Data, ImageSet

MODELS_FOLDER = Path(__file__).resolve().parent / "bench_models"
# Name -> source and weights, as `load_model` takes them; both classify the bundled images.
MODELS: dict[str, tuple[str | None, str | None]] = {
    "default": (None, None),
    "mobile": (f"{MODELS_FOLDER / 'mobile.py'}:make", str(MODELS_FOLDER / "mobile.safetensors")),
}
HOST = "x86-64-host"
PROBE_IMAGES = 16


@dataclass(frozen=True)
class Case:
    """A model in one runtime of this machine; `out` keeps INT8 files, inputs, and what need not be computed twice."""

    name: str
    model: Model
    data: Data  # as bundled: what calibrates and selects is the pool, what judges stays
    profile: DeviceProfile  # with the one runtime
    out: Path
    given: UsedTimes | None = None  # what operators take, in place of measuring it

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        return self.profile.runtimes[0].name

    @property
    def format(self) -> FormatName:
        """The format that the runtime runs."""
        return format_of(self.runtime)

    @property
    def multiple(self) -> int:
        """What every pruned width is a multiple of."""
        return self.profile.runtimes[0].channel_multiple["int8"].value or 1

    @cached_property
    def evaluation(self) -> Images:
        """The images that judge, in batches."""
        return images_of(self.data.evaluation)

    @cached_property
    def times(self) -> Times:
        """The operator times that `prune` goes by, for the dense network."""
        channels = channels_of(self.model.graph)
        sizes = self._sizes(self.model.graph)
        rows = grid(sizes, {name: studied_widths(channels, name, self.multiple) for name in channels.groups})
        wanted = {one for place in rows for row in place for one in row}
        return times_of(sizes, rows, self._latency().seconds(wanted))

    def _latency(self, precision: str = "int8") -> OperatorLatency:
        return operator_latency(self.profile, 1, self.out / "store", silent, self.given, precision=precision)

    def table_s(self, graph: fx.GraphModule) -> float:
        """Return the seconds of a network of this structure with any widths, by the same table."""
        weights = {str(node.args[1].target) for node in layers_of(graph).values()}  # type: ignore[union-attr]
        places = self.times.sizes.places
        left = {block for place in places if place.weight in weights for block in place.blocks}
        grids = [g for place, g in zip(places, self.times.grids, strict=True) if left.issuperset(place.blocks)]
        sizes = self._sizes(graph)
        return Times(sizes, tuple(grids)).latency_s(sizes.dense)

    @cached_property
    def dense_s(self) -> float:
        """The dense network's seconds by the table."""
        return self.table_s(self.model.graph)

    def _sizes(self, graph: fx.GraphModule) -> Sizes:
        free = self.runtime == "openvino"
        return sizes_of(graph, channels_of(graph), blocks_of(graph), sums_are_free=free)

    def drawn(self, count: int, seed: int) -> Data:
        """Return the data with `count` unlabelled images of the pool, all that any method may look at.

        They calibrate and select alike.
        """
        pool = np.concatenate([np.asarray(part.images) for part in (self.data.calibration, self.data.selection)])
        chosen = np.sort(np.random.default_rng(seed).permutation(len(pool))[:count])
        some = ImageSet(pool[chosen], None, self.model.preprocessing)
        return replace(self.data, calibration=some, selection=some)

    @contextmanager
    def context(self, data: Data, seed: int) -> Iterator[Context]:
        """Yield the surroundings of a step, with a work folder that goes away."""
        with tempfile.TemporaryDirectory() as folder:
            store = self.out / "store"
            yield Context(self.profile, data, seed, Path(folder), silent, store=store, operator_latency=self._latency)

    def top1_pct(self, graph: fx.GraphModule) -> float:
        """Return the accuracy of a float network on the evaluation images, batched in PyTorch."""
        many = batched(graph)
        return float(Judge(many, self.evaluation, self.model.task).marks(many).mean())

    def inputs(self, runtime: str) -> Path:
        """Return the file of the evaluation images as a runtime wants them."""
        layout = "nhwc" if runtime == "litert" else "nchw"
        file = self.out / f"evaluation_{self.name}_{layout}.npy"
        if not file.is_file():
            rows = np.concatenate(list(self.data.evaluation.inputs()))
            part = file.with_suffix(".part.npy")
            np.save(part, rows if layout == "nhwc" else np.ascontiguousarray(rows.transpose(0, 3, 1, 2)))
            part.replace(file)
        return file

    def file_top1_pct(self, runtime: str, file: Path, precision: str) -> float:
        """Return the accuracy of a file in its runtime on the evaluation images."""
        outputs = run_model(runtime, file, self.inputs(runtime), precision=precision)
        return score(outputs, self.data.evaluation.targets, outputs).value


def load_case(name: str, runtime: str, out: Path) -> Case:
    """Return the case of a model; BadInput for a runtime that the host's profile does not name."""
    profile = load_profile(HOST)
    runtimes = tuple(one for one in profile.runtimes if one.name == runtime)
    if not runtimes:
        raise BadInput(f"{HOST} has no runtime `{runtime}`: {', '.join(one.name for one in profile.runtimes)}")
    model = load_model(*MODELS[name])
    data = model.task.read(None, load_model(None).facts)  # the bundled images, whichever classifies them
    return Case(name, model, data, profile.model_copy(update={"runtimes": runtimes}), out)


def format_of(runtime: str) -> FormatName:
    """Return the format a runtime runs."""
    return next(name for name, one in FORMATS.items() if one.runtime == runtime)


def folded(model: Model, context: Context) -> Model:
    """Return a model with its batch norms folded."""
    return fold.apply(model, fold.Settings(), context)


def quantized(model: Model, context: Context) -> Model:
    """Return a folded model with every layer in INT8, calibrated on the images of the context."""
    return quantize.apply(model, quantize.Settings(promote=False), context)


def export_int8(model: Model, name: FormatName, context: Context) -> Path:
    """Write a quantized model in one format and return the file, in the context's work folder."""
    if model.numerics is None:
        raise TypeError("only a quantized model has an INT8 file")
    model.numerics.save(context.work / "numerics.json")
    return _export(model, name, "int8", context)


def export_fp32(model: Model, name: FormatName, context: Context) -> Path:
    """Write a folded model in one format and return the file, in the context's work folder."""
    return _export(model, name, "fp32", context)


def _export(model: Model, name: FormatName, precision: str, context: Context) -> Path:
    probe = next(iter(context.data.calibration.tensors()))[:PROBE_IMAGES]
    np.save(context.work / "probe.npy", probe.numpy())
    torch.export.save(program_of(model.graph, probe[:1]), context.work / f"{precision}.pt2")
    return export_job(name, precision, context.work, [one.name for one in model.outputs])[0].target


def calibration_inputs(data: Data, runtime: str) -> NDArray[np.float32]:
    """Return the calibration images as a runtime wants them."""
    rows = np.concatenate(list(data.calibration.inputs()))
    return rows if runtime == "litert" else np.ascontiguousarray(rows.transpose(0, 3, 1, 2))
