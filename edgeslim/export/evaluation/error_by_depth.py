"""Where quantization errs: the noise every layer adds and what has gathered there, in the plan and in each file.

All figures are signal-to-quantization-noise ratios at a layer's output edge (after a fused activation) against the same
edge of the float network before quantization, in dB over the first images of the selection set; higher is better.
Alone, a layer reads the float network's values, rounded to its input's grid; its weights lie on their grid, its bias is
the corrected one, its output is rounded. Cumulative is the whole plan simulated (`fake_quant`).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgeslim.artifact.manifest import ErrorByDepth, LayerError
from edgeslim.errors import ToolFailed
from edgeslim.export.evaluation.file_values import edge_values
from edgeslim.export.evaluation.run import Judged
from edgeslim.formats import FormatName
from edgeslim.grid import SQNR_MOST_DB
from edgeslim.model.context import Context
from edgeslim.model.fake_quant import simulate, simulate_layer
from edgeslim.model.graph import values_of
from edgeslim.model.model import Model
from edgeslim.model.numerics import Numerics

IMAGES = 8  # every value of an edge counts, and one image has many; on 64 the bundled default moves by up to 1 dB


def error_by_depth(
    dense: Model, compressed: Model, judged: Sequence[Judged], context: Context
) -> tuple[ErrorByDepth | None, list[str]]:
    """Return a row for every layer in graph order, and a sentence for every INT8 file that could not be read.

    `dense` is the folded network before quantization, `compressed` the same graph with its plan; None without a plan.
    """
    numerics = compressed.numerics
    if numerics is None:
        return None, []
    images = next(iter(context.data.selection.tensors()))[:IMAGES]
    files: dict[FormatName, Mapping[str, Path]] = {}
    failures = []
    for one in [one for one in judged if one.job.precision == "int8"]:
        context.progress(f"error by depth: {one.label}")
        try:
            files[one.job.format] = edge_values(one.job, one.spelling, numerics, images.numpy(), context.work)
        except ToolFailed as error:
            files[one.job.format] = {}
            failures.append(f"error by depth: {error.message}")
    context.progress("error by depth: simulated")
    noise = _gather(dense, compressed, numerics, files, images)

    def figure(kind: str, layer: str) -> float | None:
        return noise[kind, layer].db if (kind, layer) in noise else None

    rows = [
        LayerError(
            name=name,
            layer_db=figure("layer", name),
            cumulative_db=noise["cumulative", name].db,
            exported_db={file_format: figure(file_format, name) for file_format in files},
        )
        for name in numerics.layers
    ]
    return ErrorByDepth(images=len(images), layers=tuple(rows)), failures


class _Noise:
    """Power of signal and noise, summed image by image: whole activations of many images would fill the memory."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, reference: NDArray[np.float32], values: NDArray[np.float32]) -> None:
        self._signal += float((reference.astype(np.float64) ** 2).sum())
        self._noise += float(((values.astype(np.float64) - reference) ** 2).sum())

    @property
    def db(self) -> float:
        """The ratio in dB, as `quality.sqnr_db` bounds it."""
        if not math.isfinite(self._signal + self._noise):
            return -SQNR_MOST_DB
        if self._noise == 0.0:
            return SQNR_MOST_DB
        if self._signal == 0.0:
            return -SQNR_MOST_DB
        decibels = 10 * (math.log10(self._signal) - math.log10(self._noise))
        return round(max(-SQNR_MOST_DB, min(decibels, SQNR_MOST_DB)), 1)


def _gather(
    dense: Model,
    compressed: Model,
    numerics: Numerics,
    files: Mapping[FormatName, Mapping[str, Path]],
    images: Tensor,
) -> Mapping[tuple[str, str], _Noise]:
    """Return the noise by (kind, layer), where kind is "layer", "cumulative" or a format; only what there is."""
    noise: defaultdict[tuple[str, str], _Noise] = defaultdict(_Noise)
    for number, image in enumerate(images.split(1)):
        wanted = values_of(dense.graph, image)
        planned = simulate(compressed.graph, numerics, [image])
        for name, layer in numerics.layers.items():
            reference = wanted[layer.output].numpy()
            noise["cumulative", name].add(reference, planned[layer.output].numpy())
            if layer.weight_scales:
                alone = simulate_layer(compressed.graph, numerics, name, wanted[layer.inputs])
                noise["layer", name].add(reference, alone.numpy())
            for file_format, edges in files.items():
                if layer.output in edges:
                    found = np.load(edges[layer.output], mmap_mode="r")[number]
                    noise[file_format, name].add(reference, _laid_out_as(reference, found))
    return noise


def _laid_out_as(reference: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a file's value of an edge in the shape of the reference, (1, C, H, W) or (1, features).

    Converters lay images out as NCHW or NHWC and drop axes of size 1, that of the batch too; of the two the nearer one
    is meant, because in the wrong layout nothing lies where it belongs.
    """
    flat = np.asarray(found).reshape(-1)
    layouts: list[NDArray[np.float32]] = [flat.reshape(reference.shape)]
    if reference.ndim == 4:
        one, channels, height, width = reference.shape
        layouts.append(flat.reshape(one, height, width, channels).transpose(0, 3, 1, 2))
    return min(layouts, key=lambda layout: float(((layout - reference) ** 2).sum()))
