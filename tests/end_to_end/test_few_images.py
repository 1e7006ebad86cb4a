"""Few labelled images beside many without labels: the artifact is written, and what they cannot judge is said."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import TESTS
from tests.support.builds import edgeslim
from tests.support.installed import skip_without

NET = f"{TESTS / 'support' / 'small_models.py'}:plain"
SAID = "not judged: 20 images, 100 needed for 1 points"


def archive(path: Path, count: int, seed: int, *, labelled: bool) -> str:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 2, 2, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    np.savez(path, images=images, **({"labels": generator.integers(0, 4, count)} if labelled else {}))
    return str(path)


@pytest.mark.parametrize(("more", "code"), [((), 0), (("--strict",), 3)])
def test_twenty_labelled_images_judge_nothing_and_the_artifact_is_written(
    more: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    skip_without("onnxruntime")
    place = tmp_path / "artifact"
    data = ["--calibration", archive(tmp_path / "many.npz", 500, 1, labelled=False)]
    data += ["--evaluation", archive(tmp_path / "few.npz", 20, 2, labelled=True)]
    wishes = ["--device", "raspberry-pi", "--weights", "random", "--no-prune", "--no-estimate", "--format", "onnx"]
    done = edgeslim("build", NET, *wishes, *data, *more, "--out", str(place), "--json")
    assert done.returncode == code, done.stderr
    assert SAID in json.loads(done.stdout)["warnings"]
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["not_judged"] == SAID
    assert manifest["status"] == ("rejected" if code else "accepted")
    assert manifest["reasons"] == ([f"{SAID} (--strict)"] if code else [])
    used = {name: manifest["data"][name] for name in ("calibration", "selection", "evaluation")}
    assert used == {"calibration": 250, "selection": 250, "evaluation": 20}
    assert manifest["data"]["labelled"]
