"""The bundled default, built for a Raspberry Pi by the command line: what the artifact holds, proven on it."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from PIL import Image

from edgeslim.devices.machine import this_machine
from edgeslim.model.default import network
from tests.support import REPOSITORY
from tests.support.builds import Built, edgeslim

FORMATS = ("onnx", "openvino", "tflite")
STAGES = [
    "loading the model",
    "reading the images",
    "checking trace and labels",
    "prune",
    "fold",
    "quantize",
    "exporting",
    "running the files",
    "finishing for raspberry-pi-4",
    "finding where accuracy is lost",
    "packing the artifact",
]
# tflite-runtime, which ai-edge-litert succeeded: made by tools/setup, where Python has its wheels.
OLDER = REPOSITORY / ".venv" / "tflite-runtime" / "bin" / "python"


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> Path:
    """The artifact's folder, to be damaged."""
    return Path(shutil.copytree(built.folder, tmp_path / "copy"))


def models(built: Built) -> dict[str, dict]:
    return {f"{m['format']} {m['precision']}": m for m in built.summary["models"]}


@pytest.mark.parametrize("name", FORMATS)
def test_pruned_int8_loses_at_most_the_allowed_point_in_the_real_runtime(built: Built, name: str) -> None:
    float_one, int8_one = (models(built)[f"{name} {p}"]["quality"] for p in ("fp32", "int8"))
    assert float_one["images"] == int8_one["images"] == 10_000
    assert float_one["value"] - int8_one["value"] <= 1.0
    assert int8_one["agreement_with_fp32_pct"] >= 95.0


def test_what_pruning_and_what_int8_costs_is_told_of_the_file_that_loses_most(built: Built) -> None:
    told = re.fullmatch(
        r"(\w+ int8) loses (\S+) points of top-1 accuracy: pruning (\S+) points, INT8 (\S+) points",
        built.summary["costs"],
    )
    assert told is not None, built.summary["costs"]
    lost = {
        name: models(built)[f"{name} fp32"]["quality"]["value"] - models(built)[f"{name} int8"]["quality"]["value"]
        for name in FORMATS
    }
    assert lost[told[1].removesuffix(" int8")] == pytest.approx(max(lost.values()))
    assert float(told[2]) == pytest.approx(max(lost.values()), abs=0.01)
    assert float(told[3]) + float(told[4]) == pytest.approx(float(told[2]), abs=0.011)
    assert float(told[3]) != 0, "the pruned network answers as the dense one on 10,000 images"


def test_channels_are_pruned_to_legal_widths_and_every_trial_is_kept(built: Built) -> None:
    manifest = json.loads((built.folder / "manifest.json").read_text())
    assert manifest["model"]["parameters"] < 0.8 * manifest["model"]["original_parameters"]
    assert manifest["model"]["macs"] < 0.8 * manifest["model"]["original_macs"]
    weights = [
        i for i in onnx.load(built.folder / "models" / "model_int8.onnx").graph.initializer
        if len(i.dims) == 4 and i.data_type == onnx.TensorProto.INT8
    ]  # fmt: skip
    assert len(weights) == 11
    assert {i.dims[0] % 8 for i in weights} == {0}
    trials = json.loads((built.folder / "measurements" / "pruning_trials.json").read_text())
    accepted = [trial for trial in trials if trial["accepted"]]
    fewest = min(accepted, key=lambda trial: trial["latency_s"])
    assert fewest["macs"] == manifest["model"]["macs"]
    assert fewest["drop_at_most_points"] <= 1.0


def test_the_float_files_score_what_the_training_measured(built: Built) -> None:
    training = json.loads((Path(network.__file__).parent / "training.json").read_text())
    for name in FORMATS:
        model = models(built)[f"{name} fp32"]
        assert model["quality"]["value"] == pytest.approx(training["test_top1_pct"], abs=0.02)
        assert min(one["sqnr_db"] for one in model["outputs"]) >= 60


def test_the_formats_agree_with_each_other_on_99_percent(built: Built) -> None:
    agreement = built.summary["agreement_between_formats_pct"]
    assert set(agreement) == {"onnx and openvino", "onnx and tflite", "openvino and tflite"}
    assert min(agreement.values()) >= 99.0


@pytest.mark.parametrize("name", FORMATS)
def test_every_planned_layer_is_proven_integer(built: Built, name: str) -> None:
    layers = models(built)[f"{name} int8"]["integer_layers"]
    assert (layers["planned"], layers["proven"]) == (12, 12)
    assert layers["proven_on"].startswith(models(built)[f"{name} int8"]["runtime"])


