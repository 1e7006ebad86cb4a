"""The example inside an artifact runs alone, in each runtime, and says what is wrong in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
pytest.importorskip("openvino", reason="openvino is not installed; pip install 'edgeslim[all]'")

from edgeslim.artifact.archive import check_integrity, pack
from tests.support.small_artifact import IMAGES, LABELS, expected_outputs


def run_example(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the artifact's run.py where no edgeslim can be found: away from it, with no path added and none inherited."""
    return subprocess.run(
        [sys.executable, "-I", folder / "run.py", *arguments], cwd="/", capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("image") / "one.png"
    Image.fromarray(IMAGES[0, :, :, 0]).save(file)
    return file


def likeliest() -> list[str]:
    return [LABELS[index] for index in np.argsort(-expected_outputs(IMAGES[:1])[0])[:3]]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "models/tiny_fp32.onnx"],
        ["--model", "models/tiny_fp32.xml"],
        ["--model", "models/tiny_fp32.tflite"],
    ],
    ids=["primary", "onnx", "openvino", "tflite"],
)
def test_the_example_prints_the_labels_numpy_expects(packed, image, arguments):
    ran = run_example(packed.folder, image, *arguments)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    assert [row[0] for row in rows] == likeliest(), "the example preprocesses or runs in another way"
    scores = expected_outputs(IMAGES[:1])[0]
    best = float(np.max(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()))
    assert float(rows[0][1]) == pytest.approx(best, abs=0.05), "the probability is no softmax"
    check_integrity(packed.folder)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["{image}", "--model", "golden/images.npy"],
            "golden/images.npy is no model of this artifact; it holds models/",
        ),
        (["{folder}/CONTENTS.md"], "CONTENTS.md: cannot be read as an image"),
        (["/nowhere.png"], "/nowhere.png: cannot be read as an image"),
    ],
)
def test_the_example_refuses_bad_input_in_one_line(packed, image, arguments, complaint):
    ran = run_example(packed.folder, *(text.format(image=image, folder=packed.folder) for text in arguments))
    assert ran.returncode == 2, ran.stdout
    assert complaint in ran.stderr
    assert ran.stderr.count("\n") == 1, f"more than one line: {ran.stderr}"


def test_the_example_says_that_the_artifact_was_rejected(staged, image, tmp_path):
    rejected = staged[1].model_copy(update={"status": "rejected", "reasons": ("drop of 3.1 points",), "primary": None})
    ran = run_example(pack(staged[0], rejected, tmp_path / "tiny").folder, image)
    assert "marked rejected: drop of 3.1 points" in ran.stderr
    assert "no model is marked primary" in ran.stderr
    assert ran.stdout.splitlines()[0].startswith(likeliest()[0]), "it did not run all the same"


def run_without(packages: list[str], folder: Path, image: Path) -> subprocess.CompletedProcess[str]:
    """Run run.py in an interpreter in which these packages cannot be imported."""
    script = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({packages!r}));"
        f"sys.argv = ['run.py', {str(image)!r}]; runpy.run_path({str(folder / 'run.py')!r}, run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", script]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def test_without_the_primarys_runtime_the_example_runs_another_model_and_says_so(packed, image):
    ran = run_without(["onnxruntime"], packed.folder, image)
    assert ran.stdout.splitlines()[0].startswith(likeliest()[0]), ran.stderr
    said = "running models/tiny_fp32.xml: models/tiny_int8.onnx needs onnxruntime, which is not installed"
    assert said in ran.stderr, "another model ran without a word"


def test_without_any_runtime_the_example_names_what_to_install(packed, image):
    ran = run_without(["onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime"], packed.folder, image)
    assert ran.returncode == 2, ran.stdout
    assert "no runtime is installed; install one of ai-edge-litert, onnxruntime, openvino" in ran.stderr
