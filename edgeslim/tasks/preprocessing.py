"""What happens to an image before the model sees it; needs numpy and Pillow only, and a copy lies in every artifact.

Calibration, evaluation, golden vectors and the artifact's `run.py` all use this file, so what was tested is what runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from struct import error as StructError  # noqa: N812  (the name says what it is: an exception)
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

ColorOrder = Literal["RGB", "BGR", "GRAY"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]

LARGEST_SIDE = 16384  # pixels
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_GREY_MODES = {"1", "L", "LA", "La"}
_COLOR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV", "LAB"}
_DEEP_MODES = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_UNREADABLE = (OSError, SyntaxError, EOFError, ValueError, IndexError, StructError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Preprocessing:
    """How raw images become model inputs.

    `width`, `height`: pixels the model takes. `resize`: the shorter side is scaled to this many pixels first, or the
    image, whatever its shape, to [width, height]; null means it is only cropped. `mean`, `std`: of values in 0..1, one
    per channel, in `color_order`.
    """

    width: int
    height: int
    channels: Literal[1, 3]
    resize: int | tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    color_order: ColorOrder
    interpolation: Interpolation = "bilinear"

    # Read by edgeslim's manifest, which checks this class with pydantic; nothing else looks at it.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other: ValueError."""
        self._check_sizes()
        if self.color_order not in get_args(ColorOrder):
            raise ValueError(f"preprocessing: `color_order` is {self.color_order!r}; expected RGB, BGR or GRAY")
        if self.interpolation not in _FILTERS:
            raise ValueError(
                f"preprocessing: `interpolation` is {self.interpolation!r}; expected {', '.join(_FILTERS)}"
            )
        if self.channels != (1 if self.color_order == "GRAY" else 3):
            raise ValueError(f"preprocessing: `channels` is {self.channels}, which does not fit {self.color_order}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if (
                type(values) is not tuple
                or len(values) != self.channels
                or not all(_is_finite_number(v) for v in values)
            ):
                raise ValueError(f"preprocessing: `{name}` is {values!r}; expected {self.channels} finite number(s)")
        if min(self.std) <= 0:
            raise ValueError(f"preprocessing: `std` is {self.std!r}; every value must be above 0")

    def _check_sizes(self) -> None:
        sizes = {"width": self.width, "height": self.height, "channels": self.channels}
        if isinstance(self.resize, tuple):
            if len(self.resize) != 2:
                raise ValueError(f"preprocessing: `resize` is {list(self.resize)}; expected a side, or [width, height]")
            sizes |= {"resize[0]": self.resize[0], "resize[1]": self.resize[1]}
        elif self.resize is not None:
            sizes["resize"] = self.resize
        for name, value in sizes.items():
            if type(value) is not int or not 1 <= value <= LARGEST_SIDE:
                raise ValueError(
                    f"preprocessing: `{name}` is {value!r}; expected a positive whole number, at most {LARGEST_SIDE}"
                )
        if _is_below(self.resize, self.width, self.height):
            raise ValueError(
                f"preprocessing: `resize` is {self.resize}, below the {self.width}x{self.height} to be cropped"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them; `from_dict` reads them back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Preprocessing":
        """Return what `to_dict` wrote; ValueError names an unknown, missing or wrong key."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(settings) - set(known))
        missing = [name for name in known if name not in settings]
        if unknown:
            raise ValueError(f"preprocessing: unknown key `{unknown[0]}`; known are {', '.join(known)}")
        if missing:
            raise ValueError(f"preprocessing: `{missing[0]}` is missing")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        return cls(**values)


def decode(image: Image.Image | str | Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return an image file's pixels, HxWx3 in the order RGB or HxWx1, as many channels as the model takes.

    Grey is repeated for a colour model, a photograph is turned as its EXIF tag says, of an animation the first frame
    counts. ValueError for an unreadable file, CMYK, more than 8 bits a channel, transparency, colour for a grey model.
    """
    if not isinstance(image, Image.Image):
        try:
            with Image.open(image) as opened:
                opened.load()
                return _pixels(opened, str(image), preprocessing.channels)
        except _UNREADABLE as error:
            reason = str(error)
            text = reason if reason.startswith(str(image)) else f"{image}: cannot be read as an image: {reason}"
            raise ValueError(text) from error
    return _pixels(image, "image", preprocessing.channels)


def is_turned(image: Image.Image) -> bool:
    """Tell whether an EXIF tag says that an image lies there turned or mirrored."""
    return bool(image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9))


