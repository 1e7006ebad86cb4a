"""The library as people type it: words or paths, modules that are there already, results that are short to look at."""

import html
import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

import edgeslim
from edgeslim import BadInput, BadModel, EdgeslimError, Preprocessing, Recipe
from edgeslim.artifact.manifest import read_manifest
from edgeslim.readable import Readable
from edgeslim.resources import in_package
from tests.support.packed_artifact import pack_small
from tests.support.small_models import COLOR, headed, randomized

PREPROCESSING = {
    "width": 16, "height": 16, "channels": 3, "resize": None, "mean": [0.5] * 3, "std": [0.25] * 3,
    "color_order": "RGB", "interpolation": "bilinear",
}  # fmt: skip
FUNCTIONS = [name for name in edgeslim.__all__ if inspect.isfunction(getattr(edgeslim, name))]


def network() -> nn.Module:
    return randomized(headed(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()))


def test_it_knows_its_version_and_its_types_and_imports_no_torch():
    assert edgeslim.__version__ == version("edgeslim")
    assert in_package("py.typed").is_file()
    looked = (
        "import sys, edgeslim; edgeslim.BadInput, edgeslim.Recipe, edgeslim.__version__; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_path_may_be_words(name: str):
    hints = get_type_hints(getattr(edgeslim, name))
    paths = {argument for argument, hint in hints.items() if Path in (hint, *get_args(hint)) and argument != "return"}
    assert all(str in get_args(hints[one]) for one in paths), f"{name}: {paths}"


@pytest.mark.parametrize("name", ["bench", "emulate", "inspect", "profile", "show", "verify"])
def test_words_that_name_no_artifact_are_told_as_such(name: str, tmp_path: Path):
    for given in (str(tmp_path / "nothing"), tmp_path / "nothing"):
        with pytest.raises(BadInput, match="nothing"):
            getattr(edgeslim, name)(given)


def test_every_result_is_shown_as_the_command_line_shows_it():
    others = {"probe", *(name for name in FUNCTIONS if name.startswith("load_"))}
    for name in set(FUNCTIONS) - others:
        result = get_type_hints(getattr(edgeslim, name))["return"]
        assert issubclass(result, Readable), name
        module, _, function = result._view.partition(":")
        makes = getattr(import_module(f"edgeslim.report.{module}"), function)
        (first, *rest) = inspect.signature(makes).parameters.values()
        assert first.annotation is result, f"{name}: {result._view} shows another thing"
        assert all(one.default is not one.empty for one in rest), name


def test_an_artifact_is_verified_by_words_and_what_comes_back_is_short(tmp_path: Path):
    artifact = pack_small(tmp_path)
    verified = edgeslim.verify(str(artifact))
    for one in (read_manifest(artifact), verified, edgeslim.load_profile("raspberry-pi")):
        assert len(repr(one)) < 300
    assert verified.files > 3
    assert "files hashed" in str(verified)
    assert html.escape(str(verified), quote=False) in verified._repr_html_()
    assert repr(edgeslim.load_profile("raspberry-pi")) == (
        "DeviceProfile(name='raspberry-pi-4', title='Raspberry Pi 4 Model B')"
    )


def test_a_module_is_a_model_with_what_is_said_of_it_and_is_left_alone():
    given = network().train()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    model = edgeslim.load_model(given, preprocessing=PREPROCESSING, labels=["a", "b", "c", "d"])
    assert (model.source, model.labels) == ("module:Sequential", ("a", "b", "c", "d"))
    assert model.preprocessing == Preprocessing.from_dict(PREPROCESSING)
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(model.network(image), network()(image))
    with torch.no_grad():
        next(model.network.parameters()).zero_()
    assert given.training
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert edgeslim.load_model(given, preprocessing=COLOR).preprocessing is COLOR


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({}, "the Sequential given as a module does not say how images become inputs\nhelp: define, for example: "),
        ({"preprocessing": {"width": 16}}, r"given as a module \[preprocessing\]: .*missing(.|\n)*example"),
        ({"preprocessing": COLOR, "weights": "random"}, "the Sequential brings its weights; load others into it"),
        ({"preprocessing": COLOR, "labels": 5}, "labels: expected a list of names"),
        ({"preprocessing": COLOR, "labels": "abcd"}, "labels: expected a list of names, one for each class"),
        ({"preprocessing": COLOR, "task": "poetry"}, "poetry"),
    ],
)
def test_what_a_module_lacks_or_has_too_much_of_is_told(wishes, message):
    with pytest.raises(BadModel, match=message):
        edgeslim.load_model(network(), **wishes)


def test_what_is_said_of_a_module_is_refused_of_a_file_that_says_it_itself():
    with pytest.raises(BadModel, match="`preprocessing`, `labels` and `task` are for a module"):
        edgeslim.load_model("torchvision:resnet18", "random", labels=["a"])


def test_a_module_is_checked_as_a_file_is():
    found = edgeslim.check(network(), device="raspberry-pi", preprocessing=PREPROCESSING, formats=["onnx"])
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("prune", "steps"),
    [(None, ["prune", "fold", "quantize"]), (True, ["prune", "fold", "quantize"]), (False, ["fold", "quantize"])],
)
def test_pruning_is_wished_for_in_a_word(prune, steps):
    from edgeslim.backends import backend_of
    from edgeslim.recipe import with_pruning

    profile = edgeslim.load_profile("raspberry-pi")
    recipe: Recipe = with_pruning(backend_of(profile).default_recipe(profile), prune)
    assert [one.step for one in recipe.steps] == steps


def test_images_are_read_for_a_model_and_errors_have_one_base():
    model = edgeslim.load_model(network(), preprocessing=PREPROCESSING)
    data = edgeslim.load_data(model, "synthetic")
    assert len(data.calibration) > 0
    with pytest.raises(EdgeslimError, match="no/such/folder"):
        edgeslim.load_data(model, Path("no/such/folder"))


def test_a_module_that_torch_fx_traced_and_labels_of_numpy_are_taken_as_others_are():
    traced = torch.fx.symbolic_trace(network())
    model = edgeslim.load_model(traced, preprocessing=PREPROCESSING, labels=np.array(["a", "b", "c", "d"]))
    assert model.labels == ("a", "b", "c", "d")
    assert model.outputs[0].shape == (1, 4)


def test_a_share_without_its_unit_is_refused():
    with pytest.raises(BadInput, match=r"pruning by `0\.5`: expected auto, or UNIT=SHARE"):
        edgeslim.build(network(), preprocessing=PREPROCESSING, device="raspberry-pi", prune=0.5)
