"""A final softmax, log-softmax or sigmoid is cut where that is asked for, in every file, and said."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import edgeslim
from edgeslim.errors import BadInput
from edgeslim.model.load import load_model
from edgeslim.pipeline.cut import without_probabilities
from tests.support.builds import recipe_for
from tests.support.small_models import Passing, headed, model_of

MODEL = """
from torch import nn
PREPROCESSING = {"width": 16, "height": 16, "channels": 3, "resize": 16, "mean": [0.5] * 3, "std": [0.25] * 3,
                 "color_order": "RGB", "interpolation": "bilinear"}

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
                         nn.Softmax(1))
"""


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()])
def test_what_ends_an_output_is_cut_and_told(end: nn.Module) -> None:
    body = headed(nn.Conv2d(3, 6, 3)).eval()
    cut = without_probabilities(model_of(nn.Sequential(body, end).eval()))
    image = torch.randn(cut.input_shape)
    assert torch.allclose(cut.network(image), body(image), atol=1e-6)
    (line,) = cut.history
    assert line.startswith("cut: ")
    assert line.endswith(f" at the end of `{cut.outputs[0].name}`")


def test_a_sigmoid_inside_stays_and_that_nothing_ends_so_is_said() -> None:
    gated = model_of(Passing(lambda self, x: self.head(x.sigmoid()), head=headed(nn.Conv2d(3, 6, 3))).eval())
    with pytest.raises(BadInput, match=r"--logits: no output of .* ends in a softmax, log-softmax or sigmoid"):
        without_probabilities(gated)


def test_every_file_of_a_build_answers_what_the_softmax_was_given(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    source = f"{tmp_path / 'net.py'}:make"
    recipe = recipe_for("raspberry-pi", prune=False, formats=("onnx",)).model_copy(update={"cut_probabilities": True})
    place = tmp_path / "artifact"
    report = edgeslim.build(
        source, device="raspberry-pi", weights="random", data="synthetic", recipe=recipe, out=place, estimate=False
    )
    assert [line for line in report.warnings if line.startswith("cut: softmax at the end of")], report.warnings
    body = load_model(source, "random").network[:-1]
    image = torch.rand(1, 3, 16, 16)
    files = sorted(place.rglob("*.onnx"))
    assert len(files) == 2
    for name in files:
        session = onnxruntime.InferenceSession(str(name), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"input": image.numpy()})
        with torch.no_grad():
            assert np.abs(found - body(image).numpy()).max() < 0.05, name