def _pixels(image: Image.Image, name: str, channels: int) -> NDArray[np.uint8]:
    if is_turned(image):
        image = ImageOps.exif_transpose(image)
    if image.mode == "CMYK":
        raise ValueError(f"{name}: is CMYK, whose colours depend on an ink profile; convert it to RGB")
    if image.mode in _DEEP_MODES:
        raise ValueError(f"{name}: has more than 8 bits a channel (Pillow mode {image.mode}); convert it to 8 bits")
    if image.mode not in _GREY_MODES | _COLOR_MODES:
        raise ValueError(f"{name}: has the Pillow mode {image.mode}; expected grey or RGB")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise ValueError(f"{name}: has transparent pixels; flatten it onto a background of your choice")
    is_grey = image.mode in _GREY_MODES
    if channels == 1 and not is_grey:
        raise ValueError(f"{name}: is in colour (Pillow mode {image.mode}), the model takes grey; convert it to grey")
    pixels = np.asarray(image.convert("L" if is_grey else "RGB"))
    if is_grey:
        pixels = np.repeat(pixels[:, :, None], channels, axis=2)
    return pixels


def preprocess(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return one HxWxC image (0..255, RGB or grey) as the model's height x width x C input.

    Shorter side or both resized, centre cropped, scaled to 0..1, reordered, normalized. ValueError for a wrong type or
    shape.
    """
    normalized: NDArray[np.float32] = _normalize(fit(image, preprocessing)[None], preprocessing)[0]
    return normalized


def preprocess_batch(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Return N images as N x height x width x C, each exactly as `preprocess` makes it; sizes may differ in a list.

    For NCHW: `batch.transpose(0, 3, 1, 2)`. ValueError as in `preprocess`, naming the image's index.
    """
    if len(images) == 0:
        return np.empty((0, preprocessing.height, preprocessing.width, preprocessing.channels), np.float32)
    if isinstance(images, np.ndarray) and images.ndim == 4 and not _needs_resize(images.shape[1:], preprocessing):
        return _normalize(_crop(_checked(images, preprocessing, "images"), preprocessing), preprocessing)
    fitted = [fit(image, preprocessing, f"image {index}") for index, image in enumerate(images)]
    return _normalize(np.stack(fitted), preprocessing)


def fit(image: NDArray[np.uint8], preprocessing: Preprocessing, name: str = "image") -> NDArray[np.uint8]:
    """Return one HxWxC image (0..255) resized and cropped to height x width x C; ValueError as in `preprocess`."""
    if image.ndim != 3:
        raise ValueError(f"{name}: has the shape {image.shape}; expected height x width x channels")
    image = _checked(image, preprocessing, name)
    if _needs_resize(image.shape, preprocessing):
        image = _resize(image, preprocessing)
    return _crop(image, preprocessing, name)


def _checked(images: NDArray[np.uint8], preprocessing: Preprocessing, name: str) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise ValueError(f"{name}: has the type {images.dtype}; expected uint8, 0 to 255")
    if images.shape[-1] != preprocessing.channels:
        raise ValueError(f"{name}: has {images.shape[-1]} channel(s); the model takes {preprocessing.channels}")
    if 0 in images.shape:
        raise ValueError(f"{name}: has the shape {images.shape}, no pixels at all")
    return images


def _is_below(resize: int | tuple[int, int] | None, width: int, height: int) -> bool:
    """Tell whether no image that was resized so is large enough to be cropped."""
    if isinstance(resize, tuple):
        return resize[0] < width or resize[1] < height
    return resize is not None and resize < min(width, height)


def _needs_resize(shape: tuple[int, ...], preprocessing: Preprocessing) -> bool:
    if isinstance(preprocessing.resize, tuple):
        return preprocessing.resize != (shape[1], shape[0])
    return preprocessing.resize is not None and min(shape[:2]) != preprocessing.resize


def _resize(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    target = preprocessing.resize
    if target is None:
        return image
    if isinstance(target, tuple):
        size = target
    else:  # the longer side is rounded down, as the training pipelines of published weights do
        size = (target, target * height // width) if width <= height else (target * width // height, target)
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    return np.asarray(picture.resize(size, _FILTERS[preprocessing.interpolation])).reshape(size[1], size[0], channels)


def _crop(images: NDArray[np.uint8], preprocessing: Preprocessing, name: str = "images") -> NDArray[np.uint8]:
    height, width = images.shape[-3:-1]
    if height < preprocessing.height or width < preprocessing.width:
        resized = "" if preprocessing.resize is None else f" after resizing its shorter side to {preprocessing.resize}"
        wanted = f"{preprocessing.width}x{preprocessing.height}"
        raise ValueError(
            f"{name}: is {width}x{height}{resized}, smaller than the {wanted} (width x height) of the model"
        )
    top, left = round((height - preprocessing.height) / 2), round((width - preprocessing.width) / 2)
    return images[..., top : top + preprocessing.height, left : left + preprocessing.width, :]


def _normalize(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    if preprocessing.color_order == "BGR":
        images = images[..., ::-1]
    values = images.astype(np.float32, order="C")
    values /= np.float32(255)
    values -= np.asarray(preprocessing.mean, np.float32)
    values /= np.asarray(preprocessing.std, np.float32)
    return values


def _is_finite_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
