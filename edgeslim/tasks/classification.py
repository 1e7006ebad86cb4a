"""Image classification: the first output of a network are its logits, one for each class; the largest names it.

All that is known of classes, labels, top-1 and agreement is here and in the files named class_*.py.
"""

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeslim.bounds import arrays_of
from edgeslim.errors import BadData
from edgeslim.resources import default_model_folder
from edgeslim.tasks.class_counts import counts, meaning, remarks
from edgeslim.tasks.class_folders import ClassFolders, class_folders
from edgeslim.tasks.class_order import require_fitting
from edgeslim.tasks.image_files import read_files
from edgeslim.tasks.images import Data, synthetic_data
from edgeslim.tasks.preprocessing import Preprocessing, preprocess
from edgeslim.tasks.sets import SETS, TRAINING, Found, SetName, in_sets, split_folders
from edgeslim.tasks.task import Drop, ModelFacts, Score

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "METRIC",
    "OUTPUT",
    "UNIT",
    "agreement_pct",
    "counts",
    "divergence",
    "drop",
    "images_to_tell",
    "load_data",
    "loss",
    "marks",
    "meaning",
    "model_faults",
    "read",
    "remarks",
    "require_fitting",
    "score",
]

Z95 = 1.959964  # the normal quantile of a two-sided 95 % interval
Z95_ONE_SIDED = 1.644854


BUNDLED = "Fashion-MNIST (bundled)"
METRIC, UNIT, OUTPUT = "top-1", "%", "logits"
Array = NDArray[Any]


def model_faults(facts: ModelFacts) -> list[str]:
    """Return why a network is no classifier: its first output are the logits, (1, classes), one for each label."""
    name, shape = facts.outputs[0].name, facts.outputs[0].shape
    if len(shape) != 2 or shape[0] != 1:
        which = "a tensor" if len(facts.outputs) == 1 else f"as its first output, `{name}`, a tensor"
        return [f"{facts.source} returns {which} of shape {shape}; a classifier returns (N, classes)"]
    if shape[1] < 2:
        return [f"{facts.source} has one class; edgeslim compares top-1 answers, which takes at least two"]
    if facts.labels is not None and len(facts.labels) != shape[1]:
        return [f"{facts.source} has {len(facts.labels)} labels and {shape[1]} classes"]
    return []


def score(outputs: Sequence[Array], targets: Array | None, reference: Sequence[Array]) -> Score:
    """Return top-1 and, with more than five classes, top-5 of logits (N, classes), with Wilson's interval.

    Without targets they are held against the classes that `reference` names. An image whose logits hold NaN is a miss.
    """
    logits, wanted = outputs[0], _wanted(targets, reference)
    compared = _is_answer(logits) & (_is_answer(reference[0]) | (targets is not None))
    images, classes = logits.shape
    hits = int(((logits.argmax(1) == wanted) & compared).sum())
    more = {}
    if classes > 5:
        best = np.argpartition(-logits, 5, axis=1)[:, :5]
        more["top-5"] = _pct(int(((best == wanted[:, None]).any(1) & compared).sum()), images)
    kind = "agreement" if targets is None else "accuracy"
    return Score(kind, METRIC, _pct(hits, images), UNIT, wilson_pct(hits, images), images, more)


def marks(outputs: Sequence[Array], targets: Array | None, reference: Sequence[Array]) -> NDArray[np.float64]:
    """Return 100 for each image whose class is named, the target or else that of `reference`, and 0 for the others."""
    right = (outputs[0].argmax(1) == _wanted(targets, reference)) & _is_answer(outputs[0])
    return np.asarray(100.0 * right)


def drop(before: NDArray[np.float64], after: NDArray[np.float64]) -> Drop:
    """Return how many points were lost from `before` to `after`, the marks (N,) of two networks.

    The images are the same, so only those that changed count. The interval is Bonett & Price's for paired shares (2012,
    Adjusted Wald Confidence Interval): one image more lost and one more gained of two more, so that few images, or
    none that changed, do not pass for certainty.
    """
    lost, gained, images = int((before > after).sum()), int((after > before).sum()), len(before)
    p, q, n = (lost + 1) / (images + 2), (gained + 1) / (images + 2), images + 2
    at_most = p - q + Z95_ONE_SIDED * math.sqrt((p + q - (p - q) ** 2) / n)
    return Drop(100.0 * (lost - gained) / images, 100.0 * at_most)


