"""What a person learns before a build: of the model, of the device, and of images where there are any."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import edgeslim
from edgeslim.errors import BadData, BadInput
from edgeslim.pipeline.preflight import on_images
from edgeslim.pipeline.preflight.check import CheckReport
from edgeslim.pipeline.preflight.on_images import LEAST_JUDGED, MOST_JUDGED, judged_images
from edgeslim.resources import default_store
from tests.support import TESTS
from tests.support.builds import NET
from tests.support.four_shades import LABELS, PREPROCESSING, in_folders, make, pictures
from tests.support.in_process import PI, run

SHADES = f"{TESTS / 'support' / 'four_shades.py'}:make"
EVENLY = [number % 4 for number in range(400)]


def npz(folder: Path, classes: list[int], labels: list[int] | None = None) -> Path:
    told = {} if labels is None else {"labels": np.array(labels)}
    np.savez(folder / "set.npz", images=pictures(classes), **told)
    return folder / "set.npz"


def checked(data: Path | str | None = None, **options: Any) -> CheckReport:
    return edgeslim.check(SHADES, device="raspberry-pi", data=data, **options)


def test_a_model_alone_says_what_it_takes_what_it_gives_and_who_said_so():
    found = checked()
    assert (found.possible, found.model, found.device) == (True, "four_shades.py:make", "raspberry-pi-4")
    assert found.preprocessing.to_dict() == PREPROCESSING | {"interpolation": "bilinear"}
    assert found.preprocessing_from == "PREPROCESSING in four_shades.py"
    assert [(one.name, one.shape) for one in found.outputs] == [("logits", (1, 4))]
    assert found.meaning == "4 classes in this order: 0 black, 1 dark, 2 light, 3 white"
    assert (found.labels, found.labels_from) == (LABELS, "LABELS in four_shades.py")
    assert (found.parameters, found.macs) == (16, 12)
    assert (found.images, found.score, found.expected) == (None, None, None)


@pytest.mark.parametrize(
    ("source", "options", "preprocessing_from", "labels_from"),
    [
        (None, {}, "the bundled model", "the bundled model"),
        ("module", {"labels": LABELS}, "`preprocessing`, as given", "`labels`, as given"),
        ("module", {}, "`preprocessing`, as given", ""),
        (
            "torchvision:squeezenet1_1",
            {},
            "torchvision's transforms of SqueezeNet1_1_Weights.IMAGENET1K_V1",
            "torchvision's categories of SqueezeNet1_1_Weights.IMAGENET1K_V1",
        ),
    ],
)
def test_who_said_how_images_become_inputs_and_what_the_outputs_are_called(
    source: str | None, options: dict[str, Any], preprocessing_from: str, labels_from: str
):
    given: Any = make() if source == "module" else source
    said = {"preprocessing": PREPROCESSING} if source == "module" else {}
    model = edgeslim.load_model(given, "random" if source and ":" in source else None, **said, **options)
    assert (model.preprocessing_from, model.labels_from) == (preprocessing_from, labels_from)


def test_layers_are_counted_by_format_with_what_computes_in_float():
    found = edgeslim.check(NET, device="raspberry-pi", weights="random")
    assert [(one.format, one.int8, one.layers) for one in found.layers] == [
        ("onnx", 8, 8), ("openvino", 8, 8), ("tflite", 8, 8),
    ]  # fmt: skip
    assert [dict(one.in_float) for one in found.layers] == [{}, {"mean": 2}, {}]
    npu = edgeslim.check(NET, device="nxp-imx93", weights="random")
    assert [one.format for one in npu.layers] == ["tflite"]
    assert (found.promotes, npu.promotes) == (True, False), "an NPU runs no floats"


def test_images_are_counted_split_and_answered_by_the_float_model(tmp_path: Path):
    wrong = [3 if number < 40 else shade for number, shade in enumerate(EVENLY)]
    found = checked(npz(tmp_path, EVENLY, wrong))
    assert found.images is not None
    assert (found.images.calibration, found.images.selection, found.images.evaluation) == (100, 100, 200)
    assert found.images.counts == {"0 black": 90, "1 dark": 90, "2 light": 90, "3 white": 130}
    assert found.score is not None
    low, high = found.score.interval
    assert found.score.images == 200
    assert low < found.score.value < high
    assert 100 - found.score.value == pytest.approx(7.5, abs=4.5), "30 of 400 labels are wrong"
    assert found.expected is not None
    assert found.expected.images == 200


def test_a_folder_of_images_is_read_as_a_build_reads_it(tmp_path: Path):
    found = checked(in_folders(tmp_path / "images", EVENLY))
    assert found.images is not None
    assert "4 folders, by the model's labels" in str(found.images.how_read)
    assert found.score is not None
    assert found.score.value == 100.0
    assert found.remarks[0].startswith("nothing would be pruned: 100 selection images cannot show")


def test_sets_of_their_own_and_bad_images_are_treated_as_in_a_build(tmp_path: Path):
    own = in_folders(tmp_path / "own", EVENLY[:120])
    (own / "dark" / "broken.png").write_bytes(b"no image")
    with pytest.raises(BadData, match="1 of 121 images"):
        checked(calibration=npz(tmp_path, EVENLY), evaluation=own)
    found = checked(calibration=npz(tmp_path, EVENLY), evaluation=own, skip_bad=True)
    assert found.images is not None
    assert (found.images.calibration, found.images.selection, found.images.evaluation) == (200, 200, 120)


@pytest.mark.parametrize(
    ("classes", "wide", "grey", "remark"),
    [
        ([2] * 128, 8, False, "all images are of one class, 2 light: they say nothing of the others"),
        ([0, 1, 2] * 50, 8, False, "no image shows 1 of the 4 classes: 3 white"),
        ([0, 1, 2, 3] * 32, 8, False, "not judged: 64 images, 100 needed for 1 points"),
        ([0, 1, 2, 3] * 32, 8, False, "no layer would stay float: 32 selection images cannot say whether one must"),
        ([0, 1, 2, 3] * 32, 16, False, "128 of 128 images looked at lose more than a third to cropping"),
        ([0, 1, 2, 3] * 32, 8, True, "128 of 128 images looked at are grey, and the model takes colour"),
    ],
)  # fmt: skip
def test_what_is_odd_is_remarked_and_fails_nothing(
    tmp_path: Path, classes: list[int], wide: int, grey: bool, remark: str
):
    found = checked(in_folders(tmp_path, classes, wide, grey=grey), trust_labels=True)
    assert found.possible
    assert any(one.startswith(remark) for one in found.remarks), found.remarks


@pytest.mark.parametrize(
    ("data", "options", "why"),
    [
        ("unlabelled", {}, "the images that judge have no labels"),
        ("synthetic", {}, "synthetic images say nothing of it"),
        ("labelled", {"weights": "random"}, "its weights are random"),
    ],
)
def test_where_nobody_can_say_how_good_the_model_is_it_is_said_why(
    tmp_path: Path, data: str, options: dict[str, str], why: str
):
    source = "synthetic" if data == "synthetic" else npz(tmp_path, EVENLY, EVENLY if data == "labelled" else None)
    found = checked(source, **options)
    assert found.score is None
    assert found.not_scored is not None
    assert found.not_scored.startswith(why)
    assert found.expected is not None


def test_labels_that_mean_other_classes_stop_it_as_they_stop_a_build(tmp_path: Path):
    shifted = npz(tmp_path, EVENLY, [(one + 1) % 4 for one in EVENLY])
    with pytest.raises(BadData, match="are in another order than the classes"):
        checked(shifted)
    found = checked(shifted, trust_labels=True)
    assert found.score is not None
    assert found.score.value == 0.0


def test_no_more_images_are_judged_than_some_seconds_allow_and_as_many_are_said(monkeypatch, tmp_path: Path):
    assert [judged_images(seconds) for seconds in (1e-6, 0.01, 0.3, 60.0)] == [MOST_JUDGED, 256, 32, LEAST_JUDGED]
    monkeypatch.setattr(on_images, "MOST_JUDGED", 64)
    found = checked(npz(tmp_path, EVENLY, EVENLY))
    assert found.score is not None
    assert found.score.images == 64


def test_the_report_is_short_to_look_at_and_whole_as_json(tmp_path: Path):
    found = checked(npz(tmp_path, EVENLY, EVENLY))
    assert repr(found).startswith("CheckReport(four_shades.py:make for raspberry-pi-4: 0 reasons against it, ")
    document = json.loads(json.dumps(found.to_dict()))
    assert document["possible"] is True
    assert document["images"]["counts"] == {f"{number} {name}": 100 for number, name in enumerate(LABELS)}
    assert document["expected"]["inference"]["runs"] > 0


def test_formats_that_there_are_not_are_refused():
    with pytest.raises(BadInput, match=r"^`formats#1`: expected 'onnx', 'openvino' or 'tflite'"):
        checked(formats=["onxn"])


def test_a_model_that_cannot_be_built_is_described_all_the_same(monkeypatch, capsys, tmp_path: Path):
    (tmp_path / "odd.py").write_text(
        "from tests.support.four_shades import LABELS, PREPROCESSING, SIDE, make as shades\n"
        "from tests.support.small_models import Passing\n"
        "def make():\n    return Passing(lambda self, x: self.net(x.cumsum(2)), net=shades())\n"
    )
    code, out, err = run(monkeypatch, capsys, "check", f"{tmp_path / 'odd.py'}:make", *PI, "--json")
    assert code == 3
    document = json.loads(out)
    assert document["possible"] is False
    assert document["reasons"] == ["operator `cumsum` (1x) was never tried: no network with it was built and run"]
    assert document["parameters"] == 16
    assert "cannot be built for raspberry-pi:" in err


def test_the_command_prints_what_was_found_and_what_to_name_for_more(monkeypatch, capsys, tmp_path: Path):
    code, out, _ = run(monkeypatch, capsys, "check", SHADES, *PI)
    assert code == 0
    assert out.splitlines()[0] == f"{SHADES} can be built for raspberry-pi"
    assert "with --data: the images, how good the float model is on them, and what a build would take" in out
    data = str(in_folders(tmp_path / "images", EVENLY, grey=True))
    code, out, _ = run(monkeypatch, capsys, "check", SHADES, *PI, "--data", data)
    told = re.sub(r"[│\s]+", " ", out)
    for words in (
        "8x8 (width x height), RGB, shape (1, 3, 8, 8)",
        "400 of images: 100 calibrate, 100 select, 200 judge",
        "100.00 % top-1 accuracy (98.12 to 100, 95 % interval), in PyTorch on 200 of the 200 images that judge",
        "200 images in 6 files",
        "warning: 400 of 400 images looked at are grey, and the model takes colour",
    ):
        assert words in told, told
    assert (code, "--data:" in told) == (0, False)


def test_an_earlier_build_of_the_same_says_how_long_it_took(monkeypatch, capsys, tmp_path: Path):
    from edgeslim.pipeline.preflight.past_builds import note_build, work_of

    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "store"))
    source = npz(tmp_path, EVENLY, EVENLY)
    profile = edgeslim.load_profile("raspberry-pi")
    model = edgeslim.load_model(SHADES)
    recipe = edgeslim.Recipe(steps=({"step": "prune"}, {"step": "fold"}, {"step": "quantize"}))
    note_build(default_store(), work_of(model, profile, recipe, edgeslim.load_data(model, source)), 552.0)
    _, out, _ = run(monkeypatch, capsys, "check", SHADES, *PI, "--data", str(source))
    told = re.sub(r"[│\s]+", " ", out)
    assert "9.2 min, as the last one of this model, recipe and number of images took here" in told


def test_nothing_is_asked_of_a_network_that_has_no_layers():
    found = edgeslim.check(
        nn.Sequential(nn.AvgPool2d(4), nn.Flatten()), device="raspberry-pi", preprocessing=PREPROCESSING
    )
    assert [(one.int8, one.layers) for one in found.layers] == [(0, 0)] * 3
