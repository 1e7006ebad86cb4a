"""Models in: what loads, and every way in which a model can be wrong with the words that say so."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from edgeslim.errors import BadModel
from edgeslim.model.load import load_model
from edgeslim.model.sources.torchvision import torchvision_models
from edgeslim.tasks.task import Output
from tests.support import TESTS
from tests.support.packages import needs
from tests.support.small_models import CLASSES, LABELS, SIDE, plain, randomized

HERE = TESTS / "support" / "small_models.py"
PREPROCESSING = (
    '{"width": 8, "height": 8, "channels": 1, "resize": 8, "mean": [0.5], "std": [0.5], "color_order": "GRAY", '
    '"interpolation": "bilinear"}'
)
needs_torchvision = needs("torchvision", "torchvision")


def source(factory: str) -> str:
    return f"{HERE}:{factory}"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


def refused(*arguments: object, match: str) -> None:
    with pytest.raises(BadModel, match=match):
        load_model(*(None if a is None else str(a) for a in arguments))


def test_a_factory_in_a_file_gives_a_model_with_its_preprocessing_and_labels():
    model = load_model(source("plain"))
    assert model.source == "small_models.py:plain", "the folder is nobody's business"
    assert model.weights_source == "factory"
    assert model.input_shape == (1, 3, SIDE, SIDE)
    assert (model.outputs[0].shape, model.labels) == ((1, CLASSES), LABELS)
    assert model.parameters == 3 * 6 * 9 + 6 + 6 + 6 * 4 + 4
    assert not model.network.training, "the network is in training mode"


def test_nothing_gives_the_bundled_model_with_its_trained_weights():
    model = load_model()
    assert (model.source, model.weights_source, model.outputs) == ("default", "bundled", (Output("logits", (1, 10)),))
    assert model.weights_sha256() != load_model(None, "random").weights_sha256()


@pytest.mark.parametrize("words", [None, source("plain")], ids=["bundled", "file"])
def test_random_weights_are_the_same_for_the_same_seed_and_others_for_another(words):
    first = load_model(words, "random", 1).weights_sha256()
    torch.manual_seed(99)
    assert load_model(words, "random", 1).weights_sha256() == first, "the same seed gave other weights"
    assert load_model(words, "random", 2).weights_sha256() != first, "another seed gave the same weights"
    assert load_model(words, "random", 1).weights_source == "random"


def test_a_random_network_keeps_its_signal():
    network = load_model(source("plain"), "random").network
    assert float(network[1].running_mean.abs().max()) > 1e-3, "the batch norm knows nothing of its inputs"
    assert network[1].momentum == 0.1, "the momentum was not given back"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("gone.py:make", "gone.py does not exist or is no file"),
        (f"{HERE}", r"names a file without what makes the model in it; type \S+small_models\.py:\w+ or \S+"),
        ("gone.py", "gone.py does not exist; expected FILE.py:NAME, torchvision:NAME, timm:NAME, "),
        ("resnet50", r"`resnet50` is no model; expected .*; did you mean `torchvision:resnet50`"),
        ("banana", r"`banana` is no model; expected FILE\.py:NAME, .* an image classifier's folder, or nothing$"),
        ("weights.pt", r"`weights\.pt` holds weights, not a network; .*: model\.py:make --weights weights\.pt"),
        ("sample.pt", r"`sample\.pt` holds weights, not a network"),
        ("runs/yolov8n.pt", "is a checkpoint of Ultralytics' package, whose objects edgeslim does not load"),
        (str(HERE.parent), r"is a folder without config\.json; expected .*; images are given with --data"),
        (source("plian"), r"small_models\.py defines no `plian`; did you mean `plain`"),
        (source("raises"), r"small_models\.py:raises raised RuntimeError: no weights today"),
        (source("no_module"), r"no_module returned a str, expected a torch\.nn\.Module"),
        (source("SIDE"), r"small_models\.py:SIDE is of type int; expected a function, a class or a torch\.nn\.Module"),
        (source("features"), r"features returns a tensor of shape \(1, 6, 6, 6\); a classifier returns \(N, classes\)"),
        (source("whole_numbers"), r"whole_numbers returns a tensor of torch\.int64; .* tensors of floats"),
        (source("twice_the_same"), r"twice_the_same returns its input, or one tensor twice"),
        (source("odd_names"), r"odd_names calls an output `a b`; expected a name of letters, digits and `_`"),
        (source("one_logit"), r"one_logit has one class; .* at least two"),
        (source("five_classes"), "five_classes has 4 labels and 5 classes"),
        (source("fails_when_it_runs"), r"torch\.export cannot trace the model .* no such size"),
        (source("depends_on_data"), r"torch\.export cannot trace the model for an input of \(1, 3, 8, 8\)"),
        (source("broken"), r"weight `0\.weight` of small_models\.py:broken holds NaN or infinite values"),
        (
            "model.onnx",
            r"model\.onnx is a file in the ONNX format; edgeslim takes PyTorch modules: FILE\.py:NAME, ",
        ),
        ("model.pt2:make", r"is a file in the torch\.export format"),
        ("model.tflite", "is a file in the TFLite format"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_in_a_sentence(words, message):
    refused(words, match=message)


@pytest.mark.parametrize(
    ("factory", "outputs"),
    [
        ("plain", [("logits", (1, CLASSES))]),
        ("classes_and_boxes", [("logits", (1, CLASSES)), ("output_1", (1, SIDE))]),
        ("logits_in_a_dictionary", [("what", (1, CLASSES)), ("where", (1, SIDE))]),
    ],
)
def test_every_output_has_a_name_and_a_shape_however_they_are_packed(factory, outputs):
    assert load_model(source(factory)).outputs == tuple(Output(*one) for one in outputs)


def test_a_file_names_its_outputs(tmp_path):
    text = "from tests.support.small_models import *\nOUTPUTS = ['kind', 'place']\nLABELS = None\n"
    found = load_model(f"{written(tmp_path, text)}:classes_and_boxes")
    assert [one.name for one in found.outputs] == ["kind", "place"]
    refused(f"{written(tmp_path, text)}:plain", match="names 2 outputs, kind, place, and returns 1")


def test_a_task_that_there_is_not_is_refused_with_near_misses(tmp_path):
    text = "from tests.support.small_models import *\nTASK = 'clasification'\n"
    refused(
        f"{written(tmp_path, text)}:plain", match=r"\[TASK\]: no task `clasification`; did you mean `classification`"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(:\n", r"mine\.py raised SyntaxError while it was loaded"),
        ("import no_such_package\n", r"mine\.py raised ModuleNotFoundError while it was loaded: .*no_such_package"),
        ("raise SystemExit(3)\n", r"mine\.py raised SystemExit while it was loaded: 3"),
        ("from torch import nn\ndef make(): return nn.Flatten()\n", 'define, for example: PREPROCESSING = {"width"'),
        (
            "from torch import nn\nPREPROCESSING = {'width': 8}\ndef make(): return nn.Flatten()\n",
            r"mine\.py \[PREPROCESSING\]: preprocessing: `height` is missing\nhelp: define, for example: PREP",
        ),
        (
            "from torch import nn\nPREPROCESSING = None\ndef make(): return nn.Flatten()\n",
            r"mine\.py \[PREPROCESSING\]: ",
        ),
    ],
    ids=["syntax", "import", "exit", "no preprocessing", "half a preprocessing", "none"],
)  # fmt: skip
def test_a_file_that_is_no_model_source_is_refused_with_what_it_lacks(text, message, tmp_path):
    refused(f"{written(tmp_path, text)}:make", match=message)


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "my_layers.py").write_text(
        "from torch import nn\nbody = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
    )
    path = written(tmp_path, f"from my_layers import body\nPREPROCESSING = {PREPROCESSING}\ndef make(): return body\n")
    assert load_model(f"{path}:make").outputs[0].shape == (1, 3)
    assert str(tmp_path) not in sys.path, "the import path was left changed"


@needs_torchvision
def test_a_file_may_build_on_torchvision_whatever_torch_was_built_for(tmp_path):
    text = f"from torch import nn\nfrom torchvision.ops import Conv2dNormActivation\nPREPROCESSING = {PREPROCESSING}\n"
    text += "def make(): return nn.Sequential(Conv2dNormActivation(1, 3, 3), nn.Flatten())\n"
    model = f"{written(tmp_path, text)}:make"
    script = f"from edgeslim.model.load import load_model; print(load_model({model!r}).outputs[0].shape[1])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "192"


def test_a_network_that_does_not_take_the_images_its_preprocessing_makes_is_refused(tmp_path):
    text = f"from torch import nn\nPREPROCESSING = {PREPROCESSING}\ndef make(): return nn.Conv2d(3, 4, 8)\n"
    refused(f"{written(tmp_path, text)}:make", match=r"input of \(1, 1, 8, 8\).*to have 3 channels")


def saved(folder: Path, name: str = "weights.safetensors", **changes: torch.Tensor | None) -> Path:
    """Save the weights of `plain`, with some changed or (None) left out, as `name` says."""
    torch.manual_seed(5)
    state = {name: value for name, value in (plain().state_dict() | changes).items() if value is not None}
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights.pth"])
def test_weights_are_read_from_safetensors_and_from_state_dicts(name, tmp_path):
    model = load_model(source("plain"), str(saved(tmp_path, name)))
    torch.manual_seed(5)
    assert torch.equal(model.network[0].weight, plain()[0].weight), "the weights are not the file's"
    assert model.weights_source == name, "where the weights came from is lost"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"4.bias": None}, r"does not fit the model: 1 weights missing \(first: `4\.bias`\), 0 unknown"),
        ({"head": torch.ones(1)}, r"0 weights missing, 1 unknown \(first: `head`\)"),
        ({"4.bias": torch.ones(7)}, r"`5\.bias` has shape|`4\.bias` has shape \(7,\), the model expects \(4,\)"),
        ({"0.weight": torch.full((6, 3, 3, 3), torch.inf)}, r"weight `0\.weight` of .* holds NaN or infinite values"),
        ({"1.running_var": torch.full((6,), torch.nan)}, r"weight `1\.running_var` of .* holds NaN"),
    ],
    ids=["missing", "unknown", "shape", "infinite", "nan statistics"],
)
def test_weights_that_do_not_fit_are_named(changes, message, suffix, tmp_path):
    changes = {name.replace("4.", "5."): value for name, value in changes.items()}
    refused(source("plain"), saved(tmp_path, f"w{suffix}", **changes), match=message.replace("4\\.", "5\\."))


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.safetensors", "do not exist or are no file"), ("w.bin", r"weights are \.safetensors, or \.pt/\.pth")],
)
def test_weights_that_are_not_there_or_of_another_kind_are_refused(name, message, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"0")
    refused(source("plain"), tmp_path / name, match=message)


@pytest.mark.parametrize(
    ("name", "message"),
    [("w.safetensors", "is no readable safetensors file"), ("w.pt", "w.pt is no readable PyTorch file|is damaged")],
)
@pytest.mark.parametrize("kept", [0, 7, 500, 0.9])
def test_truncated_weights_are_refused(name, message, kept, tmp_path):
    content = saved(tmp_path, name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    refused(source("plain"), tmp_path / name, match=message)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=64), suffix=st.sampled_from([".pt", ".safetensors"]))
def test_any_bytes_that_are_no_weights_are_refused(content, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / f"w{suffix}"
    path.write_bytes(content)
    refused(source("plain"), path, match=re.escape(str(path)))


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))])
def test_a_pickle_with_code_inside_is_refused_and_never_run(write, tmp_path):
    path, sprung = tmp_path / "w.pt", tmp_path / "sprung"
    write({"0.weight": Trap(sprung)}, path)
    refused(source("plain"), path, match="is refused: it is damaged, or a pickle with code inside, .* never runs")
    assert not sprung.exists(), "the pickle's code ran"


def test_a_whole_saved_network_is_refused_as_code(tmp_path):
    torch.save(plain(), tmp_path / "w.pt")
    refused(source("plain"), tmp_path / "w.pt", match="save the state dict with safetensors")


def test_default_weights_of_a_file_are_refused():
    refused(source("plain"), "default", match="--weights default is for torchvision and timm")


@needs_torchvision
def test_an_unknown_torchvision_name_comes_with_its_near_misses():
    refused("torchvision:resnet5", "random", match="no classifier `resnet5`; did you mean .*`resnet50`")
    refused("torchvision:fasterrcnn_resnet50_fpn", "random", match="torchvision has no classifier")


@needs("timm", "timm")
def test_a_name_that_timm_alone_knows_is_answered_with_what_to_type():
    refused("mobilenetv3_small_050", match=r"is no model; expected .*; did you mean `timm:mobilenetv3_small_050`")


@needs_torchvision
def test_torchvision_without_weights_says_what_they_may_be():
    refused("torchvision:squeezenet1_1", match=r"needs --weights\nhelp: --weights default .*, random, or a file")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@needs_torchvision
def test_published_weights_that_are_not_in_the_cache_are_named_and_not_downloaded(cache):
    fetch = r"downloads nothing\nhelp: fetch https://download\.pytorch\.org/models/squeezenet1_1-\w+\.pth and pass"
    refused("torchvision:squeezenet1_1", "default", match=fetch)
    assert list(cache.rglob("*")) == [], "something was downloaded"


@needs_torchvision
def test_published_weights_in_the_cache_are_taken(cache):
    random = load_model("torchvision:squeezenet1_1", "random")
    with pytest.raises(BadModel) as missing:
        load_model("torchvision:squeezenet1_1", "default")
    file = re.search(r"squeezenet1_1-\w+\.pth", str(missing.value))[0]
    (cache / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(random.network.state_dict(), cache / "hub" / "checkpoints" / file)
    model = load_model("torchvision:squeezenet1_1", "default")
    assert model.weights_sha256() == random.weights_sha256()
    assert model.weights_source == "IMAGENET1K_V1"


@needs_torchvision
def test_a_network_whose_trained_weights_expect_rescaled_inputs_rescales_them(tmp_path):
    network = torchvision_models().get_model("googlenet", weights=None, init_weights=False)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = load_model("torchvision:googlenet", str(tmp_path / "w.safetensors"))
    assert model.network.transform_input, "published preprocessing and weights do not belong together"


@needs_torchvision
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_a_network_of_every_small_family_loads_and_traces(name):
    model = load_model(f"torchvision:{name}", "random")
    assert (model.input_shape, model.outputs[0].shape) == ((1, 3, 224, 224), (1, 1000))
    assert len(model.labels) == 1000
    assert model.preprocessing.resize >= 224, "torchvision's own preprocessing is lost"


@needs_torchvision
def test_torchvision_is_usable_in_a_fresh_process_whatever_torch_was_built_for():
    ask = """