def test_the_int8_files_are_at_most_a_third_of_the_float_ones(built: Built) -> None:
    for name in FORMATS:
        assert models(built)[f"{name} int8"]["bytes"] < models(built)[f"{name} fp32"]["bytes"] / 3 + 10_000, name


def test_the_error_by_depth_is_in_every_file_what_the_plan_foretells(built: Built) -> None:
    depth = json.loads((built.folder / "manifest.json").read_text())["error_by_depth"]
    assert len(depth["layers"]) == 12
    for row in depth["layers"]:
        # The last layer has 80 values in all: a code more or less in a few of them is a decibel.
        near = 2.0 if row["name"] == "linear" else 0.5
        assert row["exported_db"]["onnx"] == pytest.approx(row["cumulative_db"], abs=near), row["name"]
        assert row["exported_db"]["tflite"] == pytest.approx(row["cumulative_db"], abs=near), row["name"]
        # OpenVINO fuses a sum into a convolution and rounds less there.
        if not this_machine().sums_saturate:
            assert row["exported_db"]["openvino"] >= row["cumulative_db"] - near, row["name"]


def test_inspect_shows_the_error_by_depth_and_the_ledger(built: Built) -> None:
    done = edgeslim("inspect", str(built.folder))
    assert done.returncode == 0, done.stderr
    assert "stages.0.conv1" in done.stdout
    assert "models/model_int8.onnx: " in done.stdout


def test_what_is_known_to_fail_on_the_device_is_a_warning_and_never_primary(built: Built) -> None:
    assert built.summary["primary"] == "models/model_int8.tflite"
    assert any("openvino int8 on raspberry-pi-4" in warning for warning in built.summary["warnings"])


def test_the_manifest_follows_the_published_schema(built: Built) -> None:
    manifest = json.loads((built.folder / "manifest.json").read_text())
    jsonschema.validate(manifest, json.loads((built.folder / "manifest.schema.json").read_text()))
    assert (manifest["status"], manifest["compatible"]["device"]) == ("accepted", "raspberry-pi-4")
    assert manifest["data"] == {
        "calibration": 512, "selection": 2000, "evaluation": 10_000, "labelled": True, "synthetic": False,
        "source": "Fashion-MNIST (bundled)", "how_read": None,
    }  # fmt: skip


