"""One module more is one kind of accelerator more: a toy builds to the end, and nothing outside knows any by name."""

import gzip
import re
from pathlib import Path

import pytest

import edgeslim
from edgeslim import backends
from edgeslim.artifact.archive import open_artifact
from edgeslim.errors import BadInput, BadProfile
from edgeslim.recipe import Recipe, StepCall
from edgeslim.resources import bundled
from tests.support import REPOSITORY, TESTS
from tests.support.builds import NET
from tests.support.installed import skip_without

PACKAGE = REPOSITORY / "edgeslim"
KNOWS = ("devices", "backends", "artifact/sections.py")
ASKED = re.compile(r"\.(compiler|tensorrt|npu|device_class|backend)\b|manifest\.(gpu|compiled)\b")
NAMES = re.compile(r"ethos|vela|tensorrt", re.IGNORECASE)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The profile of a device with the toy accelerator, whose module the package finds beside its own."""
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(TESTS / "support" / "toy_backends")])
    host = (bundled("device_profiles") / "x86-64-host.yaml").read_text()
    profile = tmp_path / "toy-board.yaml"
    named = host.replace("name: x86-64-host", "name: toy-board\nbackend: toy_dsp").replace("aliases: [host]", "")
    profile.write_text(named.replace("  any_machine: true", "  cpu_models: [nobody's]"))
    return profile


def test_a_toy_accelerator_builds_to_the_end(toy: Path, images: Path, tmp_path: Path) -> None:
    skip_without("onnxruntime")
    report = edgeslim.build(NET, device=toy, weights="random", data=str(images), out=tmp_path / "artifact")
    with open_artifact(tmp_path / "artifact.tar.gz") as artifact:
        manifest = artifact.manifest
        assert manifest.primary == "models/model_int8.onnx"
        assert manifest.compatible.device == "toy-board"
        program = gzip.decompress((artifact.folder / "models" / "program.toy").read_bytes())
        assert program == (artifact.folder / manifest.primary).read_bytes()
    assert "the toy was never seen by anyone" in report.warnings
    assert report.measurements == ()


def test_what_a_toy_accelerator_refuses_is_refused_before_any_work(toy: Path, tmp_path: Path) -> None:
    recipe = Recipe(steps=(StepCall(step="fold"),), formats=("tflite",))
    with pytest.raises(BadInput, match=r"toy-board takes ONNX alone \(--format onnx\)"):
        edgeslim.build(NET, device=toy, weights="random", recipe=recipe, out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
    found = edgeslim.check("torchvision:squeezenet1_1", device=toy)
    assert "torchvision:squeezenet1_1 has more weights than 100,000" in found.reasons


def test_a_profile_that_names_no_backend_there_is_is_refused_with_near_misses(toy: Path) -> None:
    toy.write_text(toy.read_text().replace("toy_dsp", "toy_dps"))
    with pytest.raises(BadProfile, match="no backend `toy_dps`; did you mean `toy_dsp`"):
        edgeslim.check(device=toy)


@pytest.mark.parametrize("pattern", [ASKED, NAMES], ids=["asked", "named"])
def test_no_accelerator_is_known_outside_the_rooms_that_know_them(pattern: re.Pattern[str]) -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not str(file.relative_to(PACKAGE)).startswith(KNOWS)
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)
