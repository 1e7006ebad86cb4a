"""A module that a program has made is built as a model from a file is."""

from pathlib import Path

import pytest
import torch
from torch import nn

import edgeslim
from edgeslim.artifact.manifest import OtherLayer
from edgeslim.formats import FORMATS, RUNTIMES
from edgeslim.model.sources.huggingface import transformers_package
from edgeslim.pipeline.preflight.past_builds import past_builds
from edgeslim.pipeline.result import BuildReport
from edgeslim.recipe import StepCall
from edgeslim.report.summary import shown_table
from tests.support.builds import write_smooth_noise
from tests.support.installed import skip_without
from tests.support.packages import needs
from tests.support.small_models import COLOR, LABELS, headed, randomized


def test_a_module_becomes_an_artifact_and_stays_as_it_was(monkeypatch, tmp_path: Path) -> None:
    skip_without("onnxruntime")
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "store"))
    network = randomized(headed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = edgeslim.build(
        network,
        preprocessing=COLOR,
        labels=LABELS,
        device="raspberry-pi",
        data=write_smooth_noise(tmp_path / "images.npz"),
        formats=["onnx"],
        max_drop=50,
        prune=False,
        out=str(tmp_path / "artifact"),
        estimate=False,
    )
    assert report.artifact.manifest.model.source == "module:Sequential"
    assert [one.format for one in report.artifact.manifest.models] == ["onnx", "onnx"]
    assert len(repr(report)) < 300
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert len(repr(edgeslim.inspect(str(tmp_path / "artifact")))) < 300
    assert edgeslim.verify(str(tmp_path / "artifact")).name == "Sequential-raspberry-pi-4"
    (noted,) = past_builds(tmp_path / "store")
    assert (noted.work.source, noted.work.images) == ("module:Sequential", (64, 64, 128))
    assert noted.seconds > 0


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    """A network in all formats whose last layer, without a bias, is held in fp16."""
    for runtime in RUNTIMES:
        skip_without(runtime)
    body = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4, bias=False))
    settings = {"half_weights": ["^4$"], "promote": False}
    steps = (StepCall(step="fold"), StepCall(step="quantize", settings=settings))
    folder = tmp_path_factory.mktemp("half")
    return edgeslim.build(
        randomized(nn.Sequential(*body)),
        preprocessing=COLOR,
        device="raspberry-pi",
        data=write_smooth_noise(folder / "images.npz"),
        recipe=edgeslim.Recipe(steps=steps, strict=True, max_drop_points=100.0),
        out=folder / "artifact",
        estimate=False,
    )


def test_a_last_layer_without_bias_is_held_in_fp16_in_every_format(half: BuildReport) -> None:
    assert half.artifact.manifest.status == "accepted"
    ledger = edgeslim.inspect(half.artifact.folder).ledger
    held = [row.held_dtype for rows in ledger.values() for row in rows if (row.kind, row.name) == ("layer", "linear")]
    assert held == ["float16"] * 3


def test_a_layer_that_is_not_int8_counts_in_every_format_and_is_named(half: BuildReport) -> None:
    manifest = half.artifact.manifest
    told = [one.integer_layers for one in manifest.models if one.precision == "int8"]
    assert [(one.proven, one.planned, one.layers) for one in told] == [(1, 1, 2)] * 3
    assert {one.others for one in told} == {(OtherLayer(layer="4", precision="fp16", why="--half-weights"),)}
    summary = shown_table(edgeslim.show(half.artifact.folder))
    cells = {(row[0], row[1]): row[summary.columns.index("int8 layers")] for row in summary.rows}
    assert cells == {(name, one): "1 of 2" * (one == "int8") for name in FORMATS for one in ("fp32", "int8")}
    assert "layers that are not int8: 4 in float with fp16 weights (--half-weights)" in summary.notes


@needs("transformers", "huggingface")
def test_a_classifier_of_transformers_becomes_an_artifact(tmp_path: Path) -> None:
    skip_without("onnxruntime")
    transformers = transformers_package()
    torch.manual_seed(1)
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16], depths=[1], layer_type="basic", id2label=dict(enumerate(LABELS))
    )
    network = randomized(transformers.ResNetForImageClassification(config))
    network.save_pretrained(tmp_path / "boots")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "boots")
    report = edgeslim.build(
        tmp_path / "boots",
        device="raspberry-pi",
        data="synthetic",
        formats=["onnx"],
        prune=False,
        out=tmp_path / "artifact",
        estimate=False,
    )
    manifest = report.artifact.manifest
    assert (manifest.model.source, manifest.task.labels) == ("boots", LABELS)
    assert manifest.preprocessing.resize == (32, 32)
    golden = manifest.models[0].outputs[0]
    assert (golden.name, golden.shape) == ("logits", (1, 4))
    assert edgeslim.verify(tmp_path / "artifact").name == "boots-raspberry-pi-4"
