"""How good logits are: accuracy with its interval, agreement, and the signal-to-quantization-noise ratio."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeslim.errors import BadData
from edgeslim.resources import default_model_folder
from edgeslim.tasks.class_folders import ClassFolders, class_folders
from edgeslim.tasks.images import (
    IMAGE_SUFFIXES,
    Data,
    ImageSet,
    images_in,
    in_three_sets,
    reason_against,
    synthetic_data,
)
from edgeslim.tasks.preprocessing import Preprocessing, preprocess

Z95 = 1.959964  # the normal quantile of a two-sided 95 % interval
Z95_ONE_SIDED = 1.644854


@dataclass(frozen=True)
class Score:
    """Top-1 (and top-5) of one file's logits: against labels, or against the float model's answers."""

    kind: str  # "accuracy" or "agreement"
    top1_pct: float
    top5_pct: float | None
    ci95_pct: tuple[float, float]
    images: int


def score(logits: NDArray[np.float32], labels: NDArray[np.int64] | None, float_logits: NDArray[np.float32]) -> Score:
    """Return the score of logits (N, classes) against labels (N,), or where there are none against `float_logits`.

    An image whose logits hold NaN is a miss.
    """
    wanted = float_logits.argmax(1) if labels is None else labels
    compared = _is_answer(logits) & (_is_answer(float_logits) | (labels is not None))
    images, classes = logits.shape
    hits = int(((logits.argmax(1) == wanted) & compared).sum())
    top5 = None
    if classes > 5:
        best = np.argpartition(-logits, 5, axis=1)[:, :5]
        top5 = _pct(int(((best == wanted[:, None]).any(1) & compared).sum()), images)
    return Score(
        "agreement" if labels is None else "accuracy", _pct(hits, images), top5, wilson_pct(hits, images), images
    )


def agreement_pct(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the share of images on which two logits (N, classes) name the same class, in percent."""
    return _pct(int(((a.argmax(1) == b.argmax(1)) & _is_answer(a) & _is_answer(b)).sum()), len(a))


def _is_answer(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell for each image whether its logits name a class: argmax over NaN would say the first."""
    return np.asarray(~np.isnan(logits).any(1))


def wilson_pct(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, in percent (Wilson 1927; holds near 0 and 1 too)."""
    share, z2 = hits / count, Z95**2
    center = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return round(100 * max(center - half, 0.0), 2), round(100 * min(center + half, 1.0), 2)


@dataclass(frozen=True)
class Drop:
    """Points of top-1 that one network loses against another on the same images, and what it loses at most."""

    points: float
    at_most: float  # upper end of the one-sided 95 % interval


def drop_points(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Drop:
    """Return how many points were lost from `before` to `after` (N,), which say of each image whether it was right.

    The images are the same, so only those that changed count. The interval is Bonett & Price's for paired shares (2012,
    Adjusted Wald Confidence Interval): one image more lost and one more gained of two more, so that few images, or
    none that changed, do not pass for certainty.
    """
    lost, gained, images = int((before & ~after).sum()), int((after & ~before).sum()), len(before)
    p, q, n = (lost + 1) / (images + 2), (gained + 1) / (images + 2), images + 2
    at_most = p - q + Z95_ONE_SIDED * math.sqrt((p + q - (p - q) ** 2) / n)
    return Drop(100.0 * (lost - gained) / images, 100.0 * at_most)


def _pct(part: int, whole: int) -> float:
    return round(100.0 * part / whole, 2)


def load_data(
    source: str | None,
    preprocessing: Preprocessing,
    classes: int,
    *,
    bundled: bool,
    names: Sequence[str] | None = None,
    random_weights: bool = False,
    skip_bad: bool = False,
    seed: int = 0,
) -> Data:
    """Return the data that `source` names, split into three disjoint sets.

    `source`: None (what the bundled model ships; synthetic for random weights) · "synthetic" · a folder of
    images by class, or of images without classes · an .npz with `images` (N, H, W[, C]) uint8 and, perhaps,
    `labels` (N,). Class folders are matched to the model's class `names`, whatever their case; where none fits, their
    alphabetical order is the order of the classes. Raises BadData naming every image that cannot be used.
    """
    if source is None and bundled:
        return _bundled(preprocessing)
    if source == "synthetic" or (source is None and random_weights):
        return synthetic_data(preprocessing, seed)
    if source is None:
        raise BadData(
            "quantization is calibrated on images: pass --data FOLDER or FILE.npz (or --data synthetic, "
            "which says nothing about accuracy and is labelled so)"
        )
    path = Path(source)
    images: NDArray[np.uint8] | list[Path]
    left_out = 0
    folders: ClassFolders | None = None
    if path.is_dir():
        folders = class_folders(path, names or (), classes)
        images, labels, left_out = _read_folder(path, preprocessing, folders, skip_bad=skip_bad)
    elif path.suffix == ".npz":
        images, labels = _read_npz(path, preprocessing)
    else:
        raise BadData(f"{source} is neither a folder of images nor an .npz file")
    _check_labels(labels, classes, source)
    name = f"{path.name} ({left_out} unreadable images left out)" if left_out else path.name
    split = in_three_sets(name, images, labels, preprocessing, seed)
    return split if folders is None else replace(split, class_names=folders.names, class_order=folders.order)


def _check_labels(labels: NDArray[np.int64] | None, classes: int, source: str) -> None:
    if labels is not None and len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise BadData(
            f"{source} has labels from {labels.min()} to {labels.max()}; the model has {classes} classes "
            f"(0 to {classes - 1})"
        )


def _bundled(preprocessing: Preprocessing) -> Data:
    def read(name: str) -> ImageSet:
        images, labels = _read_npz(default_model_folder() / f"{name}.npz", preprocessing)
        return ImageSet(images, labels, preprocessing)

    return Data("Fashion-MNIST (bundled)", False, read("calibration"), read("selection"), read("evaluation"))


def _read_npz(path: Path, preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    try:
        with path.open("rb") as opened:
            if not zipfile.is_zipfile(opened):
                raise ValueError("it is no archive, or only the beginning of one")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name]) for name in file.files}
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


def _read_folder(
    folder: Path, preprocessing: Preprocessing, folders: ClassFolders | None, *, skip_bad: bool
) -> tuple[list[Path], NDArray[np.int64] | None, int]:
    """Return files, labels where there are class folders, and how many bad images were left out."""
    images, labels, bad = [], [], []
    for group, label in {folder: 0}.items() if folders is None else folders.classes.items():
        for path in images_in(group):
            reason = reason_against(path, preprocessing)
            if reason is not None:
                bad.append(reason)
                continue
            images.append(path)
            labels.append(label)
    if bad and not skip_bad:
        shown = "\n".join(f"  - {line}" for line in bad[:20])
        raise BadData(
            f"{len(bad)} of {len(images) + len(bad)} images under {folder} cannot be used "
            f"(--skip-bad leaves them out):\n{shown}"
        )
    if not images:
        raise BadData(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return images, np.array(labels, np.int64) if folders else None, len(bad)
