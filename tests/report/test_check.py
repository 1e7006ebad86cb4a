"""What was found before a build, in words: every figure says how it is known, and what is not known is said."""

from dataclasses import replace

import pytest

from edgeslim.pipeline.preflight.check import CheckReport, ImagesFound, Layers
from edgeslim.pipeline.preflight.expectation import Expected, Inference
from edgeslim.pipeline.preflight.past_builds import PastBuild, Work
from edgeslim.report.check import check_lines, check_table
from edgeslim.tasks.task import Output, Score
from tests.support.small_models import COLOR

TAKEN = Inference(s=0.002, least_s=0.001, most_s=0.004, runs=9)
EXPECTED = Expected(None, TAKEN, 6, 1000, 2, 6.0, None, 12_000_000, 62_000_000, 0)
IMAGES = ImagesFound("photos", False, 500, 500, 1000, {"0 cat": 900, "1 dog": 1100}, None)
REPORT = CheckReport(
    model="net.py:make", weights="factory", device="raspberry-pi-4", task="classification", reasons=(), rewrites=(),
    chosen=(),
    remarks=(), preprocessing=COLOR, preprocessing_from="PREPROCESSING in net.py", outputs=(Output("logits", (1, 2)),),
    meaning="2 classes in this order: 0 cat, 1 dog", labels=("cat", "dog"), labels_from="LABELS in net.py",
    parameters=1234, macs=56789, layers=(Layers("onnx", 3, 4, {"gelu": 2, "layer_norm": 1}),), promotes=True,
)  # fmt: skip


def rows(report: CheckReport) -> dict[str, str]:
    """Return what stands beside each word; lines without one belong to the word above them."""
    found: dict[str, str] = {}
    for word, told in check_table(report).rows:
        key = word or list(found)[-1]
        found[key] = f"{found[key]}; {told}" if key in found else told
    return found


def test_a_model_without_images_is_described_with_who_said_it():
    assert rows(REPORT) == {
        "model": "net.py:make, weights: factory",
        "input": "8x8 (width x height), RGB, shape (1, 3, 8, 8)",
        "preprocessing": "shorter side to 8 pixels (bilinear), the middle cut out, values in 0..1 less 0.5, 0.5, 0.5, "
        "divided by 0.25, 0.25, 0.25; said by PREPROCESSING in net.py",
        "outputs": "logits (1, 2)",
        "classification": "2 classes in this order: 0 cat, 1 dog; named by LABELS in net.py",
        "size": "1,234 parameters, 56,789 MACs for an image",
        "INT8 as onnx": "3 of 4 layers; in float: gelu (2x), layer_norm (1x)",
    }
    assert check_lines(REPORT)[-1].startswith("with --data: ")


def test_what_is_not_resized_and_not_named_is_not_said_to_be():
    told = rows(replace(REPORT, preprocessing=replace(COLOR, resize=None), labels=(), labels_from="", layers=()))
    assert told["preprocessing"].startswith("the middle cut out")
    assert told["classification"] == "2 classes in this order: 0 cat, 1 dog"
    assert not any(word.startswith("INT8") for word in told)


def test_images_and_how_good_the_model_is_on_some_of_them():
    score = Score("accuracy", "top-1", 92.5, "%", (88.0, 95.25), 200)
    told = rows(replace(REPORT, images=replace(IMAGES, how_read="turned as their EXIF tags say: 3"), score=score))
    assert told["images"] == (
        "2,000 of photos: 500 calibrate, 500 select, 1,000 judge; 900 (0 cat, the fewest) to 1,100 (1 dog) of each; "
        "turned as their EXIF tags say: 3"
    )
    assert told["float model"] == (
        "92.50 % top-1 accuracy (88 to 95.25, 95 % interval), in PyTorch on 200 of the 1,000 images that judge"
    )
    alike = rows(replace(REPORT, images=replace(IMAGES, counts={"0 cat": 1000, "1 dog": 1000})))
    assert alike["images"].endswith("1,000 judge; 1,000 of each")
    without = rows(replace(REPORT, images=replace(IMAGES, counts={}), not_scored="its weights are random"))
    assert without["images"] == "2,000 of photos: 500 calibrate, 500 select, 1,000 judge"
    assert without["float model"] == "how good it is cannot be said: its weights are random"


WORK = Work("other.py:make", "a", "intel-n100", "b", ("fold",), ("onnx",), 9_000, (1, 2, 3))
NOW = (
    "no build of it was measured here; 6 s of it for running 1,000 images in 6 files, 2 at a time, if each takes as "
    "PyTorch does: 2 ms an image, the median of 9 just now (1 ms to 4 ms)"
)


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (
            replace(EXPECTED, past_s=552.0),
            "9.2 min, as the last one of this model, recipe and number of images took here",
        ),
        (EXPECTED, f"{NOW}; how long compressing and exporting take besides, nobody knows yet"),
        (
            replace(EXPECTED, alike=PastBuild(WORK, 9000.0)),
            f"{NOW}; the build most like it here, of other.py:make for intel-n100 with 9,000 MACs and 6 images, took "
            "2.5 h in all",
        ),
    ],
)
def test_the_time_of_a_build_says_how_it_is_known(expected: Expected, told: str):
    assert rows(replace(REPORT, images=IMAGES, expected=expected))["time of a build"] == told


@pytest.mark.parametrize(("kept", "told"), [(0, ""), (5_000_000, "; 5 MB of decoded images, kept for the next")])
def test_the_disk_of_a_build_is_counted(kept: int, told: str):
    words = rows(replace(REPORT, images=IMAGES, expected=replace(EXPECTED, kept_bytes=kept)))["disk of a build"]
    weights = "12 MB of weights in 6 files and their archive, as if nothing were pruned"
    rest = "(what else lies in an artifact is not counted)"
    assert words == f"{weights} {rest}; 62 MB of inputs while it runs{told}"


def test_what_is_rewritten_and_what_is_odd_stands_below_a_line_each():
    remarks = ("three are grey", "a\x1b[31m name")
    found = replace(REPORT, rewrites=("layer `a`",), chosen=("of 2 outputs",), remarks=remarks, images=IMAGES)
    assert check_lines(found) == [
        "which layers lose too much as INT8 and stay float, only a build finds",
        "of 2 outputs",
        "rewritten by default: layer `a`",
        "warning: three are grey",
        "warning: a\\x1b[31m name",
    ]
