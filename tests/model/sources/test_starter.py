"""`edgeslim init`: a model.py that edgeslim takes, for a module that says nothing of its images and for weights."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeslim.model.load import load_model
from edgeslim.model.sources.torchvision import torchvision_models
from tests.support.in_process import run
from tests.support.installed import skip_without_torchvision

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, side={side}, channels={channels}):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * side * side, 5))

    def forward(self, x):
        return self.layers(x)

lazy = nn.Sequential(nn.LazyConv2d(2, 3))
free = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def with_size(side):
    return Net(side)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("net", "my-net"):  # as it is in a process of its own
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "net.py").write_text(NET.format(side=28, channels=1))
    return tmp_path


def files_of(folder: Path) -> dict[str, bytes | None]:
    """Return what the Python files of a folder hold; None for a link that leads nowhere."""
    return {file.name: file.read_bytes() if file.exists() else None for file in folder.glob("*.py")}


def init(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    return run(monkeypatch, capsys, "init", *words, "--device", "raspberry-pi")


def test_a_module_gets_the_channels_and_the_size_that_it_takes(monkeypatch, capsys, folder):
    code, out, err = init(monkeypatch, capsys, "net.py:Net")
    assert code == 0, err
    model = load_model("model.py:Net")
    assert model.input_shape == (1, 1, 28, 28)
    assert out.startswith("wrote model.py: `Net` of net.py, which answers 5 classes\nmodel.py:Net can be built")
    assert out.endswith("next: edgeslim build model.py:Net --device raspberry-pi --data IMAGES\n")
    assert "warning: guessed: images of 28x28 with 1 channel, which it takes; look at PREPROCESSING in model.py" in err


def test_of_a_module_that_takes_any_size_the_guess_is_told(monkeypatch, capsys, folder):
    code, out, err = init(monkeypatch, capsys, "net.py:free", "--json", "--out", "mine.py")
    assert code == 0, err
    told = json.loads(out)
    assert told["file"] == "mine.py"
    assert told["model"] == "mine.py:free"
    assert told["guessed"] == [
        "images of 224x224 with 3 channels, but it takes 32x32 too",
        "mean and std: those of ImageNet",
    ]
    assert told["check"]["possible"] is True
    assert load_model("mine.py:free").input_shape == (1, 3, 224, 224)


@pytest.mark.parametrize("name", ["my-net", "class"])
def test_a_file_whose_name_is_none_of_pythons_is_imported_all_the_same(monkeypatch, capsys, folder, name):
    (folder / "net.py").rename(folder / f"{name}.py")
    assert init(monkeypatch, capsys, f"{name}.py:Net")[0] == 0
    assert load_model("model.py:Net").input_shape == (1, 1, 28, 28)


def test_what_the_file_says_of_its_network_is_taken_along(monkeypatch, capsys, folder):
    with (folder / "net.py").open("a") as file:
        file.write('LABELS = ["a", "b", "c", "d", "e"]\nOUTPUTS = ["scores"]\nTASK = "classification"\n')
    assert init(monkeypatch, capsys, "net.py:Net")[0] == 0
    model = load_model("model.py:Net")
    assert (model.labels, model.output_names) == (("a", "b", "c", "d", "e"), ("scores",))
    text = (folder / "model.py").read_text()
    assert "from net import Net, LABELS, OUTPUTS, TASK" in text
    assert "# LABELS" not in text


def test_weights_that_are_given_are_held_against_the_module_and_go_into_the_next_command(monkeypatch, capsys, folder):
    place = folder / "a folder"
    place.mkdir()
    (folder / "net.py").rename(place / "net.py")
    layers = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 28 * 28, 5))
    torch.save(nn.ModuleDict({"layers": layers}).state_dict(), place / "w.pt")
    code, out, err = init(monkeypatch, capsys, "a folder/net.py:Net", "--weights", "a folder/w.pt")
    assert code == 0, err
    call = "edgeslim build 'a folder/model.py:Net' --device raspberry-pi --weights 'a folder/w.pt'"
    assert out.endswith(f"next: {call} --data IMAGES\n")
    (place / "model.py").unlink()
    sets = []
    for name in ("calibration", "selection", "evaluation"):
        pictures = np.random.default_rng(len(sets)).integers(0, 255, (600, 28, 28, 1), dtype=np.uint8)
        with torch.no_grad():
            answers = layers((torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        np.savez(f"{name}.npz", images=pictures, labels=answers.argmax(1).numpy())
        sets += [f"--{name}", f"{name}.npz"]
    sets.append("--skip-bad")
    code, out, err = init(monkeypatch, capsys, "a folder/net.py:Net", "--weights", "a folder/w.pt", *sets)
    assert code == 0, err
    assert out.endswith(f"next: {call} {' '.join(sets)}\n")


def test_an_unknown_device_leaves_no_file(monkeypatch, capsys, folder):
    code, out, err = run(monkeypatch, capsys, "init", "net.py:Net", "--device", "nonsense")
    assert (code, out) == (2, "")
    assert "unknown device `nonsense`" in err
    assert not (folder / "model.py").exists()


def test_an_interrupt_leaves_no_file(monkeypatch, capsys, folder):
    with (folder / "net.py").open("a") as file:
        file.write("import os\nif os.path.exists('model.py'):\n    raise KeyboardInterrupt\n")
    assert init(monkeypatch, capsys, "net.py:Net")[0] == 130
    assert not (folder / "model.py").exists()


MADE_AS = {
    "googlenet": {"init_weights": False, "transform_input": True},  # as its published weights
    "inception_v3": {"init_weights": False, "transform_input": True, "aux_logits": False},
}


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "regnet_y_400mf", "googlenet", "inception_v3"])
def test_weights_are_known_by_their_names_and_shapes(monkeypatch, capsys, folder, name):
    skip_without_torchvision()
    asked = MADE_AS.get(name, {})
    network = torchvision_models().get_model(name, weights=None, num_classes=7, **asked).eval()
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, f"{name}.pt")
    code, out, err = init(monkeypatch, capsys, f"{name}.pt")
    assert code == 0, err
    assert f"wrote model.py: torchvision's {name} for 7 classes, which {name}.pt[state_dict] fits" in out
    assert f"next: edgeslim build model.py:make --device raspberry-pi --weights {name}.pt --data IMAGES" in out
    model = load_model("model.py:make", f"{name}.pt")
    images = torch.rand(model.input_shape)
    with torch.no_grad():
        assert torch.equal(model.network(images), network(images))


def test_a_vision_transformer_takes_images_of_the_size_that_its_weights_have_places_for(monkeypatch, capsys, folder):
    skip_without_torchvision()
    network = torchvision_models().get_model("vit_b_32", weights=None, image_size=96, num_classes=2)
    torch.save(network.state_dict(), "mine.pt")
    network.eval()
    _, out, err = init(monkeypatch, capsys, "mine.pt")
    assert out.startswith("wrote model.py: torchvision's vit_b_32 for 2 classes, which mine.pt fits"), err
    assert "guessed: but of 96x96, for which the weights have places, and not cut out of larger ones" in err
    model = load_model("model.py:make", "mine.pt")
    assert model.input_shape == (1, 3, 96, 96)
    images = torch.rand(model.input_shape)
    with torch.no_grad():
        assert torch.equal(model.network(images), network(images))


def test_weights_of_a_changed_head_are_told_with_what_is_changed(monkeypatch, capsys, folder):
    skip_without_torchvision()
    network = torchvision_models().get_model("resnet18", weights=None)
    network.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 7))
    torch.save(network.state_dict(), "mine.pt")
    code, _, err = init(monkeypatch, capsys, "mine.pt")
    assert code == 2
    assert "mine.pt holds 122 weights, which are no torchvision classifier's; 120 are resnet18's by name and " in err
    assert "but `fc.1.weight` (7, 512) is not" in err
    assert (
        "help: name the module that they belong to: edgeslim init FILE.py:NAME --weights mine.pt --device NAME" in err
    )
    assert not (folder / "model.py").exists()


def test_weights_of_another_network_are_told_without_a_guess(monkeypatch, capsys, folder):
    skip_without_torchvision()
    torch.save({}, "empty.pt")
    code, _, err = init(monkeypatch, capsys, "empty.pt")
    assert code == 2
    assert "empty.pt holds 0 weights, which are no torchvision classifier's help: name the module" in err


def test_weights_that_a_project_has_for_its_builds_do_not_stand_in_the_way(monkeypatch, capsys, folder):
    skip_without_torchvision()
    (folder / "edgeslim.toml").write_text('weights = "others.pt"\n')
    torch.save(torchvision_models().get_model("resnet18", weights=None).state_dict(), "resnet18.pt")
    code, out, err = init(monkeypatch, capsys, "resnet18.pt")
    assert code == 0, err
    assert "--weights resnet18.pt --data IMAGES" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("torchvision:resnet18",), "says itself how images become inputs; it needs no file"),
        (("said.py:Net",), "said.py says itself how images become inputs; nothing is missing"),
        (("net.py",), "type net.py:Net or net.py:with_size"),
        (("net.py:Nett",), "did you mean `Net`?"),
        (("net.py:with_size",), "net.py:with_size needs `side`"),
        (("odd.py:Net",), "odd.py:Net takes images of none of the usual sizes (28, 32, 48"),
        (("net.py:Net", "--out", "other/model.py"), "other/model.py must lie beside net.py, from which it imports"),
        (("weights.pt",), "weights weights.pt do not exist or are no file"),
        (("weights.pt", "--weights", "others.pt"), "weights.pt and --weights both name weights"),
        (("net.py:Net", "--out", "model.txt"), "--out model.txt: a Python file is written; name it so (.py)"),
        (("net.py:Net", "--out", "kept.py"), "kept.py is there already, and is left as it is"),
        (("net.py:Net", "--out", "dangling.py"), "dangling.py is there already, and is left as it is"),
        (("net.py:lazy",), "net.py:lazy is lazy: its `0.weight` has no shape, for no image has run through it"),
        (("my.net.py:Net",), "my.net.py cannot be imported, for a dot is in its name help: rename it"),
        (("json.py:Net",), "json.py cannot be imported, for there is another module `json` help: rename it"),
        (("net.py:Net", "--weights", "gone.pt"), "weights gone.pt do not exist or are no file"),
        (("net.py:Net", "--data", "gone"), "gone is neither a folder of images nor an .npz file"),
        (("weights.ckpt",), "`weights.ckpt` holds weights, not a network, and is not read: save their state dict as"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(monkeypatch, capsys, folder, words, message):
    (folder / "said.py").write_text(NET.format(side=28, channels=1) + "PREPROCESSING = {}\n")
    (folder / "odd.py").write_text(NET.format(side=29, channels=3))
    (folder / "kept.py").write_text("# mine\n")
    (folder / "dangling.py").symlink_to("nowhere.py")
    for name in ("my.net.py", "json.py"):
        shutil.copy("net.py", name)
    before = files_of(folder)
    code, out, err = init(monkeypatch, capsys, *words)
    assert code == 2
    assert message in err.replace("\n", " ")
    assert out == ""
    assert files_of(folder) == before


def test_a_device_that_cannot_have_it_is_told_with_the_file_in_place(monkeypatch, capsys, folder):
    (folder / "net.py").write_text(
        NET.format(side=28, channels=1).replace("self.layers(x)", "self.layers(x).cumsum(1)")
    )
    code, out, err = init(monkeypatch, capsys, "net.py:Net")
    assert code == 3
    assert out.startswith("wrote model.py: ")
    assert "next:" not in out
    assert "model.py:Net cannot be built for raspberry-pi" in err
    assert (folder / "model.py").exists()
    code, out, _ = init(monkeypatch, capsys, "net.py:Net", "--json", "--out", "other.py")
    assert code == 3
    assert json.loads(out)["check"]["possible"] is False
