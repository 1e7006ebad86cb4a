"""Where a network came from and under which terms stands in its artifact, or that nobody said."""

import json
from pathlib import Path

import pytest

from edgeslim.errors import BadInput
from edgeslim.model.load import load_model
from edgeslim.pipeline.documents.provenance import provenance, spdx
from edgeslim.pipeline.result import Provenance
from tests.support import TESTS
from tests.support.builds import edgeslim
from tests.support.installed import skip_without

NET = f"{TESTS / 'support' / 'small_models.py'}:plain"
QUICK = ("--device", "raspberry-pi", "--weights", "random", "--data", "synthetic", "--no-prune", "--no-estimate")


def built(place: Path, *words: str) -> tuple[dict[str, str | None], str]:
    """Return what the manifest says of the model, and the model card."""
    done = edgeslim("build", NET, *QUICK, "--format", "onnx", "--out", str(place), "-q", *words)
    assert done.returncode == 0, done.stderr
    return json.loads((place / "manifest.json").read_text())["model"], (place / "MODEL_CARD.md").read_text()


def test_what_is_said_stands_in_manifest_and_model_card(tmp_path: Path) -> None:
    skip_without("onnxruntime")
    words = ("--origin", "trained by the bicycle team,\n2026", "--licence", "mit or apache-2.0")
    model, card = built(tmp_path / "artifact", *words)
    assert model["origin"] == "trained by the bicycle team, 2026"
    assert model["licence"] == "MIT OR Apache-2.0"
    assert "Origin: trained by the bicycle team, 2026\n\nLicence: MIT OR Apache-2.0\n\nTraining data of this" in card


def test_what_nobody_said_is_said_to_be_unknown(tmp_path: Path) -> None:
    skip_without("onnxruntime")
    model, card = built(tmp_path / "artifact")
    assert (model["origin"], model["licence"]) == (None, None)
    assert "Origin, licence and training data of this model were not given to edgeslim" in card


@pytest.mark.parametrize("words", ["Apache 2", "", "MIT AND", "proprietary"])
def test_a_licence_that_spdx_does_not_know_is_refused_before_any_work(words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"--licence `{words}`: expected an SPDX expression .*LicenseRef-NAME"):
        spdx(words)


@pytest.mark.parametrize("words", ["LicenseRef-Ours", "Apache-2.0 WITH LLVM-exception", "GPL-2.0-or-later"])
def test_a_licence_that_spdx_knows_is_taken(words: str) -> None:
    assert spdx(words.replace("GPL", "gpl")) == words


def test_of_the_bundled_network_it_is_known_and_not_to_be_said() -> None:
    bundled = load_model(None)
    assert provenance(bundled, None, None) == Provenance("trained for edgeslim on Fashion-MNIST", "MIT")
    with pytest.raises(BadInput, match="the bundled one's are known"):
        provenance(bundled, None, "MIT")
    assert provenance(load_model(None, "random"), "a seed", None) == Provenance("a seed", None)
