"""Images in, model inputs out: what is computed, and what is refused with which words."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeslim.tasks import preprocessing as module
from edgeslim.tasks.preprocessing import Preprocessing, decode, preprocess, preprocess_batch

GREY = Preprocessing(28, 28, 1, 28, (0.5,), (0.25,), "GRAY")
COLOR = Preprocessing(8, 6, 3, 8, (0.1, 0.2, 0.3), (0.5, 0.25, 0.125), "RGB", "bicubic")
RANDOM = np.random.default_rng(3)


def pixels(height: int, width: int, channels: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8)


def changed(preprocessing: Preprocessing, **values: object) -> dict[str, object]:
    return preprocessing.to_dict() | values


@pytest.mark.parametrize("preprocessing", [GREY, COLOR, replace(COLOR, resize=(9, 7))], ids=["grey", "color", "both"])
def test_settings_survive_a_dictionary(preprocessing):
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (changed(COLOR, widht=8), "unknown key `widht`"),
        ({key: value for key, value in COLOR.to_dict().items() if key != "std"}, "`std` is missing"),
        (changed(COLOR, width=0), "`width` is 0; expected a positive whole number"),
        (changed(COLOR, height=6.0), "`height` is 6.0; expected a positive whole number"),
        (changed(COLOR, channels=True), "`channels` is True"),
        (changed(COLOR, channels=1), "`channels` is 1, which does not fit RGB"),
        (changed(GREY, channels=3), "`channels` is 3, which does not fit GRAY"),
        (changed(COLOR, color_order="GBR"), "`color_order` is 'GBR'; expected RGB, BGR or GRAY"),
        (changed(COLOR, interpolation="lanczos"), "`interpolation` is 'lanczos'; expected nearest, bilinear, bicubic"),
        (changed(COLOR, resize=5), "`resize` is 5, below the 8x6"),
        (changed(COLOR, resize=[9, 5]), "`resize` is (9, 5), below the 8x6"),
        (changed(COLOR, resize=[7, 6]), "`resize` is (7, 6), below the 8x6"),
        (changed(COLOR, resize=[8, 6, 3]), "`resize` is [8, 6, 3]; expected a side, or [width, height]"),
        (changed(COLOR, resize=[8, 6.5]), "`resize[1]` is 6.5; expected a positive whole number"),
        (changed(COLOR, mean=[0.5]), "`mean` is (0.5,); expected 3 finite number(s)"),
        (changed(COLOR, mean=[0.5, 0.5, "0.5"]), "`mean` is (0.5, 0.5, '0.5')"),
        (changed(GREY, std=[float("nan")]), "`std` is (nan,)"),
        (changed(GREY, std=[0.0]), "every value must be above 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match="^preprocessing: .*" + re.escape(message)):
        Preprocessing.from_dict(settings)


def test_every_pixel_becomes_its_value_minus_mean_over_std():
    image = pixels(6, 8, 3)
    exact = Preprocessing(8, 6, 3, None, COLOR.mean, COLOR.std, "RGB")
    wanted = (image / 255 - np.array(COLOR.mean)) / np.array(COLOR.std)
    made = preprocess(image, exact)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_bgr_reverses_the_channels_before_mean_and_std():
    image = pixels(6, 8, 3)
    rgb = Preprocessing(8, 6, 3, None, COLOR.mean, COLOR.std, "RGB")
    bgr = Preprocessing(8, 6, 3, None, COLOR.mean, COLOR.std, "BGR")
    np.testing.assert_array_equal(preprocess(image, bgr), preprocess(image[:, :, ::-1], rgb))


@pytest.mark.parametrize(("size", "resized"), [((30, 20), (12, 8)), ((20, 30), (8, 12)), ((31, 20), (12, 8))])
def test_the_shorter_side_is_resized_and_the_centre_is_cropped(size, resized):
    width, height = size
    image = pixels(height, width, 3)
    by_hand = np.asarray(Image.fromarray(image).resize(resized, Image.Resampling.BICUBIC))
    left, top = round((resized[0] - 8) / 2), round((resized[1] - 6) / 2)
    plain = Preprocessing(8, 6, 3, 8, (0.0,) * 3, (1.0,) * 3, "RGB", "bicubic")
    cropped = by_hand[top : top + 6, left : left + 8]
    np.testing.assert_array_equal(np.rint(preprocess(image, plain) * 255), cropped)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(30, 20), (20, 30), (10, 8), (5, 5)])
def test_both_sides_are_resized_whatever_the_shape_and_the_centre_is_cropped(size, interpolation):
    image = pixels(size[1], size[0], 3)
    by_hand = np.asarray(Image.fromarray(image).resize((10, 8), Image.Resampling[interpolation.upper()]))
    both = Preprocessing(8, 6, 3, (10, 8), (0.0,) * 3, (1.0,) * 3, "RGB", interpolation)
    np.testing.assert_array_equal(np.rint(preprocess(image, both) * 255), by_hand[1:7, 1:9])
    np.testing.assert_array_equal(preprocess_batch(image[None], both), preprocess(image, both)[None])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4))
def test_a_batch_equals_its_images_one_by_one(sizes):
    images = [pixels(height, width, 3) for height, width in sizes]
    batch = preprocess_batch(images, COLOR)
    assert batch.shape == (len(images), 6, 8, 3)
    np.testing.assert_array_equal(batch, np.stack([preprocess(image, COLOR) for image in images]))


def test_an_array_of_equal_images_gives_what_a_list_gives():
    images = RANDOM.integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_array_equal(preprocess_batch(images, GREY), preprocess_batch(list(images), GREY))


def test_an_empty_batch_has_the_shape_of_the_input():
    assert preprocess_batch([], COLOR).shape == (0, 6, 8, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((6, 8, 3), np.float32), "has the type float32; expected uint8"),
        (np.zeros((6, 8), np.uint8), "has the shape (6, 8); expected height x width x channels"),
        (np.zeros((6, 8, 1), np.uint8), "has 1 channel(s); the model takes 3"),
        (np.zeros((0, 8, 3), np.uint8), "has the shape (0, 8, 3), no pixels at all"),
    ],
)
def test_arrays_that_are_no_images_are_refused(image, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        preprocess(image, COLOR)


def test_an_image_below_the_crop_is_refused_with_its_index():
    cropped_only = Preprocessing(28, 28, 1, None, (0.0,), (1.0,), "GRAY")
    with pytest.raises(ValueError, match=r"image 1: is 20x28, smaller than the 28x28"):
        preprocess_batch([pixels(28, 28, 1), pixels(28, 20, 1)], cropped_only)


def test_grey_is_repeated_for_a_colour_model(tmp_path):
    grey = pixels(6, 8, 1)
    Image.fromarray(grey[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(decode(tmp_path / "grey.png", COLOR), np.repeat(grey, 3, axis=2))


def test_a_grey_file_keeps_its_pixels_for_a_grey_model(tmp_path):
    grey = pixels(28, 28, 1)
    Image.fromarray(grey[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(decode(tmp_path / "grey.png", GREY), grey)


def test_opaque_alpha_is_dropped():
    image = pixels(6, 8, 3)
    opaque = Image.fromarray(image).convert("RGBA")
    np.testing.assert_array_equal(decode(opaque, COLOR), image)


@pytest.mark.parametrize(
    ("image", "preprocessing", "message"),
    [
        (Image.new("CMYK", (8, 8)), COLOR, "is CMYK, whose colours depend on an ink profile; convert it to RGB"),
        (Image.new("I;16", (8, 8)), GREY, "has more than 8 bits a channel (Pillow mode I;16)"),
        (Image.new("F", (8, 8)), GREY, "has more than 8 bits a channel (Pillow mode F)"),
        (Image.new("RGB", (8, 8)), GREY, "is in colour (Pillow mode RGB), the model takes grey"),
        (Image.new("P", (8, 8)), GREY, "is in colour (Pillow mode P), the model takes grey"),
        (Image.new("RGBA", (8, 8), (1, 2, 3, 128)), COLOR, "has transparent pixels; flatten it"),
    ],
)
def test_images_whose_colours_are_unclear_are_refused(image, preprocessing, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        decode(image, preprocessing)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_an_unreadable_file_is_refused_by_name(tmp_path, content):
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png: cannot be read as an image"):
        decode(file, COLOR)


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")  # Pillow's own words before it raises
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_a_file_that_ends_too_early_is_refused_by_name(tmp_path, suffix):
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels(20, 24, 3)).save(file)
    whole = file.read_bytes()
    for length in range(0, len(whole) * 9 // 10, max(1, len(whole) // 25)):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"image\.{suffix}: cannot be read as an image"):
            decode(file, COLOR)


def test_it_runs_beside_a_script_without_edgeslim(tmp_path):
    copy = tmp_path / "preprocessing.py"
    copy.write_bytes(Path(module.__file__).read_bytes())
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import preprocessing;"
        "loaded = {name.partition('.')[0] for name in sys.modules};"
        "sys.exit(bool(loaded & {'edgeslim', 'pydantic', 'torch'}))"
    )
    assert subprocess.run([sys.executable, "-I", "-B", "-c", script], cwd=tmp_path, check=False).returncode == 0
