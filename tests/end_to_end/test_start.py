"""A build hands back its pruned network for one's own training, and another goes on from it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import edgeslim
from edgeslim.errors import BadInput, BadModel
from edgeslim.model.graph import copy_of, macs_of
from edgeslim.pipeline.result import BuildReport
from tests.support.builds import NET
from tests.support.installed import skip_without


@pytest.fixture(scope="module")
def pruned(images: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    """The report of a build that pruned half of the multiplications of a small network."""
    skip_without("onnxruntime")
    out = tmp_path_factory.mktemp("pruned") / "artifact"
    return edgeslim.build(
        NET, device="raspberry-pi", weights="random", data=images, formats=["onnx"], prune="macs=0.5", max_drop=100,
        estimate=False, out=out,
    )  # fmt: skip


def test_a_report_hands_back_the_pruned_network_for_training(pruned):
    network = pruned.model
    assert network is pruned.model
    facts = pruned.artifact.manifest.model
    assert macs_of(pruned.pruned.graph) == facts.macs < facts.original_macs
    assert sum(one.numel() for one in network.parameters()) == pruned.pruned.parameters < facts.original_parameters
    pictures = torch.rand(5, *pruned.pruned.input_shape[1:])
    with torch.no_grad():
        each = torch.cat([pruned.pruned.network(one[None]) for one in pictures])
        assert torch.allclose(network(pictures), each, atol=1e-5)
    network(pictures).square().sum().backward()
    assert all(one.grad is not None for one in network.parameters())


def test_a_report_whose_artifact_is_gone_is_printed_all_the_same(pruned, tmp_path):
    assert "raspberry-pi-4 1.0.0: accepted" in str(pruned)
    assert "raspberry-pi-4 1.0.0: accepted" in pruned._repr_html_()
    gone = replace(pruned, artifact=replace(pruned.artifact, folder=tmp_path / "gone"))
    assert str(gone) == repr(gone)
    assert gone._repr_html_() is None


def test_a_build_goes_on_from_what_was_trained_in_between(pruned, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {name: value.clone() for name, value in pruned.model.state_dict().items()}
    start = copy_of(pruned.pruned.graph)
    with torch.no_grad():
        for parameter in pruned.model.parameters():
            parameter.mul_(1.01)
    try:
        wishes = {"device": "raspberry-pi", "data": images, "formats": ["onnx"], "prune": False, "max_drop": 100}
        tuned = edgeslim.build(start=pruned, **wishes, estimate=False)
    finally:
        pruned.model.load_state_dict(before)
    assert tuned.artifact.folder == Path("artifacts/mixed-net-raspberry-pi-4")
    manifest = tuned.artifact.manifest
    assert manifest.model.source == "mixed_net.py:make"
    assert "trained behind pruning" in (tuned.artifact.folder / "MODEL_CARD.md").read_text()
    assert manifest.model.original_parameters == pruned.pruned.parameters
    assert manifest.model.original_macs == manifest.model.macs == pruned.artifact.manifest.model.macs
    image = torch.rand(pruned.pruned.input_shape)
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.mul_(1.01)
        assert torch.allclose(tuned.model(image), start(image), atol=1e-5)


def test_a_start_brings_all_that_is_said_of_a_model_and_its_weights_are_looked_at(pruned, tmp_path, monkeypatch):
    wishes = {"start": pruned, "device": "raspberry-pi"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="`start` brings its network: leave out `source`, `labels`"):
        edgeslim.build(NET, labels=["a"], **wishes)
    before = {name: value.clone() for name, value in pruned.model.state_dict().items()}
    try:
        with torch.no_grad():
            next(pruned.model.parameters()).fill_(float("nan"))
        with pytest.raises(BadModel, match="holds NaN or infinite values"):
            edgeslim.build(**wishes)
    finally:
        pruned.model.load_state_dict(before)
