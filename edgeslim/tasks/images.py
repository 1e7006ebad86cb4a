"""Data: three disjoint sets of images for calibration, selection and evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeslim.errors import BadData
from edgeslim.tasks.image_store import fitted
from edgeslim.tasks.preprocessing import Preprocessing, decode, preprocess_batch
from edgeslim.threads import each_in_threads

SYNTHETIC_IMAGES = 48
BATCH = 64


def evenly(count: int, most: int | None) -> NDArray[np.int64]:
    """Return the places of at most so many of `count` things, spread over all; of all where `most` is None."""
    return np.linspace(0, count - 1, count if most is None else min(most, count)).round().astype(np.int64)


def pixels_of(image: NDArray[np.uint8] | Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return an image of a set (H, W, C) before normalization; that of a file is resized and cropped, or BadData."""
    if not isinstance(image, Path):
        return image
    try:
        return fitted(image, preprocessing)
    except (OSError, ValueError) as error:
        reason = str(error)
        raise BadData(reason if str(image) in reason else f"{image}: {reason}") from error


@dataclass(frozen=True)
class ImageSet:
    """Images before preprocessing (uint8 H x W x C arrays or files), with the task's targets where they are known."""

    images: NDArray[np.uint8] | list[Path]  # (N, H, W, C), or files
    targets: NDArray[Any] | None  # (N, ...)
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.images)

    def at(self, chosen: Sequence[int] | NDArray[np.int64]) -> "ImageSet":
        """Return the images at some places, with their targets."""
        images = [self.images[i] for i in chosen] if isinstance(self.images, list) else self.images[chosen]
        return replace(self, images=images, targets=None if self.targets is None else self.targets[chosen])

    def part(self, which: slice) -> "ImageSet":
        """Return the images of a slice, with their targets; what lies in memory is not copied."""
        return replace(self, images=self.images[which], targets=None if self.targets is None else self.targets[which])

    def raw(self, count: int) -> list[NDArray[np.uint8]]:
        """Return the first `count` images, decoded but not preprocessed."""
        images = self.images[:count]
        return [decode(one, self.preprocessing) for one in images] if isinstance(images, list) else list(images)

    def inputs(self) -> Iterator[NDArray[np.float32]]:
        """Yield preprocessed batches (n, H, W, C), n at most 64; of files no more than a batch is held."""
        for start in range(0, len(self), BATCH):
            images = self.images[start : start + BATCH]
            if isinstance(images, list):
                found = np.stack(list(each_in_threads(partial(pixels_of, preprocessing=self.preprocessing), images)))
                yield preprocess_batch(found, replace(self.preprocessing, resize=None))  # which was done
            else:
                yield preprocess_batch(images, self.preprocessing)

    def tensors(self) -> Iterator[Tensor]:
        """Yield preprocessed batches as torch wants them: (n, C, H, W)."""
        for batch in self.inputs():
            yield torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))


@dataclass(frozen=True)
class Data:
    """The three sets and where they come from; `train` is trained on, where somebody named it.

    `labels`: what the data call what the network tells apart, in its order; `how_read`: in words, how that order was
    found. None where the data say nothing of it.
    """

    source: str
    synthetic: bool
    calibration: ImageSet
    selection: ImageSet
    evaluation: ImageSet
    train: ImageSet | None = None
    labels: tuple[str, ...] | None = None
    how_read: str | None = None

    @property
    def labelled(self) -> bool:
        """Tell whether accuracy can be measured, or only agreement with the float model."""
        return self.evaluation.targets is not None


def synthetic_data(preprocessing: Preprocessing, seed: int) -> Data:
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
