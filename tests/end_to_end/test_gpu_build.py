"""The bundled default, built for a Jetson Orin Nano by the command line, without pruning to keep it short."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from edgeslim.recipe import Recipe, StepCall
from tests.support.builds import NET, Built, edgeslim


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The bundled default for a Jetson Orin Nano."""
    folder = tmp_path_factory.mktemp("gpu") / "artifact"
    done = edgeslim("build", "--device", "jetson-orin-nano", "--no-prune", "--out", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    return Built(folder, json.loads(done.stdout), done.stderr)


def test_it_holds_fp32_fp16_and_int8_and_fp16_is_primary(gpu: Built) -> None:
    assert [m["precision"] for m in gpu.summary["models"]] == ["fp32", "fp16", "int8"]
    assert {m["format"] for m in gpu.summary["models"]} == {"onnx"}
    assert gpu.summary["primary"] == "models/model_fp16.onnx"
    sizes = {m["precision"]: m["bytes"] for m in gpu.summary["models"]}
    assert 0.45 < sizes["fp16"] / sizes["fp32"] < 0.6, "fp16 does not halve the file"


def test_fp16_agrees_with_fp32_and_says_where_that_was_seen(gpu: Built) -> None:
    check = gpu.summary["gpu"]["check"]
    assert check["images"] == 10_000
    assert min(check["simulated_pct"], check["file_pct"]) >= 99.0, "fp16 answers otherwise"
    assert check["overflow"] is None
    assert "nothing ran on a GPU" in gpu.summary["gpu"]["checked_on"]
    assert gpu.summary["measurements"] == [], "times of a CPU say nothing about a GPU"


def test_int8_is_symmetric_as_tensorrt_wants_it_and_within_the_allowed_point(gpu: Built) -> None:
    models = {m["precision"]: m for m in gpu.summary["models"]}
    assert models["fp32"]["quality"]["value"] - models["int8"]["quality"]["value"] <= 1.0
    assert models["int8"]["integer_layers"] is None, "on what TensorRT runs a layer was not seen here"
    import onnx
    from onnx import numpy_helper

    file = onnx.load(gpu.folder / models["int8"]["path"])
    constants = {one.name: numpy_helper.to_array(one) for one in file.graph.initializer}
    pairs = [n for n in file.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs, "nothing is quantized"
    for node in pairs:
        zero = constants[node.input[2]]
        assert (zero.dtype, bool(zero.any())) == (np.int8, False), f"{node.name}: not int8 with 0"


def test_every_operator_is_listed_with_its_precision_and_inspect_reads_it_back(gpu: Built) -> None:
    told = gpu.summary["gpu"]["operators"]
    assert {one["precision"] for one in told} <= {"fp16", "fp32"}
    assert all((one["reason"] is None) == (one["precision"] == "fp16") for one in told)
    done = edgeslim("inspect", str(gpu.folder), "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["half_precision"]
    assert len(rows) == len(told)
    assert all(row["held"] in (None, row["planned"]["precision"]) for row in rows), "the file departs from the plan"
    assert sum(row["held"] is not None for row in rows) == 12, "a layer's weight was not found in the file"


def test_the_artifact_carries_the_builder_and_verifies(gpu: Built) -> None:
    manifest = json.loads((gpu.folder / "manifest.json").read_text())
    jsonschema.validate(manifest, json.loads((gpu.folder / "manifest.schema.json").read_text()))
    assert manifest["gpu"]["session_entries"] == {"session.disable_cpu_ep_fallback": "1"}
    assert manifest["gpu"]["agent_arguments"] == ["--provider", "TensorrtExecutionProvider", "--no-fallback"]
    done = edgeslim("verify", str(gpu.folder), "--json")
    assert done.returncode == 0, done.stderr
    assert {replay["status"] for replay in json.loads(done.stdout)["replays"]} == {"passed"}
    script = [sys.executable, "-P", str(gpu.folder / manifest["gpu"]["builder"])]
    done = subprocess.run(script, capture_output=True, text=True, env={"PATH": "/nowhere"}, check=False)
    assert done.returncode == 7, "an engine was built here"
    assert "trtexec is neither on PATH" in done.stderr


def test_a_bench_where_there_is_no_tensorrt_names_it_and_times_nothing_on_the_cpu(gpu: Built) -> None:
    done = edgeslim("bench", str(gpu.folder), "--processes", "1")
    assert done.returncode == 4, done.stderr
    text = " ".join(done.stderr.split())
    assert "this build of ONNX Runtime has no TensorrtExecutionProvider; it has" in text, "the reason is not named"
    assert not list((gpu.folder / "measurements").glob("*-local")), "something was measured"


def test_the_example_runs_the_fp16_file_on_a_cpu(gpu: Built, tmp_path: Path) -> None:
    Image.fromarray(np.load(gpu.folder / "golden" / "images.npy")[0, :, :, 0]).save(tmp_path / "boot.png")
    script = [sys.executable, "-P", str(gpu.folder / "run.py"), str(tmp_path / "boot.png")]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\t")[0] == "Ankle boot"


def test_an_output_that_overflows_fp16_is_refused_with_the_cure_and_nothing_is_written(
    images: Path, tmp_path: Path
) -> None:
    source = tmp_path / "loud.py"
    source.write_text(
        f"import sys; sys.path.insert(0, {str(Path(NET.rpartition(':')[0]).parent)!r})\n"
        f"from {Path(NET.rpartition(':')[0]).stem} import *\n"
        f"from {Path(NET.rpartition(':')[0]).stem} import {NET.rpartition(':')[2]} as quiet\n"
        "import torch\n"
        "class Loud(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.net = quiet()\n"
        "    def forward(self, x):\n"
        "        return self.net(x) * 1e7\n"
    )
    steps = (StepCall(step="fold"), StepCall(step="mixed_precision", settings={"io": "fp16"}))
    (tmp_path / "recipe.yaml").write_text(Recipe(steps=steps, formats=("onnx",)).text())
    out = tmp_path / "artifact"
    done = edgeslim(
        "build", f"{source}:Loud", "--weights", "random", "--data", str(images), "--device", "nvidia-cuda",
        "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    text = " ".join(done.stderr.split())
    assert "cannot take and give fp16" in text, "the refusal is not named"
    assert "overflows fp16" in text, "the reason is not named"
    assert "`io: fp32` in the step mixed_precision" in text, "the cure is not named"
    assert not out.exists(), "something was written"
