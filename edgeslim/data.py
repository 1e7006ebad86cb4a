"""Data: three disjoint sets of images for calibration, selection and evaluation."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeslim.errors import BadData, near_misses
from edgeslim.preprocessing import Preprocessing, decode, preprocess, preprocess_batch
from edgeslim.resources import default_model_folder

CALIBRATION_MOST, SELECTION_MOST = 512, 2000
CALIBRATION_LEAST = 32
SYNTHETIC_IMAGES = 48
BATCH = 64
SHOWN_CLASSES = 12
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class ImageSet:
    """Images before preprocessing (uint8 H x W x C arrays or files), with labels where they are known."""

    images: NDArray[np.uint8] | list[Path]  # (N, H, W, C), or files
    labels: NDArray[np.int64] | None
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.images)

    def at(self, chosen: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        """Return the images at some places, with their labels."""
        images = [self.images[i] for i in chosen] if isinstance(self.images, list) else self.images[chosen]
        return replace(self, images=images, labels=None if self.labels is None else self.labels[chosen])

    def raw(self, count: int) -> list[NDArray[np.uint8]]:
        """Return the first `count` images, decoded but not preprocessed."""
        return [_decoded(image, self.preprocessing) for image in self.images[:count]]

    def inputs(self) -> Iterator[NDArray[np.float32]]:
        """Yield preprocessed batches (n, H, W, C), n at most 64."""
        for start in range(0, len(self), BATCH):
            yield preprocess_batch(
                [_decoded(image, self.preprocessing) for image in self.images[start : start + BATCH]],
                self.preprocessing,
            )

    def tensors(self) -> Iterator[Tensor]:
        """Yield preprocessed batches as torch wants them: (n, C, H, W)."""
        for batch in self.inputs():
            yield torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))


@dataclass(frozen=True)
class Data:
    """The three sets and where they come from.

    `class_names`: what the folders of the classes are called, in the order of the model's classes; `class_order`: in
    words, how that order was found. None where there are no class folders.
    """

    source: str
    synthetic: bool
    calibration: ImageSet
    selection: ImageSet
    evaluation: ImageSet
    class_names: tuple[str, ...] | None = None
    class_order: str | None = None

    @property
    def labelled(self) -> bool:
        """Tell whether accuracy can be measured, or only agreement with the float model."""
        return self.evaluation.labels is not None


@dataclass(frozen=True)
class ClassFolders:
    """The class of each folder; `names`: the model's labels that they give it, where they are in alphabetical order."""

    classes: dict[Path, int]
    names: tuple[str, ...] | None
    order: str


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
        return _synthetic(preprocessing, seed)
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
    split = _split(name, images, labels, preprocessing, seed)
    return split if folders is None else replace(split, class_names=folders.names, class_order=folders.order)


def _check_labels(labels: NDArray[np.int64] | None, classes: int, source: str) -> None:
    if labels is not None and len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise BadData(
            f"{source} has labels from {labels.min()} to {labels.max()}; the model has {classes} classes "
            f"(0 to {classes - 1})"
        )