def images_to_tell(points: float) -> int:
    """Return how many images it takes at least for one answer to weigh no more than so many points; 0 for none."""
    return math.ceil(100.0 / points) if points > 0 else 0


def agreement_pct(outputs: Sequence[Array], reference: Sequence[Array]) -> float:
    """Return the share of images on which the logits (N, classes) of both name the same class, in percent."""
    a, b = outputs[0], reference[0]
    return _pct(int(((a.argmax(1) == b.argmax(1)) & _is_answer(a) & _is_answer(b)).sum()), len(a))


def divergence(outputs: Sequence["Tensor"], reference: Sequence["Tensor"], temperature: float = 1.0) -> "Tensor":
    """Return the Kullback-Leibler divergence of the classes' probabilities from the reference's, in nats.

    With a temperature T of T^2 times the probabilities that the logits over T have (Hinton, Vinyals & Dean 2015,
    Distilling the Knowledge in a Neural Network, section 2). The outputs behind the logits, whose meaning nobody told,
    add their squared error relative to their size.
    """
    from torch.nn import functional

    found, wanted = (functional.log_softmax(one[0] / temperature, 1) for one in (outputs, reference))
    total = temperature**2 * functional.kl_div(found, wanted, reduction="sum", log_target=True)
    for one, other in zip(outputs[1:], reference[1:], strict=True):
        error, size = ((value.flatten(1) ** 2).sum(1) for value in (one - other, other))
        total = total + (error / (size + 1e-12)).sum()
    return total


def loss(outputs: Sequence["Tensor"], targets: "Tensor | None") -> "Tensor":
    """Return the cross-entropy of logits (N, classes) against classes (N,), without them against those they name."""
    from torch.nn import functional

    return functional.cross_entropy(outputs[0], outputs[0].detach().argmax(1) if targets is None else targets)


def _wanted(targets: Array | None, reference: Sequence[Array]) -> Array:
    return np.asarray(reference[0].argmax(1)) if targets is None else targets


def _is_answer(logits: Array) -> NDArray[np.bool_]:
    """Tell for each image whether its logits name a class: argmax over NaN would say the first."""
    return np.asarray(~np.isnan(logits).any(1))


