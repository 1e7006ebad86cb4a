"""The examples of the documentation run to their ends, offline, as a reader would run them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY
from tests.support.installed import skip_without
from tests.support.offline import REFUSE

EXAMPLES = REPOSITORY / "docs" / "examples"
NOTEBOOK = EXAMPLES / "first_build.ipynb"
RUN_NOTEBOOK = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""
WITHOUT_EDGESLIM = """
import runpy, sys
sys.modules["edgeslim"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FEW_EPOCHS = "2"


@pytest.fixture(autouse=True)
def runtime() -> None:
    skip_without("onnxruntime")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples, so that none leans on where it lies."""
    return shutil.copytree(EXAMPLES, tmp_path_factory.mktemp("copied") / "examples")


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that Python imports at its start, which ends a process that asks the network."""
    folder = tmp_path_factory.mktemp("hook")
    (folder / "sitecustomize.py").write_text(REFUSE)
    return folder


@pytest.fixture(scope="module")
def clothes(examples: Path, hook: Path) -> Path:
    """Images by class, 2,512 to train with and 1,000 that judge."""
    told = run([sys.executable, examples / "write_images.py", examples / "clothes", "--test", "1000"], hook)
    assert told.startswith("2512 images in"), told
    return examples / "clothes"


@pytest.fixture(scope="module")
def built(examples: Path, clothes: Path, hook: Path) -> "tuple[Path, str]":
    """The artifact of a module, built from Python, and what the example printed."""
    script = [sys.executable, examples / "build_module.py", clothes, examples / "artifact", "--epochs", FEW_EPOCHS]
    return examples / "artifact", run(script, hook)


def run(command: list[str | Path], hook: Path) -> str:
    """Run an example with this Python first in the path; fail with its stderr, return its stdout."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, (hook, REPOSITORY))),
    }
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_module_is_built_from_python(built: "tuple[Path, str]") -> None:
    artifact, printed = built
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert (manifest["status"], manifest["primary"]) == ("accepted", "models/model_int8.onnx")
    assert manifest["model"]["source"] == "module:LittleNet"
    assert manifest["data"]["evaluation"] == 1000, "other images than those of `test` judge"
    assert printed.count("golden vectors agree") == 2


def test_a_folder_of_images_is_built_on_the_command_line(examples: Path, tmp_path: Path, hook: Path) -> None:
    printed = run([examples / "build_folder.sh", tmp_path / "made", FEW_EPOCHS], hook)
    manifest = json.loads((tmp_path / "made" / "artifact" / "manifest.json").read_text())
    assert manifest["status"] == "accepted"
    assert manifest["data"] == {**manifest["data"], "labelled": True, "evaluation": 1000}
    assert "can be built for raspberry-pi" in printed
    assert "10 folders, by the model's labels" in printed


def test_an_artifact_is_read_without_edgeslim(built: "tuple[Path, str]", examples: Path, clothes: Path) -> None:
    images = sorted((clothes / "test" / "trousers").iterdir())[:20]
    script = [
        sys.executable,
        "-c",
        WITHOUT_EDGESLIM,
        str(examples / "read_artifact.py"),
        str(built[0]),
        *map(str, images),
    ]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *answers = done.stdout.splitlines()
    assert "golden vectors are met by models/model_int8.onnx" in first
    assert sum(line.split("\t")[1] == "trousers" for line in answers) > 10, "fewer than half are named rightly"


def test_a_changed_artifact_is_refused_by_who_reads_it(
    built: "tuple[Path, str]", examples: Path, clothes: Path, tmp_path: Path
) -> None:
    artifact = shutil.copytree(built[0], tmp_path / "artifact")
    with (artifact / "models" / "model_int8.onnx").open("ab") as file:
        file.write(b"\0")
    image = next((clothes / "test" / "bag").iterdir())
    done = subprocess.run(
        [sys.executable, examples / "read_artifact.py", artifact, image], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "models/model_int8.onnx is not what SHA256SUMS says" in done.stderr


def test_the_notebook_runs_to_its_end(tmp_path: Path) -> None:
    if importlib.util.find_spec("nbclient") is None or importlib.util.find_spec("ipykernel") is None:
        pytest.skip("nbclient or ipykernel is not installed; pip install 'edgeslim[test]'")
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-c", RUN_NOTEBOOK, NOTEBOOK.name],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path / "ipython")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads((folder / NOTEBOOK.name).read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    told = "".join(line for output in outputs for line in output.get("text", []))
    pages = ["".join(output["data"]["text/html"]) for output in outputs if "text/html" in output.get("data", {})]
    assert any(": accepted" in page for page in pages), "the report is not shown as the command line shows it"
    assert "4 of 4 layers are integer" in told
    assert "median" in told, "nothing was compared"


def test_the_notebook_holds_no_outputs_that_could_be_stale() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")], (
        "strip them: what it prints is what running it prints"
    )