def _split(
    source: str,
    images: NDArray[np.uint8] | list[Path],
    labels: NDArray[np.int64] | None,
    preprocessing: Preprocessing,
    seed: int,
) -> Data:
    """Shuffle once, then cut: a quarter (at most 512) calibrates, a quarter (at most 2,000) selects, the rest judge."""
    count = len(images)
    calibration, selection = min(CALIBRATION_MOST, count // 4), min(SELECTION_MOST, count // 4)
    if calibration < CALIBRATION_LEAST:
        raise BadData(
            f"{source} has {count} images, of which a quarter calibrates; at least {4 * CALIBRATION_LEAST} are needed"
        )
    order = np.random.default_rng(seed).permutation(count)

    def part(chosen: NDArray[np.int64]) -> ImageSet:
        chosen = np.sort(chosen)
        picked = images[chosen] if isinstance(images, np.ndarray) else [images[i] for i in chosen]
        return ImageSet(picked, None if labels is None else labels[chosen], preprocessing)

    first, second = calibration, calibration + selection
    return Data(source, False, part(order[:first]), part(order[first:second]), part(order[second:]))


def _bundled(preprocessing: Preprocessing) -> Data:
    def read(name: str) -> ImageSet:
        images, labels = _read_npz(default_model_folder() / f"{name}.npz", preprocessing)
        return ImageSet(images, labels, preprocessing)

    return Data("Fashion-MNIST (bundled)", False, read("calibration"), read("selection"), read("evaluation"))


def _synthetic(preprocessing: Preprocessing, seed: int) -> Data:
    """Return seeded images of coloured noise, smooth as photographs are (amplitude falls with frequency)."""
    height, width = preprocessing.height, preprocessing.width
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    falloff = 1.0 / np.maximum(frequency, 1.0 / max(height, width))
    generator = np.random.default_rng(seed)

    def draw() -> NDArray[np.uint8]:
        noise = generator.standard_normal((preprocessing.channels, height, width))
        smooth = np.fft.ifft2(np.fft.fft2(noise) * falloff).real
        smooth -= smooth.mean()
        scaled = 127.5 + 60.0 * smooth / smooth.std()
        return np.asarray(scaled.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))

    def some() -> ImageSet:
        return ImageSet(np.stack([draw() for _ in range(SYNTHETIC_IMAGES)]), None, preprocessing)

    return Data(f"synthetic noise, seed {seed}", True, some(), some(), some())


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
        for path in _images_in(group):
            reason = _reason_against(path, preprocessing)
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


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def class_folders(folder: Path, names: Sequence[str], classes: int) -> ClassFolders | None:
    """Return the classes of the folders in a folder of images; None where it holds none.

    By name, whatever its case, where the names are the model's; by number where they are numbers of classes; else in
    alphabetical order. Raises BadData where that
    would be a guess.
    """
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        return None
    if beside := _images_in(folder):
        raise BadData(f"{len(beside)} images lie in {folder} beside its class folders (first: {beside[0].name})")
    found = {one: _classes_named(one.name, names) for one in folders}
    unknown = [one.name for one, fitting in found.items() if not fitting]
    if not unknown:
        _refuse_ambiguous(found)
        return ClassFolders(
            {one: fitting[0] for one, fitting in found.items()}, None, f"{len(folders)} folders, by the model's labels"
        )
    numbers = {one: int(one.name) for one in folders if one.name.isdecimal() and int(one.name) < classes}
    if len(set(numbers.values())) == len(folders):
        return ClassFolders(numbers, None, f"{len(folders)} folders, by the numbers of the model's classes")
    if len(unknown) < len(folders):
        raise BadData(
            f"class folder `{unknown[0]}` is no class of the model, though others are"
            f"{near_misses(unknown[0], names)}; its classes are {', '.join(names[:20])}"
        )
    if len(folders) != classes:
        raise BadData(
            f"{len(folders)} class folders for a model of {classes} classes, and their names are not the model's: "
            "alphabetical order would label them wrongly"
        )
    own = tuple(one.name for one in folders)
    why = "none of them is one of the model's labels" if names else "the model names no labels"
    shown = ", ".join(f"{number} {name}" for number, name in enumerate(own[:SHOWN_CLASSES]))
    more = f" … {len(own) - 1} {own[-1]}" if len(own) > SHOWN_CLASSES else ""
    return ClassFolders(
        {one: number for number, one in enumerate(folders)},
        own,
        f"folders in alphabetical order, for {why}: {shown}{more}",
    )


def _classes_named(name: str, names: Sequence[str]) -> list[int]:
    """Return the classes that a folder's name is the label of: exactly, or else whatever its case."""
    exactly = [number for number, label in enumerate(names) if label == name]
    return exactly or [number for number, label in enumerate(names) if label.casefold() == name.casefold()]


def _refuse_ambiguous(found: Mapping[Path, Sequence[int]]) -> None:
    """Raise BadData where a folder may be more than one class, or two folders are the same one."""
    taken: dict[int, str] = {}
    for folder, fitting in found.items():
        if len(fitting) > 1:
            raise BadData(
                f"class folder `{folder.name}` may be any of the model's classes {', '.join(map(str, fitting))}, which "
                "have the same label; name labels of their own in LABELS"
            )
        if fitting[0] in taken:
            raise BadData(f"class folders `{taken[fitting[0]]}` and `{folder.name}` are the same class of the model")
        taken[fitting[0]] = folder.name


def _reason_against(path: Path, preprocessing: Preprocessing) -> str | None:
    """Return why an image file cannot be used, beginning with its path, or None for one that can."""
    try:
        preprocess(decode(path, preprocessing), preprocessing)
    except (OSError, ValueError) as error:
        reason = str(error)
        return reason if reason.startswith(str(path)) else f"{path}: {reason}"
    return None


def _decoded(image: NDArray[np.uint8] | Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    return decode(image, preprocessing) if isinstance(image, Path) else image