from edgeslim.model.sources.torchvision import torchvision_models as t
print(t() is t(), 'resnet50' in t().list_models())
"""
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True True", done.stdout
    assert done.stderr == "", f"torchvision chatters: {done.stderr}"


@pytest.mark.parametrize("text", ["import os\n", "def _private(): ...\n", "x = 1\n"])
def test_a_file_that_offers_nothing_to_make_a_model_is_told_so_without_being_run(text, tmp_path):
    file = written(tmp_path, f"{text}raise SystemExit('it was run')\n")
    refused(file, match="defines no function or class that could make the model")
    refused(written(tmp_path, "def make(:\n"), match="is no Python that can be read")


@pytest.mark.parametrize("key", ["", "model_state_dict", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_weights_of_a_training_loops_checkpoint_are_found_and_said(key, prefix, tmp_path):
    state = {f"{prefix}{name}": value for name, value in randomized(plain()).state_dict().items()}
    file = tmp_path / "checkpoint.pt"
    torch.save({key: state, "epoch": 7, "optimizer": {"lr": 0.1}} if key else state, file)
    model = load_model(source("plain"), str(file))
    assert model.weights_source == (f"checkpoint.pt[{key}]" if key else "checkpoint.pt")
    for name, value in randomized(plain()).state_dict().items():
        assert torch.equal(model.network.state_dict()[name], value), name


def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path):
    torch.save({"epoch": 7, "net": {"a": 1}}, tmp_path / "odd.pt")
    refused(source("plain"), tmp_path / "odd.pt", match=r"nor one under model_state_dict, .*it holds `epoch`, `net`")


def test_names_that_begin_so_by_themselves_are_left_alone(tmp_path):
    wrapped = "import small_models\nfrom torch import nn\nPREPROCESSING = small_models.PREPROCESSING\n"
    wrapped += "class Wrapped(nn.Module):\n"
    wrapped += "    def __init__(self):\n        super().__init__()\n        self.module = small_models.plain()\n"
    wrapped += "    def forward(self, x):\n        return self.module(x)\n"
    file = tmp_path / "mine.py"
    file.write_text(f"import sys\nsys.path.insert(0, {str(HERE.parent)!r})\n{wrapped}")
    state = {f"module.{name}": value for name, value in randomized(plain()).state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    assert load_model(f"{file}:Wrapped", str(tmp_path / "w.pt")).weights_source == "w.pt"