def test_the_recipe_names_the_schema_that_lies_beside_it_and_follows_it(built: Built) -> None:
    text = (built.folder / "recipe.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    jsonschema.validate(yaml.safe_load(text), json.loads((built.folder / "recipe.schema.json").read_text()))


def test_no_path_of_the_building_machine_is_in_any_file(built: Built) -> None:
    here = [
        str(Path.home()).encode(),
        str(built.folder.parent).encode(),
        str(Path(network.__file__).parents[2]).encode(),
    ]
    for file in built.folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not [path for path in here if path in content], file


def test_progress_names_stages_and_no_library_talks(built: Built) -> None:
    assert built.stderr == ""
    log = built.folder.with_name("log.txt").read_text()
    begun = re.findall(r"INFO +(\d+) of (\d+)  ([^:\n]+)$", log, re.MULTILINE)
    assert begun == [(str(place), str(len(STAGES)), stage) for place, stage in enumerate(STAGES, start=1)]


def test_verify_accepts_it_and_its_archive(built: Built) -> None:
    for path in (built.folder, built.folder.with_name("artifact.tar.gz")):
        done = edgeslim("verify", str(path), "--json")
        assert done.returncode == 0, done.stderr
        assert {replay["status"] for replay in json.loads(done.stdout)["replays"]} == {"passed"}


def test_verify_refuses_a_changed_byte_with_exit_code_6(copy: Path) -> None:
    file = copy / "models" / "model_int8.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = edgeslim("verify", str(copy))
    assert done.returncode == 6
    assert "models/model_int8.tflite` was changed" in done.stderr


def test_verify_says_first_what_it_proves_and_takes_the_hash_its_maker_told(built: Built) -> None:
    archive = built.folder.with_name("artifact.tar.gz")
    done = edgeslim("verify", str(archive), "--expect", hashlib.sha256(archive.read_bytes()).hexdigest())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("An artifact that passes is whole, and it computes what it did"), done.stdout
    done = edgeslim("verify", str(archive), "--expect", "0" * 64)
    assert done.returncode == 6
    assert "is another archive" in done.stderr


def test_an_edited_scale_shows_in_the_ledger(copy: Path) -> None:
    path = copy / "models" / "model_int8.onnx"
    model = onnx.load(path)
    scale = next(i for i in model.graph.initializer if i.name == "relu_4_scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.5), scale.name))
    onnx.save(model, path)
    done = edgeslim("inspect", str(copy), "--json")
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr, "files that were changed are shown as if they were whole"
    assert "`models/model_int8.onnx` was changed" in json.loads(done.stdout)["changed"]
    rows = json.loads(done.stdout)["ledger"]
    assert [row["name"] for row in rows["models/model_int8.onnx"] if row["state"] == "differs"] == ["relu_4"]
    assert [row for row in rows["models/model_int8.tflite"] if row["state"] == "differs"] == []


def test_show_says_again_what_the_build_said(built: Built) -> None:
    shown = edgeslim("show", str(built.folder), "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert {**json.loads(shown.stdout), "advice": []} == built.summary
    packed = json.loads(edgeslim("show", f"{built.folder}.tar.gz", "--json").stdout)
    assert packed["measurements"] is None, "an archive knows times"
    assert (packed["models"], packed["costs"]) == (built.summary["models"], built.summary["costs"])


def test_readme_and_model_card_hold_the_figures_and_times_lie_beside_the_archive(built: Built) -> None:
    readme, card, beside = (
        (built.folder / name).read_text() for name in ("README.md", "MODEL_CARD.md", "measurements/README.md")
    )
    for label, one in models(built).items():
        quality, cells = one["quality"], r"\** \| \**".join(label.split())
        figures = f"{quality['value']:.2f} % ({quality['ci95'][0]:.4g} to {quality['ci95'][1]:.4g})"
        (row,) = re.findall(rf"^\| \**{cells}.*$", readme, re.MULTILINE)
        assert figures in row
        assert row in card, "the model card has other figures"
        assert "µs " not in row, "a time is in the archive, and differs in every run"
        assert re.search(rf"^\| \**{cells}.* [µm]?s ±", beside, re.MULTILINE), f"the time of {label} is nowhere"
    assert f"- {built.summary['costs']}" in readme
    assert "Licence." in card, "what the network is for is no longer in the model card"
    assert "NOT on a raspberry-pi-4" in beside


def test_bench_measures_every_file_and_says_where(built: Built) -> None:
    kept = built.folder / "measurements"
    before = set(kept.iterdir())  # files that the build measured; counts, where it could emulate the device
    done = edgeslim("bench", str(built.folder), "--processes", "3", "-q")
    assert done.returncode == 0, done.stderr
    assert "NOT on a raspberry-pi-4" in " ".join(done.stdout.split())
    each = {f"{name}_{precision}.json" for name in FORMATS for precision in ("fp32", "int8")}
    (folder,) = set(kept.iterdir()) - before
    own = {file.name for file in kept.iterdir() if file.is_file()}
    told = {"README.md", "times_of_the_build.json", "pruning_trials.json"}
    assert own == {*told, *each}, "what the build measured was changed"
    assert {file.name for file in folder.iterdir()} == each
    assert f"raw times: {folder}" in done.stdout.replace("\n", "")


def test_the_example_runs_without_edgeslim_and_names_the_class(built: Built, tmp_path: Path) -> None:
    Image.fromarray(np.load(built.folder / "golden" / "images.npy")[0, :, :, 0]).save(tmp_path / "boot.png")
    done = subprocess.run(
        [sys.executable, "-P", str(built.folder / "run.py"), str(tmp_path / "boot.png")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    label, probability = done.stdout.splitlines()[0].split("\t")
    assert (label, float(probability) > 0.5) == ("Ankle boot", True)


def answers(python: Path, artifact: Path, image: Path, model: str) -> list[tuple[str, float]]:
    """Return what `run.py` prints of an image, run by a Python: labels and how likely each is."""
    command = [str(python), str(artifact / "run.py"), str(image), "--model", model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(label, float(likely)) for label, likely in (line.split("\t") for line in done.stdout.splitlines())]


def test_tflite_runtime_answers_as_its_successor_does(built: Built, tmp_path: Path) -> None:
    if not OLDER.is_file():
        pytest.skip("tflite-runtime has no wheel for this Python: tools/setup made no environment with it")
    models = sorted(str(one.relative_to(built.folder)) for one in built.folder.rglob("*.tflite"))
    assert len(models) == 2, models
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).resize((96, 96)).save(tmp_path / "image.png")
    for model in models:
        old, new = (answers(one, built.folder, tmp_path / "image.png", model) for one in (OLDER, Path(sys.executable)))
        assert len(old) == len(new) > 0
        assert old[0][0] == new[0][0], model
        assert max(abs(dict(old).get(label, 0.0) - likely) for label, likely in new) < 0.05, (model, old, new)
