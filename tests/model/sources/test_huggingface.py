"""Folders of Hugging Face's image classifiers: what is read of them, and every way in which one cannot be used."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import edgeslim
from edgeslim.errors import BadModel, MissingPackage
from edgeslim.model.equivalence import require_traced
from edgeslim.model.load import load_model, name_of
from edgeslim.model.sources.huggingface import transformers_package
from edgeslim.tasks.preprocessing import Preprocessing, preprocess
from edgeslim.tasks.task import Output
from tests.support.packages import needs

pytestmark = needs("transformers", "huggingface")
LABELS = {0: "ant", 1: "bee", 2: "cow", 3: "dog", 4: "eel"}
SMALL = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}
CUT = {"size": {"shortest_edge": 73}, "crop_size": {"height": 64, "width": 64}}
# Architecture -> its configuration, the kind of its image processor and its settings.
KINDS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "ResNet": ({**SMALL, "layer_type": "basic"}, "ConvNext", {"size": {"shortest_edge": 64}}),
    "RegNet": ({**SMALL, "groups_width": 8}, "ConvNext", {"size": {"shortest_edge": 384}}),
    "MobileNetV1": ({"depth_multiplier": 0.25, "image_size": 64}, "MobileNetV1", CUT),
    "MobileNetV2": ({"depth_multiplier": 0.35, "image_size": 64}, "MobileNetV2", CUT),
    "ConvNext": ({"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4}, "ConvNext", {"size": {"shortest_edge": 64}}),
    "ViT": (
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
         "patch_size": 8},
        "ViT",
        {"size": {"height": 32, "width": 32}},
    ),
}  # fmt: skip


def save(place: Path, kind: str, **processing: Any) -> Path:
    """Save a classifier of five classes with random weights as transformers saves it."""
    transformers = transformers_package()
    settings, processor, own = KINDS[kind]
    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(**settings, id2label=LABELS, label2id=None)
    getattr(transformers, f"{kind}ForImageClassification")(config).save_pretrained(place)
    getattr(transformers, f"{processor}ImageProcessor")(**{**own, **processing}).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "bees", "ResNet")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A small ResNet of five classes, in a folder that may be changed."""
    return Path(shutil.copytree(saved, tmp_path / "bees"))


def change(file: Path, **values: Any) -> None:
    """Change keys of a JSON file, or (None) leave them out."""
    found = {key: value for key, value in {**json.loads(file.read_text()), **values}.items() if value is not None}
    file.write_text(json.dumps(found))


def refused(folder: Path, match: str, *weights: str) -> None:
    with pytest.raises(BadModel, match=match):
        load_model(folder, *weights)


def test_a_folder_is_a_model_with_its_weights_labels_and_preprocessing(folder):
    model = load_model(folder)
    assert (model.source, model.weights_source, name_of(folder)) == ("bees", "model.safetensors", "bees")
    assert model.labels == tuple(LABELS.values())
    assert model.outputs == (Output("logits", (1, 5)),)
    assert model.history == ()
    assert isinstance(model.network(torch.zeros(model.input_shape)), torch.Tensor)
    assert model.preprocessing == Preprocessing(64, 64, 3, 73, (0.5,) * 3, (0.5,) * 3, "RGB", "bicubic")
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in model.network.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_other_architectures_load_trace_and_can_be_built_for_a_cpu(kind, tmp_path):
    place = save(tmp_path / "other", kind)
    assert edgeslim.check(place, device="raspberry-pi").reasons == ()
    model = load_model(place)
    require_traced(model.network, model.graph, model.source, torch.randn(2, *model.input_shape[1:]))


def test_a_transformer_is_refused_for_an_npu_layer_by_layer(tmp_path):
    reasons = edgeslim.check(save(tmp_path / "vit", "ViT"), device="arm-corstone-300").reasons
    assert any("layer_norm" in reason for reason in reasons), reasons


