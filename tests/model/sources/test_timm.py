"""timm: its networks by name and in folders, with its preprocessing, its labels and weights that lie here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import edgeslim
from edgeslim.errors import BadModel, MissingPackage
from edgeslim.model.equivalence import require_traced
from edgeslim.model.load import load_model, name_of
from edgeslim.model.sources.timm import preprocessing_of, timm_package
from edgeslim.tasks.preprocessing import Preprocessing, preprocess
from edgeslim.tasks.task import Output
from tests.support.packages import needs

pytestmark = needs("timm", "timm")
TINY = "test_resnet"  # of the networks that timm keeps for tests: 160 x 160, a few thousand weights


def refused(*arguments: object, match: str) -> None:
    with pytest.raises(BadModel, match=match):
        load_model(*(None if one is None else str(one) for one in arguments))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of Hugging Face's hub and of torch."""
    import huggingface_hub.constants
    import huggingface_hub.file_download

    for module in (huggingface_hub.constants, huggingface_hub.file_download):
        if hasattr(module, "HF_HUB_CACHE"):
            monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "side"), [("mobilenetv3_small_050", 224), ("regnetx_002", 224), ("test_efficientnet", 160), (TINY, 160)]
)
def test_a_network_loads_with_timms_size_and_labels_and_traces_as_it_is(name, side):
    model = load_model(f"timm:{name}", "random")
    assert (model.source, model.weights_source) == (f"timm:{name}", "random")
    assert (model.input_shape, model.outputs) == ((1, 3, side, side), (Output("logits", (1, 1000)),))
    assert model.labels is not None
    assert (len(model.labels), model.labels[0]) == (1000, "tench, Tinca tinca")
    require_traced(model.network, model.graph, model.source, torch.randn(2, 3, side, side))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_mambaout", "test_byobnet", "test_nfnet"])
def test_other_families_can_be_built_for_a_cpu(name):
    assert edgeslim.check(f"timm:{name}", device="raspberry-pi").reasons == ()


def test_a_transformer_is_refused_for_an_npu_layer_by_layer():
    reasons = edgeslim.check("timm:test_vit", device="arm-corstone-300").reasons
    assert any("layer_norm" in reason for reason in reasons), reasons


@pytest.mark.parametrize("name", [TINY, "tf_efficientnetv2_b3", "dm_nfnet_f0", "mobilenetv2_100", "gcvit_xxtiny"])
@pytest.mark.parametrize("size", [(640, 480), (400, 500)])
def test_an_image_becomes_what_timms_own_transform_makes_of_it(name, size):
    timm = timm_package()
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    image = Image.effect_noise(size, 90).convert("RGB")
    wanted = create_transform(**config, is_training=False)(image).numpy()
    ours = preprocess(np.asarray(image), preprocessing_of(config, name)).transpose(2, 0, 1)
    assert ours.shape == wanted.shape
    assert np.abs(ours - wanted).max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_mode": "border"}, "crop mode border to 160x160, bilinear"),
        ({"interpolation": "lanczos"}, "crop mode center to 160x160, lanczos"),
        ({"input_size": (3, 64, 96)}, "crop mode center to 96x64, bilinear"),
    ],
)
def test_what_edgeslim_cannot_do_to_an_image_is_refused(changes, message):
    config = {"input_size": (3, 160, 160), "crop_pct": 0.95, "crop_mode": "center", "interpolation": "bilinear"}
    with pytest.raises(BadModel, match=rf"another preparation than edgeslim has \({message}\); .* with PREPROCESSING"):
        preprocessing_of({**config, "mean": (0.5,) * 3, "std": (0.5,) * 3, **changes}, "timm:some")


def test_an_input_of_other_channels_than_its_means_is_refused():
    config = {"input_size": (1, 28, 28), "crop_pct": 1.0, "crop_mode": "center", "interpolation": "bilinear"}
    with pytest.raises(BadModel, match="timm:some: preprocessing: `mean` is"):
        preprocessing_of({**config, "mean": (0.5,) * 3, "std": (0.5,) * 3}, "timm:some")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tset_resnet", "timm has no network `tset_resnet`; did you mean .*`test_resnet`"),
        ("vit_small_patch14_dinov2", "is made without a head: it returns features, and says no class"),
        ("resnet18.nosuch", r"timm cannot make timm:resnet18\.nosuch: RuntimeError: Invalid pretrained tag"),
    ],
)
def test_what_is_no_classifier_that_edgeslim_knows_how_to_feed_is_refused(name, message):
    refused(f"timm:{name}", "random", match=message)


