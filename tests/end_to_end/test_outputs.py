"""A network with two heads: names, grids, golden vectors and tolerances an output, the same in every format."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import edgeslim
from edgeslim.artifact.archive import Artifact, pack
from edgeslim.artifact.verify import ReplayFailed
from edgeslim.compress.prune.channels import channels_of
from edgeslim.devices.machine import this_machine
from edgeslim.measure.harness import Workload
from edgeslim.model.load import load_model
from edgeslim.recipe import with_step_settings
from tests.support import TESTS
from tests.support.builds import recipe_for

TWO_HEADS = f"{TESTS / 'support' / 'two_heads.py'}:make"
NAMES = ["what", "where"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The network with random weights, half of its channels gone, in all three formats."""
    pruned = with_step_settings(recipe_for("raspberry-pi", prune=True), "prune", keep_channels=0.6)
    place = tmp_path_factory.mktemp("built") / "heads"
    return edgeslim.build(
        TWO_HEADS, device="raspberry-pi", weights="random", data="synthetic", recipe=pruned, out=place, estimate=False
    ).artifact


def test_no_channel_of_any_output_is_pruned(built: Artifact) -> None:
    groups = channels_of(load_model(TWO_HEADS, "random").graph).groups
    assert sorted(groups) == ["body.0", "body.3"], "a head's outputs are a group that can become narrower"
    assert built.manifest.model.parameters < 0.7 * built.manifest.model.original_parameters
    for model in built.manifest.models:
        assert [(one.name, one.shape) for one in model.outputs] == [("what", (1, 10)), ("where", (1, 27, 8, 8))]


def test_every_file_calls_its_outputs_by_the_networks_names(built: Artifact) -> None:
    for model in built.manifest.models:
        path = built.folder / model.path
        if model.format == "onnx":
            names = [one.name for one in onnx.load(path).graph.output]
        elif model.format == "openvino":
            names = [one.get_any_name() for one in openvino.Core().read_model(path).outputs]
        else:
            signature = Interpreter(str(path)).get_signature_list()["serving_default"]
            assert signature["inputs"] == ["input"]
            names = sorted(signature["outputs"])
        assert names == NAMES, model.path


def test_each_output_of_each_file_has_a_grid_a_tolerance_and_golden_vectors_of_its_own(built: Artifact) -> None:
    for model in built.manifest.models:
        what, where = model.outputs
        golden = [np.load(built.folder / one.golden) for one in (what, where)]
        assert [one.shape[1:] for one in golden] == [(10,), (27, 8, 8)]
        if model.precision == "fp32":
            assert min(what.sqnr_db or 0, where.sqnr_db or 0) >= 60
            continue
        assert what.scale is not None
        assert where.scale is not None
        assert where.scale > 20 * what.scale, "both lie on the grid of one"
        assert min(what.sqnr_db or 0, where.sqnr_db or 0) >= 10, "more is lost than what pruning took"
        for one, values in zip((what, where), golden, strict=True):
            steps = values / one.scale
            assert np.abs(steps - steps.round()).max() < 0.02, f"{model.path}: `{one.name}` lies on another grid"
            assert one.tolerance.kind == "lsb"
    assert {len(one.outputs) for one in built.manifest.models} == {2}


def test_an_output_that_is_no_longer_right_fails_by_name(built: Artifact, tmp_path: Path) -> None:
    edgeslim.verify(built.folder)
    spoilt = tmp_path / "staging"
    for entry in built.manifest.files:
        (spoilt / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (spoilt / entry.path).write_bytes((built.folder / entry.path).read_bytes())
    where = next(one for one in built.manifest.models if one.path == "models/model_int8.onnx").outputs[1]
    golden = np.load(spoilt / where.golden)
    golden[0, 3] += 20 * (where.scale or 0)
    np.save(spoilt / where.golden, golden)
    manifest = built.manifest.model_copy(update={"files": ()})
    artifact = pack(spoilt, manifest, tmp_path / "spoilt")
    with pytest.raises(ReplayFailed, match=r"models/model_int8\.onnx: outputs of `where` differ by up to"):
        edgeslim.verify(artifact.folder)


def test_the_quantized_files_agree_with_one_another_at_both_heads(built: Artifact) -> None:
    files = [one for one in built.manifest.models if one.precision == "int8"]
    assert [one.format for one in files] == ["onnx", "openvino", "tflite"]
    if this_machine().sums_saturate:  # OpenVINO's sums are others there
        files = [one for one in files if one.format != "openvino"]
    for place in range(2):
        first, *others = (np.load(built.folder / one.outputs[place].golden) for one in files)
        step = files[0].outputs[place].scale or 0.0
        for other in others:
            assert np.abs(first - other).max() <= 2.02 * step


def test_the_example_shows_what_is_no_logits_beside_the_likeliest_classes(built: Artifact, tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32, 3), 77, np.uint8)).save(tmp_path / "one.png")
    for path in ("models/model_int8.onnx", "models/model_int8.xml", "models/model_int8.tflite"):
        command = [sys.executable, "-I", built.folder / "run.py", tmp_path / "one.png", "--model", path]
        ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        *likeliest, where = ran.stdout.splitlines()
        assert len(likeliest) == 3
        assert where.split("\t")[:2] == ["where", "1x27x8x8"]


def test_a_bench_replays_both_heads_and_the_ledger_has_both(built: Artifact) -> None:
    plan = json.loads((built.folder / built.manifest.numerics).read_text())
    assert {"linear", "conv2d_2"} <= set(plan["edges"]), "a head's output is not in the plan"
    report = edgeslim.bench(built.folder, workload=Workload(processes=1, min_duration_s=0.05))
    assert not [one for measured in report.measurements for one in measured.seen if one.kind == "golden"]
