"""A network of operators that others write is built to the end, in all formats, and what is float is told by name."""

import json
from pathlib import Path

from tests.support import TESTS
from tests.support.builds import edgeslim, write_smooth_noise

NET = f"{TESTS / 'support' / 'ordinary_net.py'}:make"


def test_it_is_built_in_every_format_with_every_layer_on_integers(tmp_path: Path) -> None:
    images = write_smooth_noise(tmp_path / "images.npz")
    checked = edgeslim("check", NET, "--device", "raspberry-pi", "--weights", "random")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    place = tmp_path / "artifact"
    words = ["--device", "raspberry-pi", "--weights", "random", "--data", str(images)]
    wishes = ["--max-drop", "100", "--no-estimate", "--no-prune", "--json"]
    done = edgeslim("build", NET, *words, *wishes, "--out", str(place))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    told = {line.split()[3]: line for line in summary["in_float"]}
    assert set(told) == {"onnx", "openvino", "tflite"}
    assert all("group_norm (1x)" in line for line in told.values()), told
    manifest = json.loads((place / "manifest.json").read_text())
    integer = [one for one in manifest["models"] if one["precision"] == "int8"]
    assert len(integer) == 3
    for one in integer:
        layers = one["integer_layers"]
        assert layers["proven"] == layers["planned"] == 4, one
