"""A build that trains behind pruning: what it tells, what travels in the artifact, that it repeats, what it refuses."""

from pathlib import Path

import numpy as np
import pytest

import edgeslim
from edgeslim.errors import BadData, BadInput
from edgeslim.pipeline.result import BuildReport
from edgeslim.recipe import load_recipe
from tests.support.in_process import PI, run
from tests.support.installed import skip_without

WISHES = {"device": "raspberry-pi", "weights": "random", "formats": ["onnx"], "max_drop": 100, "estimate": False}
# Without norms, whose random statistics would fit no image.
MODEL = """
from torch import nn
PREPROCESSING = {"width": 16, "height": 16, "channels": 3, "resize": 16, "mean": [0.5] * 3, "std": [0.25] * 3,
                 "color_order": "RGB", "interpolation": "bilinear"}

def make():
    body = nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A source of a small network."""
    file = tmp_path_factory.mktemp("network") / "small.py"
    file.write_text(MODEL)
    return f"{file}:make"


@pytest.fixture(scope="module")
def trained(network: str, images: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    """The report of a build that trained what pruning left of a small network."""
    skip_without("onnxruntime")
    out = tmp_path_factory.mktemp("trained") / "artifact"
    return edgeslim.build(network, **WISHES, data=images, prune="macs=0.5", train_s=1.0, out=out)


def test_its_steps_travel_so_that_it_repeats_to_the_byte(
    trained: BuildReport, network: str, images: Path, tmp_path: Path
) -> None:
    folder = trained.artifact.folder
    (call,) = (one for one in load_recipe(folder / "recipe.yaml").steps if one.step == "distill")
    assert call.settings["seconds"] == 1.0
    assert call.settings["steps"] > 1
    told = trained.artifact.manifest.training
    assert told is not None
    assert f"; {call.settings['steps']} steps of 64 of 64 images" in told
    assert f"training: {told}" in " ".join(str(trained).split())
    assert f"distill: {told}" in (folder / "CHANGELOG.md").read_text()
    wishes = {name: WISHES[name] for name in ("device", "weights", "estimate")}
    again = edgeslim.build(network, **wishes, data=images, recipe=folder / "recipe.yaml", out=tmp_path / "again")
    ours, theirs = (one.artifact.folder / "models" / "model_int8.onnx" for one in (trained, again))
    assert theirs.read_bytes() == ours.read_bytes()
    assert (again.artifact.folder / "recipe.yaml").read_bytes() == (folder / "recipe.yaml").read_bytes()


def test_the_network_that_a_report_hands_back_is_the_trained_one(
    trained: BuildReport, images: Path, tmp_path: Path
) -> None:
    wishes = {name: value for name, value in WISHES.items() if name != "weights"}
    on = edgeslim.build(start=trained, **wishes, data=images, prune=False, out=tmp_path / "on")
    assert on.artifact.manifest.model.macs == trained.artifact.manifest.model.macs
    assert on.artifact.manifest.training == trained.artifact.manifest.training, "its history is lost"
    assert all(one.step != "distill" for one in load_recipe(on.artifact.folder / "recipe.yaml").steps)
    fp32 = [one.artifact.folder / "reference" / "model_fp32.onnx" for one in (trained, on)]
    assert fp32[0].read_bytes() != fp32[1].read_bytes(), "the float file is the network as it was given"


def test_images_of_its_own_are_trained_on(network: str, images: Path, tmp_path: Path) -> None:
    skip_without("onnxruntime")
    np.savez(tmp_path / "own.npz", images=np.random.default_rng(5).integers(0, 256, (40, 16, 16, 3), np.uint8))
    wishes = {**WISHES, "prune": "macs=0.5", "train_s": 0.5, "train": tmp_path / "own.npz"}
    report = edgeslim.build(network, **wishes, data=images, out=tmp_path / "artifact")
    assert "of 40 images" in (report.artifact.folder / "CHANGELOG.md").read_text()
    assert "train: own.npz" in report.artifact.manifest.data.source


def test_images_to_train_on_without_training_are_refused_before_any_work(
    network: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"is named to train on, and the recipe has no step `distill`\nhelp: .*2min"):
        edgeslim.build(network, **WISHES, data=images, train=images, out=tmp_path / "artifact")
    assert not list(tmp_path.iterdir())


def test_an_image_that_judges_is_not_trained_on(network: str, images: Path, tmp_path: Path) -> None:
    wishes = {**WISHES, "prune": "macs=0.5", "train_s": 1.0, "train": images}
    with pytest.raises(BadData, match=r"images\.npz \(train\) and .*share 128 images; what is trained on cannot judge"):
        edgeslim.build(network, **wishes, data=images, out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--no-prune", "--train-time", "1min"), "the recipe has no step `prune` or `legalize`"),
        (("--train-time", "soon"), "--train-time"),
        (("--train-time", "-5s"), "--train-time"),
        (("--train", "there.npz"), "there.npz"),
    ],
)
def test_wishes_that_cannot_be_are_refused_by_name(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, told = run(monkeypatch, capsys, "build", *PI, "--out", "artifact", *words)
    assert code == 2
    assert message in told
    assert not list(tmp_path.iterdir())
