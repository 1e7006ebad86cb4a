"""The bundled default, built for an NXP i.MX 93 by the command line; and the builds an NPU does not take."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from edgeslim.backends.ethos_u.compile import PACKAGE, VERSION
from edgeslim.backends.ethos_u.reference_kernels import installed_version
from edgeslim.export import tflite_ends
from edgeslim.recipe import Recipe, StepCall
from edgeslim.resources import bundled
from tests.support.builds import NET, Built, edgeslim

PROFILE = bundled("device_profiles") / "nxp-imx93.yaml"


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The bundled default for an NXP i.MX 93."""
    pytest.importorskip("ethosu", reason="ethos-u-vela is not installed; pip install 'edgeslim[ethos-u]'")
    folder = tmp_path_factory.mktemp("npu") / "artifact"
    done = edgeslim("build", "--device", "nxp-imx93", "--out", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    return Built(folder, json.loads(done.stdout), done.stderr)


def manifest(npu: Built) -> dict:
    return json.loads((npu.folder / "manifest.json").read_text())


def test_int8_with_int8_ends_is_within_the_allowed_point_in_litert(npu: Built) -> None:
    models = {m["precision"]: m for m in npu.summary["models"]}
    assert set(models) == {"fp32", "int8"}
    float_one, int8_one = (models[p]["quality"] for p in ("fp32", "int8"))
    assert float_one["images"] == int8_one["images"] == 10_000
    assert float_one["value"] - int8_one["value"] <= 1.0
    assert int8_one["agreement_with_fp32_pct"] >= 99.0
    assert (models["int8"]["integer_layers"]["planned"], models["int8"]["integer_layers"]["proven"]) == (12, 12)


def test_the_plain_file_takes_and_gives_int8_as_the_manifest_says(npu: Built) -> None:
    (model,) = [m for m in npu.summary["models"] if m["precision"] == "int8"]
    ends = tflite_ends(npu.folder / model["path"])
    for told, held in zip((model["inputs"][0], *model["outputs"]), (ends.input, *ends.outputs), strict=True):
        assert (told["dtype"], held.dtype) == ("int8", "int8")
        assert tuple(told["shape"]) == held.shape
        assert held.grid is not None
        assert (told["scale"], told["zero_point"]) == (held.grid.scale, held.grid.zero_point)
    golden = [np.load(npu.folder / name) for name in ("golden/inputs_nhwc_int8.npy", model["outputs"][0]["golden"])]
    assert [array.dtype for array in golden] == [np.int8, np.int8]


def test_every_operator_is_on_the_npu_and_vela_is_named_with_its_configuration(npu: Built) -> None:
    made = manifest(npu)["compiled"]
    assert (made["npu_pct"], made["cpu_operators"]) == (100.0, [])
    assert made["npu_operators"]["Conv2D"] > 0
    assert (made["compiler"], made["compiler_version"]) == (PACKAGE, VERSION)
    assert (made["accelerator_config"], made["memory_mode"]) == ("ethos-u65-256", "Dedicated_Sram_384KB")
    config = (npu.folder / made["config"]).read_bytes()
    assert hashlib.sha256(config).hexdigest() == made["config_sha256"]


def test_what_vela_simulates_lies_among_the_measurements_and_outside_the_hashes(npu: Built) -> None:
    held = json.loads((npu.folder / "measurements" / "simulated-vela.json").read_text())
    made = manifest(npu)["compiled"]
    (kept,) = [one for one in held["goals"] if one["kept"]]
    assert {one["goal"] for one in held["goals"]} == {"Performance", "Size"}
    assert (held["kind"], held["model"], kept["goal"]) == ("simulated", made["path"], made["goal"])
    assert held["model_sha256"] == hashlib.sha256((npu.folder / made["path"]).read_bytes()).hexdigest()
    simulated = made["simulated"]
    assert held["known_error"] == simulated["known_error"]
    assert all(simulated[key] == value for key, value in kept.items() if key not in ("goal", "kept"))
    assert "simulated-vela.json" not in (npu.folder / "SHA256SUMS").read_text(), "measurements are hashed"
    done = edgeslim("inspect", str(npu.folder), "--json")
    assert json.loads(done.stdout)["simulated"] == held, "inspect says something else"


def test_a_bench_times_the_plain_file_and_points_to_what_is_simulated(npu: Built) -> None:
    done = edgeslim("bench", str(npu.folder), "--processes", "1", "--min-duration", "10ms")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "runs on an NPU and was not timed; what is simulated of it: measurements/simulated-vela.json" in text
    shutil.rmtree(next((npu.folder / "measurements").glob("*-local")))


def test_the_artifact_holds_plain_and_compiled_file_and_the_reports(npu: Built) -> None:
    made = manifest(npu)["compiled"]
    assert (npu.folder / made["path"]).stat().st_size == made["bytes"]
    assert made["made_from"] == "models/model_int8.tflite"
    assert manifest(npu)["primary"] == made["path"] == "models/model_int8_vela.tflite"
    assert all((npu.folder / path).is_file() for path in made["reports"])
    jsonschema.validate(manifest(npu), json.loads((npu.folder / "manifest.schema.json").read_text()))


def test_the_compilers_figures_are_simulated_and_no_time_was_measured(npu: Built) -> None:
    told = npu.summary["compiled"]["simulated"]
    assert told["kind"] == "simulated"
    assert 0 < told["sram_bytes"] <= 384 * 1024
    assert told["inference_s"] > 0
    assert "3.46 ms published by NXP" in told["known_error"]
    assert npu.summary["measurements"] == []


def test_the_reference_kernels_agree_within_two_steps(npu: Built) -> None:
    if installed_version() is None:
        pytest.skip("tflite-micro is not installed; pip install 'edgeslim[micro]'")
    (found,) = [m["reference_kernels"] for m in npu.summary["models"] if m["reference_kernels"]]
    assert found["max_lsb"] <= 2
    assert found["equal_pct"] > 50.0


def test_verify_accepts_it_and_refuses_a_changed_compiled_file(npu: Built, tmp_path: Path) -> None:
    done = edgeslim("verify", str(npu.folder), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {replay["status"] for replay in found["replays"]} == {"passed"}
    assert any("model_int8_vela.tflite runs on its NPU alone" in note for note in found["notes"])
    copy = Path(shutil.copytree(npu.folder, tmp_path / "copy"))
    file = copy / "models" / "model_int8_vela.tflite"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    done = edgeslim("verify", str(copy))
    assert done.returncode == 6
    assert "models/model_int8_vela.tflite` was changed" in done.stderr


def test_the_example_runs_the_plain_file_and_says_why(npu: Built, tmp_path: Path) -> None:
    Image.fromarray(np.load(npu.folder / "golden" / "images.npy")[0, :, :, 0]).save(tmp_path / "boot.png")
    done = subprocess.run(
        [sys.executable, "-P", str(npu.folder / "run.py"), str(tmp_path / "boot.png")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is compiled for ethos-u65-256 and runs on the device alone" in done.stderr
    label, probability = done.stdout.splitlines()[0].split("\t")
    assert (label, float(probability) > 0.5) == ("Ankle boot", True)


def test_its_plain_files_can_be_benched_here_and_no_path_of_this_machine_is_in_any_file(npu: Built) -> None:
    done = edgeslim("bench", str(npu.folder), "--processes", "2", "-q", "--json")
    assert done.returncode == 0, done.stderr
    here = [str(Path.home()).encode(), str(npu.folder.parent).encode(), str(PROFILE.parents[1]).encode()]
    for file in npu.folder.rglob("*"):
        if file.is_file() and "measurements" not in file.parts:
            assert not [path for path in here if path in file.read_bytes()], file


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_profile_without_a_memory_mode_is_refused_before_any_work_and_nothing_is_lost(
    npu: Built, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    lines = [line for line in PROFILE.read_text().splitlines() if "memory_mode" not in line]
    mine.write_text("\n".join(lines))
    before = snapshot(npu.folder)
    done = edgeslim("build", "--device", str(mine), "--out", str(npu.folder), "--overwrite")
    assert done.returncode == 3
    assert "nxp-imx93 has an Ethos-U and its profile no memory mode" in done.stderr
    assert "write `memory_mode: ...` under `compiler`" in " ".join(done.stderr.split())
    assert snapshot(npu.folder) == before
    check = edgeslim("check", "--device", str(mine))
    assert check.returncode == 3
    assert "no memory mode" in check.stderr


def test_another_version_of_vela_is_refused_before_any_work_and_nothing_is_lost(npu: Built, tmp_path: Path) -> None:
    metadata = tmp_path / "ethos_u_vela-4.2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 4.2.0\n")
    before = snapshot(npu.folder)
    path = f"{tmp_path}:{PROFILE.parents[1]}"
    done = edgeslim("build", "--device", "nxp-imx93", "--out", str(npu.folder), "--overwrite", PYTHONPATH=path)
    assert done.returncode == 7, done.stderr
    assert "ethos-u-vela 4.2.0 is installed" in done.stderr
    assert f"pip install 'ethos-u-vela=={VERSION}'" in done.stderr
    assert snapshot(npu.folder) == before


def test_float_layers_and_too_little_sram_reject_the_artifact_by_layer_with_cures(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("ethosu", reason="ethos-u-vela is not installed; pip install 'edgeslim[ethos-u]'")
    mine = tmp_path / "mine.yaml"
    mine.write_text(PROFILE.read_text().replace('sram: {value: "384 KiB"', 'sram: {value: "1 KiB"'))
    recipe = Recipe(
        steps=(
            StepCall(step="fold"),
            StepCall(step="legalize"),
            StepCall(step="quantize", settings={"keep_float": ["^stem"]}),
        ),
        formats=("tflite",),
        max_drop_points=100.0,
    )
    (tmp_path / "recipe.yaml").write_text(recipe.text())
    out = tmp_path / "artifact"
    done = edgeslim(
        "build", NET, "--weights", "random", "--data", str(images), "--device", str(mine), "--out", str(out),
        "--recipe", str(tmp_path / "recipe.yaml"), "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    made = json.loads((out / "manifest.json").read_text())
    assert made["status"] == "rejected"
    reasons = made["reasons"]
    assert any("operators run on the NPU" in one and "100 % are demanded (min_npu_ops_pct)" in one for one in reasons)
    layers = [one for one in reasons if one.startswith("on the CPU: ")]
    assert len(layers) == len(made["compiled"]["cpu_operators"]) > 0
    assert all("; cure: " in one for one in layers)
    assert any("of SRAM, the device has 1 KiB" in one for one in reasons)
    assert edgeslim("verify", str(out)).returncode == 0, "a rejected artifact is whole all the same"