def wilson_pct(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, in percent (Wilson 1927; holds near 0 and 1 too)."""
    share, z2 = hits / count, Z95**2
    center = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return round(100 * max(center - half, 0.0), 2), round(100 * min(center + half, 1.0), 2)


def _pct(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 2)


def read(
    source: str | None,
    facts: ModelFacts,
    *,
    own: Mapping[SetName, str] = MappingProxyType({}),
    skip_bad: bool = False,
    seed: int = 0,
    opened: int | None = None,
) -> Data:
    """Return the data of a classifier: as `load_data`."""
    return load_data(
        source,
        facts.preprocessing,
        facts.outputs[0].shape[1],
        bundled=facts.bundled,
        names=facts.labels,
        random_weights=facts.random_weights,
        own=own,
        skip_bad=skip_bad,
        seed=seed,
        opened=opened,
    )


def load_data(
    source: str | None,
    preprocessing: Preprocessing,
    classes: int,
    *,
    bundled: bool,
    names: Sequence[str] | None = None,
    random_weights: bool = False,
    own: Mapping[SetName, str] = MappingProxyType({}),
    skip_bad: bool = False,
    seed: int = 0,
    opened: int | None = None,
) -> Data:
    """Return the data that `source` names, split into three disjoint sets; sets named in `own` have their own source.

    `source`: None (what the bundled model ships; synthetic for random weights) · "synthetic" · a folder of
    images by class, or of images without classes · an .npz with `images` (N, H, W[, C]) uint8 and, perhaps,
    `labels` (N,). Class folders are matched to the model's class `names`, whatever their case; where none fits, their
    alphabetical order is the order of the classes. `opened`: how many files of a folder are opened at most. Raises
    BadData naming every image that cannot be used.
    """
    if own and source == "synthetic":
        raise BadData(
            "--data synthetic is all three sets; leave out --calibration, --selection, --evaluation and --train"
        )
    if source == "synthetic" or (source is None and random_weights and not own and not bundled):
        return synthetic_data(preprocessing, seed)
    if source is None and not own and not bundled:
        raise BadData(
            "quantization is calibrated on images, and there are none",
            "pass --data FOLDER or FILE.npz (or --data synthetic, which says nothing of accuracy and is labelled so)",
        )
    given = _bundled_sets(preprocessing) if bundled and source is None else {}
    of_bundle = bool(given) and not own.keys() - set(TRAINING)
    if source is not None and (split := split_folders(Path(source))):
        source, own = None, {**split, **own}
    reading = partial(
        _read, preprocessing=preprocessing, classes=classes, names=names or (), skip_bad=skip_bad, opened=opened
    )
    read_own = {name: reading(own[name]) for name in (*TRAINING, *SETS) if name in own}
    read_rest = [] if source is None else [reading(source)]
    given |= {name: found for name, (found, _) in read_own.items()}
    sets = in_sets(given, read_rest[0][0] if read_rest else None, preprocessing, seed)
    if of_bundle:
        return replace(sets, source="; ".join([BUNDLED, *(f"train: {found.source}" for found, _ in read_own.values())]))
    folders = next((one for _, one in (*reversed(read_own.values()), *read_rest) if one is not None), None)
    if folders is None:
        return sets
    how_read = "; ".join(filter(None, (f"classes: {folders.order}", sets.how_read)))
    return replace(sets, labels=folders.names, how_read=how_read)


def _read(
    source: str,
    preprocessing: Preprocessing,
    classes: int,
    names: Sequence[str],
    *,
    skip_bad: bool,
    opened: int | None,
) -> tuple[Found, ClassFolders | None]:
    """Return what a folder or an .npz holds, and how class folders became classes, None where there are none."""
    path = Path(source)
    if path.is_dir():
        folders = class_folders(path, names, classes)
        groups = {path: 0} if folders is None else folders.classes
        files = read_files(groups, path, preprocessing, skip_bad=skip_bad, opened=opened)
        labels = None if folders is None else np.array(files.numbers, np.int64)
        name = f"{path.name} ({files.left_out} unreadable images left out)" if files.left_out else path.name
        _check_labels(labels, classes, source)
        return Found(name, files.images, labels, files.notes), folders
    if path.suffix != ".npz":
        raise BadData(
            f"{source} is neither a folder of images nor an .npz file",
            "name a folder of images, by class or without, or an .npz of images and labels",
        )
    images, labels = _read_npz(path, preprocessing)
    _check_labels(labels, classes, source)
    return Found(path.name, images, labels), None


def _check_labels(labels: NDArray[np.int64] | None, classes: int, source: str) -> None:
    if labels is not None and len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise BadData(
            f"{source} has labels from {labels.min()} to {labels.max()}; the model has {classes} classes",
            f"label each image with the number of the model's output that is its class, 0 to {classes - 1}",
        )


def _bundled_sets(preprocessing: Preprocessing) -> dict[SetName, Found]:
    def read(name: SetName) -> Found:
        return Found(BUNDLED, *_read_npz(default_model_folder() / f"{name}.npz", preprocessing))

    return {name: read(name) for name in (*SETS, *TRAINING)}


def _read_npz(path: Path, preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is no archive, or only the beginning of one")
        arrays = arrays_of(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadData(f"{path} is no readable .npz file: {error}") from error
    if "images" not in arrays:
        raise BadData(f"{path} has no array `images`; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    images = arrays["images"]
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != preprocessing.channels:
        raise BadData(
            f"{path}: `images` is {images.dtype} {images.shape}; expected uint8 (N, height, width, "
            f"{preprocessing.channels}) for this model"
        )
    if len(images):  # all have one size, so one stands for all
        try:
            preprocess(images[0], preprocessing)
        except ValueError as error:
            raise BadData(f"{path}: {error}") from error
    labels = arrays.get("labels")
    if labels is None:
        return images, None
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise BadData(f"{path}: `labels` is {labels.dtype} {labels.shape}; expected {len(images)} integers")
    return images, labels.astype(np.int64)