@pytest.mark.parametrize("seen", [(300, 200), (200, 260)])
@pytest.mark.parametrize(
    ("processor", "settings"),
    [
        ("ConvNext", {"size": {"shortest_edge": 64}}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
        ("ViT", {"size": {"height": 48, "width": 64}, "image_mean": [0.4, 0.5, 0.6]}),
        ("ViT", {"size": {"height": 64, "width": 64}, "do_normalize": False}),
        ("ViT", {"size": {"height": 64, "width": 64}, "rescale_factor": 1 / 127.5}),
        ("ViT", {"size": {"height": 64, "width": 64}, "do_rescale": False}),
        ("MobileNetV2", CUT),
        ("MobileViT", {**CUT, "do_flip_channel_order": True}),
        ("EfficientNet", {"size": {"height": 64, "width": 64}, "resample": 0}),
        ("PoolFormer", {"size": {"shortest_edge": 72}, "crop_size": {"height": 72, "width": 72}}),
        ("Bit", CUT),
    ],
)
def test_an_image_becomes_what_the_folders_own_processor_makes_of_it(processor, settings, seen, folder):
    transformers = transformers_package()
    getattr(transformers, f"{processor}ImageProcessor")(**settings).save_pretrained(folder)
    own = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    pixels = np.asarray(Image.effect_noise((40, 30), 90).convert("RGB").resize(seen, Image.Resampling.BICUBIC))
    wanted = np.asarray(own(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"][0])
    ours = preprocess(pixels, load_model(folder).preprocessing).transpose(2, 0, 1)
    assert ours.shape == wanted.shape
    assert np.abs(ours - wanted).max() < 0.02 * wanted.std(), "it is another image"


@pytest.mark.parametrize(
    ("processor", "settings", "message"),
    [
        ("Levit", CUT, "LevitImageProcessorPil makes other values of an image than its settings tell"),
        ("ViT", {"size": {"height": 64, "width": 64}, "resample": 1}, "its resample is 1; expected 0, 2, 3"),
        ("ViT", {"do_resize": False}, "its inputs have no size of their own"),
        ("MobileNetV2", {"do_center_crop": False}, "its inputs have no size of their own"),
        ("ViT", {"size": {"height": 64, "width": 64}, "image_std": [0.0] * 3}, "every value must be above 0"),
    ],
)
def test_what_edgeslim_cannot_do_to_an_image_is_refused(processor, settings, message, folder):
    getattr(transformers_package(), f"{processor}ImageProcessor")(**settings).save_pretrained(folder)
    refused(folder, rf"preprocessor_config\.json says what edgeslim cannot do .*{message}.*with PREPROCESSING")


def test_weights_may_be_random_or_a_files(folder, tmp_path):
    random = load_model(folder, "random", 5)
    assert random.weights_source == "random"
    assert random.weights_sha256() != load_model(folder).weights_sha256()
    save_file(random.network.state_dict(), tmp_path / "w.safetensors")
    (folder / "model.safetensors").unlink()
    model = load_model(folder, tmp_path / "w.safetensors")
    assert (model.weights_source, model.weights_sha256()) == ("w.safetensors", random.weights_sha256())
    refused(folder, "the weights of .*bees lie in it; leave --weights out", "default")


def test_weights_in_half_precision_are_computed_with_in_float32(folder):
    state = {name: value.half() if value.is_floating_point() else value
             for name, value in load_file(folder / "model.safetensors").items()}  # fmt: skip
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder / "config.json", dtype="float16")
    assert {value.dtype for value in load_model(folder).network.parameters()} == {torch.float32}


@pytest.mark.parametrize("labels", [{str(number): f"LABEL_{number}" for number in range(5)}, {"0": "a", "7": "b"}])
def test_placeholders_and_labels_with_gaps_are_no_labels(labels, folder):
    change(folder / "config.json", id2label=labels, num_labels=5)
    assert load_model(folder).labels is None


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def configured(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", **values)


def with_weights(**values: torch.Tensor | None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state = {**load_file(folder / "model.safetensors"), **values}
        kept = {name: value for name, value in state.items() if value is not None}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    return write


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("model.safetensors"), r"bees holds no weights \(model\.safetensors\); give a file of them"),
        (pickled, r"as pytorch_model\.bin, a pickle, which may hold code; write them as safetensors once:\n"),
        (without("preprocessor_config.json"), r"has no preprocessor_config\.json, which says how images become inputs"),
        (without("config.json"), r"is a folder without config\.json; expected .*images are given with --data"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json holds no object of JSON"),
        (configured(architectures=["BertForMaskedLM"]), r"bees is BertForMaskedLM .*ends in ForImageClassif"),
        (configured(architectures=["ResNetBackbone"]), r"bees is ResNetBackbone \(config\.json\)"),
        (configured(architectures=None), r"bees is of no architecture \(config\.json\)"),
        (configured(auto_map={"AutoModel": "mine.Net"}), r"bees brings code of its own \(config\.json, auto_map\)"),
        (configured(problem_type="multi_label_classification"), r"is for multi_label_classification .*problem_type"),
        (configured(quantization_config={"quant_method": "bnb"}), r"bees holds weights that are quantized already"),
        (configured(num_channels=1), r"bees takes images of 1 channels; make it in a file of your own"),
        (configured(model_type="nosuch"), r"transformers cannot load .*bees: ValueError"),
        (with_weights(**{"classifier.1.bias": None}), r"weights of .*bees do not fit it: missing classifier\.1\.bias"),
        (with_weights(extra=torch.ones(1)), r"the weights of .*bees do not fit it: unexpected extra"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"0"), r"transformers cannot load .*bees: Safetens"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(spoil, message, folder):
    spoil(folder)
    refused(folder, message)


def test_the_lines_that_rid_a_folder_of_its_pickle_do_so(folder):
    wanted = load_model(folder).weights_sha256()
    pickled(folder)
    with pytest.raises(BadModel) as told:
        load_model(folder)
    exec("\n".join(line.strip() for line in str(told.value).splitlines()[1:]))
    assert load_model(folder).weights_sha256() == wanted


def test_code_that_a_folder_brings_is_never_run(folder):
    (folder / "mine.py").write_text(f"open({str(folder / 'sprung')!r}, 'w')\n")
    change(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "mine.Own"}, image_processor_type="Own")
    refused(folder, r"preprocessor_config\.json says what edgeslim cannot do")
    assert not (folder / "sprung").exists()


def test_without_transformers_it_is_said_which_extra_brings_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    told = r"transformers is not installed\nhelp: pip install 'edgeslim\[huggingface\]'"
    with pytest.raises(MissingPackage, match=told):
        load_model(folder)


def test_a_name_on_the_hub_is_answered_with_the_folder_to_bring():
    with pytest.raises(BadModel) as told:
        load_model("microsoft/resnet-18")
    assert str(told.value) == (
        "`microsoft/resnet-18` looks like a name on Hugging Face's hub, and edgeslim downloads nothing. Bring it once "
        "(hf download microsoft/resnet-18 --local-dir resnet-18), then name the folder: resnet-18"
    )
    with pytest.raises(BadModel, match=r"folder: a1_in1k, or timm:a1_in1k --weights a1_in1k/model\.safetensors$"):
        load_model("timm/a1_in1k")


def test_a_folder_loads_in_a_fresh_process_without_a_word(folder):
    ask = f"from edgeslim.model.load import load_model; print(load_model({str(folder)!r}).outputs[0].shape)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1, 5)\n", "")
