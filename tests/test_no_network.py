"""Nothing here asks the network: not edgeslim itself, and none of the libraries it loads."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeslim.resources import bundled
from tests.support import REPOSITORY
from tests.support.offline import REFUSE

CHEAP_FUNCTIONS = """
import edgeslim
from edgeslim.devices.profile import all_profiles, load_profile
from edgeslim.model.load import load_model
from edgeslim.backends.cpu import default_recipe
default_recipe(load_profile("raspberry-pi")); all_profiles()
model = load_model()
data = model.task.read(None, model.facts)
model.network(next(data.selection.tensors()))
"""
# What loads a library, and which. Nothing in the environment helps: no switch, no consent file.
EXAMPLE = "import contextlib, run\nwith contextlib.suppress(Exception): run.run('{}', 'no such file', None)"
NAMED = "from edgeslim.model.load import load_model; load_model({!r}, 'random')"
CLASSIFIER = """
import json, pathlib, shutil
from edgeslim.model.load import load_model
pathlib.Path("bees").mkdir()
config = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "depths": [1],
          "hidden_sizes": [8], "embedding_size": 8, "layer_type": "basic", "num_labels": 3}
size = {"height": 32, "width": 32}
pathlib.Path("bees/config.json").write_text(json.dumps(config))
pathlib.Path("bees/preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor",
                                                                     "size": size}))
assert load_model("bees", "random").outputs[0].shape == (1, 3)
shutil.rmtree("bees")
"""
LOADED = {
    "model/sources/timm.py": ("timm", NAMED.format("timm:test_resnet")),
    "model/sources/huggingface.py": ("transformers", CLASSIFIER),
    "export/onnx.py": ("onnxruntime", "import edgeslim.export.onnx"),
    "export/openvino.py": ("openvino", "import edgeslim.export.openvino"),
    "export/tflite.py": ("litert_torch", "import edgeslim.export.tflite"),
    "runtime_onnxruntime.py": ("onnxruntime", "import runtime_onnxruntime"),
    "runtime_openvino.py": ("openvino", "import runtime_openvino"),
    "runtime_litert.py": ("ai_edge_litert", "import runtime_litert"),
    "run.py with onnxruntime": ("onnxruntime", EXAMPLE.format("onnxruntime")),
    "run.py with openvino": ("openvino", EXAMPLE.format("openvino")),
    "run.py with litert": ("ai_edge_litert", EXAMPLE.format("litert")),
}
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime 1.29 and later send events from Linux too
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


def run_python(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process with an empty home folder, outside of CI as far as libraries can tell."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    folders = [REPOSITORY, bundled("runtimes") / "python", REPOSITORY / "edgeslim" / "artifact" / "carried"]
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, folders))},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hook_sees_a_look_up_and_a_connection(tmp_path: Path) -> None:
    for use in ("socket.getaddrinfo('localhost', 80)", "socket.socket().connect(('127.0.0.1', 9))"):
        assert run_python(f"{REFUSE}import socket; {use}", tmp_path).returncode == 99, f"it did not see {use}"


def test_profiles_models_and_data_load_without_network(tmp_path: Path) -> None:
    done = run_python(REFUSE + CHEAP_FUNCTIONS, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("file", LOADED)
def test_a_library_leaves_no_identifier_behind_and_asks_no_network(file: str, tmp_path: Path) -> None:
    package, code = LOADED[file]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; pip install 'edgeslim[all]'")
    done = run_python(REFUSE + code, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    left = sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob("*") if entry.is_file())
    assert not left, f"through {file}, {package} left {left}: its telemetry is on"


def test_exporter_processes_run_with_every_switch_off(tmp_path: Path) -> None:
    ask = "import json; from edgeslim.export.process import child_environment; print(json.dumps(child_environment()))"
    environment = json.loads(run_python(ask, tmp_path).stdout)
    assert {name: environment.get(name) for name in SWITCHES} == SWITCHES, "a library may ask the network"
