"""A module that a program has made is built as a model from a file is."""

from pathlib import Path

import torch
from torch import nn

import edgeslim
from edgeslim.formats import RUNTIMES
from edgeslim.recipe import StepCall
from tests.support.builds import write_smooth_noise
from tests.support.installed import skip_without
from tests.support.small_models import COLOR, LABELS, headed, randomized


def test_a_module_becomes_an_artifact_and_stays_as_it_was(tmp_path: Path) -> None:
    skip_without("onnxruntime")
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


def test_a_last_layer_without_bias_is_held_in_fp16_in_every_format(tmp_path: Path) -> None:
    for runtime in RUNTIMES:
        skip_without(runtime)
    body = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4, bias=False))
    steps = (StepCall(step="fold"), StepCall(step="quantize", settings={"half_weights": ["."]}))
    report = edgeslim.build(
        randomized(nn.Sequential(*body)),
        preprocessing=COLOR,
        device="raspberry-pi",
        data=write_smooth_noise(tmp_path / "images.npz"),
        recipe=edgeslim.Recipe(steps=steps, strict=True),
        out=tmp_path / "artifact",
        estimate=False,
    )
    assert report.artifact.manifest.status == "accepted"
    ledger = edgeslim.inspect(tmp_path / "artifact").ledger
    assert {row.held_dtype for rows in ledger.values() for row in rows if row.kind == "layer"} == {"float16"}