def test_without_weights_it_says_what_they_may_be_but_check_needs_none():
    refused(f"timm:{TINY}", match=r"timm:test_resnet needs --weights: default \(the cache .*\), random, or a file")
    assert edgeslim.check(f"timm:{TINY}", device="raspberry-pi").reasons == ()


def test_weights_of_a_file_are_taken(tmp_path):
    random = load_model(f"timm:{TINY}", "random", 3)
    save_file(random.network.state_dict(), tmp_path / "w.safetensors")
    model = load_model(f"timm:{TINY}", tmp_path / "w.safetensors")
    assert (model.weights_source, model.weights_sha256()) == ("w.safetensors", random.weights_sha256())


def test_published_weights_that_are_not_in_the_cache_are_named_and_not_downloaded(cache):
    refused(f"timm:{TINY}", "default", match=(
        r"the weights of timm:test_resnet are not in the local cache, and edgeslim downloads nothing: fetch "
        r"https://huggingface\.co/timm/test_resnet\.r160_in1k/resolve/main/model\.safetensors and pass --weights FILE"
    ))  # fmt: skip
    assert list(cache.rglob("*")) == [], "something was downloaded"


def test_published_weights_in_the_cache_are_taken(cache):
    random = load_model(f"timm:{TINY}", "random", 3)
    home = cache / "hub" / "models--timm--test_resnet.r160_in1k"
    (home / "snapshots" / "a1").mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a1")
    save_file(random.network.state_dict(), home / "snapshots" / "a1" / "model.safetensors")
    model = load_model(f"timm:{TINY}", "default")
    assert model.weights_sha256() == random.weights_sha256()
    assert model.weights_source == "test_resnet.r160_in1k"


def test_weights_that_lie_on_a_server_of_their_own_are_looked_for_in_torchs_cache(cache):
    refused(
        "timm:legacy_seresnet18", "default", match=r"in the local cache.*fetch https://github\S+4bb0ce65\.pth and pass"
    )
    random = load_model("timm:legacy_seresnet18", "random")
    (cache / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(random.network.state_dict(), cache / "torch" / "hub" / "checkpoints" / "seresnet18-4bb0ce65.pth")
    assert load_model("timm:legacy_seresnet18", "default").weights_sha256() == random.weights_sha256()


def test_weights_that_nobody_published_are_told_as_such(cache):
    refused(
        "timm:starnet_s050", "default", match=r"nobody published weights for timm:starnet_s050; pass --weights FILE"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What timm saves of a network that somebody trained on five classes."""
    timm = timm_package()
    from timm.models import save_for_hf

    torch.manual_seed(3)
    network = timm.create_model(TINY, num_classes=5)
    names = ["ant", "bee", "cow", "dog", "eel"]
    save_for_hf(network, str(tmp_path / "bees"), {"label_names": names}, safe_serialization=True)
    return tmp_path / "bees"


def test_a_folder_that_timm_saved_is_a_model_with_its_weights_and_labels(folder):
    model = load_model(folder)
    assert (model.source, model.weights_source, name_of(folder)) == ("bees", "model.safetensors", "bees")
    assert model.labels == ("ant", "bee", "cow", "dog", "eel")
    assert (model.preprocessing_from, model.labels_from) == ("timm's configuration of bees",) * 2
    assert model.outputs == (Output("logits", (1, 5)),)
    torch.manual_seed(3)
    wanted = timm_package().create_model(TINY, num_classes=5).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.network.state_dict().items())


def test_labels_of_a_folder_may_be_descriptions_by_number(folder):
    config = json.loads((folder / "config.json").read_text())
    config["label_names"] = {str(place): name for place, name in enumerate(["n1", "n2", "n3", "n4", "n5"])}
    config["label_descriptions"] = {"n2": "a bee"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_model(folder).labels == ("n1", "a bee", "n3", "n4", "n5")


def test_a_folder_of_timms_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    refused(
        folder, match=r"bees holds no weights \(model\.safetensors\); give a file of them with --weights, or `random`"
    )
    assert load_model(folder, "random").weights_source == "random"


def test_a_folder_with_sides_of_another_size_is_scaled_whole(folder):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_mode": "squash", "crop_pct": 0.8, "input_size": [3, 64, 96]}
    (folder / "config.json").write_text(json.dumps(config))
    found = load_model(folder).preprocessing
    assert found == Preprocessing(96, 64, 3, (120, 80), found.mean, found.std, "RGB")


def test_without_timm_it_is_said_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackage, match=r"timm is not installed\nhelp: pip install 'edgeslim\[timm\]'"):
        load_model(f"timm:{TINY}", "random")


def test_timm_is_usable_in_a_fresh_process_without_a_word():
    ask = "from edgeslim.model.load import load_model; print(load_model('timm:test_resnet', 'random').outputs[0].shape)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(1, 1000)\n", "")
