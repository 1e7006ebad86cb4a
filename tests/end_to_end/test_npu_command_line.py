"""What a person meets who asks about an NPU: every layer by name with its cure, the recipe, and refusals."""

import json

import pytest
import yaml

from tests.support import TESTS
from tests.support.in_process import PI, run

NPU = ("--device", "nxp-imx93")
NETS = TESTS / "support" / "npu_net.py"
STRIDE = "layer `conv2d` (stem): has stride 4 and pads; the NPU then takes 3; --rewrite strides=yes cures it"
MEAN = (
    "layer `mean`: is a mean over places that drops their axes: not laid out with channels last; "
    "--rewrite global_mean=yes cures it"
)
ELU = "layer `elu`: `elu` is no operator that the NPU of nxp-imx93 runs; no rewrite cures it"


def test_check_names_every_layer_with_the_rewrite_that_cures_it(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "check", f"{NETS}:curable", *NPU, "--json", "--weights", "random")
    assert code == 0, "what a build rewrites is no reason against it"
    found = json.loads(out)
    assert (found["possible"], found["reasons"], found["rewrites"]) == (True, [], [STRIDE, MEAN])


def test_check_refuses_what_no_rewrite_cures(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "check", f"{NETS}:hopeless", *NPU, "--weights", "random")
    assert code == 3
    assert ELU in err
    assert STRIDE in out
    assert MEAN in out


def test_a_build_without_rewrites_is_refused_before_any_work(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = ("build", f"{NETS}:curable", *NPU, "--weights", "random", "--rewrite", "none")
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 3
    assert STRIDE in err
    assert MEAN in err


def test_the_rewrites_stand_in_the_recipe(monkeypatch, capsys):
    words = ("--rewrite", "auto", "--rewrite", "relu6=yes")
    code, out, _ = run(monkeypatch, capsys, "build", *NPU, "--dry-run", *words)
    assert code == 0
    steps = yaml.safe_load(out)["steps"]
    assert {"step": "legalize", "settings": {"rewrite": ["auto", "relu6=yes"]}} in steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*NPU, "--rewrite", "relu=yes"), "NAME one of average_as_convolution"),
        ((*NPU, "--rewrite", "none", "--rewrite", "auto"), "auto and none contradict each other"),
        ((*PI, "--rewrite", "auto"), "the recipe has no step `legalize` to set rewrite on"),
    ],
)
def test_a_rewrite_that_makes_no_sense_is_bad_input(monkeypatch, capsys, arguments, message):
    code, _, err = run(monkeypatch, capsys, "build", *arguments, "--dry-run")
    assert code == 2
    assert message in err
