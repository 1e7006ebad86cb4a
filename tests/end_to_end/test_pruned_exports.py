"""A pruned network computes the same in PyTorch, through torch.export, and in every file in its runtime."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeslim.compress import fold
from edgeslim.compress.prune.blocks import blocks_of, drop
from edgeslim.compress.prune.channels import channels_of, cut, legal_widths
from edgeslim.deploy.run_model import run_model
from edgeslim.devices.profile import load_profile
from edgeslim.export.export_all import export_job
from edgeslim.formats import FORMATS
from edgeslim.grid import sqnr_db
from edgeslim.model.context import Context
from edgeslim.model.graph import macs_of, program_of, trace
from edgeslim.model.load import load_model
from edgeslim.progress import silent
from tests.support import TESTS

FAMILIES = TESTS / "support" / "families.py"


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="torchvision is not installed; pip install 'edgeslim[torchvision]'",
)
@pytest.mark.parametrize(("family", "blocks"), [("resnet18", 1), ("mobilenet_v2", 1), ("shufflenet_v2", 0)])
def test_a_network_of_half_the_channels_is_the_same_in_every_file(family: str, blocks: int, tmp_path: Path) -> None:
    model = load_model(f"{FAMILIES}:{family}", "random")
    channels = channels_of(model.graph)
    chance = np.random.default_rng(0)
    removed = {}
    for name, group in channels.groups.items():
        width = min(legal_widths(channels, name, 8), key=lambda one, half=group.width / 2: abs(one - half))
        removed[name] = chance.permutation(group.width)[width:].tolist()
    pruned = cut(model.graph, channels, removed)
    drop(pruned, list(blocks_of(pruned).values())[-blocks:] if blocks else [])
    network = trace(pruned, model.input_shape)
    assert macs_of(network) < 0.5 * macs_of(model.graph)
    data = model.task.read("synthetic", model.facts)
    context = Context(load_profile("raspberry-pi"), data, 0, tmp_path, silent)
    folded = fold.apply(model.after("pruned", network=network), fold.Settings(), context)
    images = next(iter(data.calibration.tensors()))[:4]
    with torch.no_grad():
        wanted = torch.cat([network(image) for image in images.split(1)]).numpy()
    assert sqnr_db(wanted, torch.cat([pruned(image) for image in images.split(1)]).detach().numpy()) > 100
    np.save(tmp_path / "probe.npy", images.numpy())
    torch.export.save(program_of(folded.graph, images[:1]), tmp_path / "fp32.pt2")
    for name in ("onnx", "openvino", "tflite"):
        job, _ = export_job(name, "fp32", tmp_path, ["logits"])
        runtime = FORMATS[name].runtime
        inputs = images.numpy().transpose(0, 2, 3, 1) if runtime == "litert" else images.numpy()
        (outputs,) = run_model(runtime, job.target, np.ascontiguousarray(inputs), precision="fp32")
        noise = sqnr_db(wanted, outputs.reshape(wanted.shape))
        assert noise >= 60, f"{family} in {runtime}: {noise} dB"
