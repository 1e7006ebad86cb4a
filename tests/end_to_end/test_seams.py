"""One module more is one accelerator or one task more: toys build to the end, and nothing outside knows any by name."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

import edgeslim
from edgeslim import backends, tasks
from edgeslim.artifact.archive import open_artifact
from edgeslim.errors import BadData, BadInput, BadModel, BadProfile
from edgeslim.pipeline.result import Rejected
from edgeslim.recipe import Recipe, StepCall, with_step_settings
from edgeslim.resources import bundled
from tests.support import REPOSITORY, TESTS
from tests.support.builds import NET, recipe_for
from tests.support.installed import skip_without
from tests.support.two_numbers import SIDE, measured_halves

PACKAGE = REPOSITORY / "edgeslim"
KNOWS = ("devices", "backends", "artifact/sections.py")
ASKED = re.compile(r"\.(compiler|tensorrt|npu|device_class|backend)\b|manifest\.(gpu|compiled)\b")
NAMES = re.compile(r"ethos|vela|tensorrt", re.IGNORECASE)
WORDS = r"top-?[15]\b|(?<!--)(?<!--no-)(?<!aux_)logits|\.classes\b|(?<!ATEN\.)log_softmax|cross_entropy|argmax\(1\)"
CLASSIFIES = re.compile(WORDS + r"|class_(names|order|folders)")
HALVES = f"{TESTS / 'support' / 'two_numbers.py'}:make"


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
    assert not lines_with(pattern, KNOWS)


def lines_with(pattern: re.Pattern[str], knows: tuple[str, ...]) -> list[str]:
    """Return the lines of the package that say what only some rooms and files should know."""
    return [
        f"{file.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if not str(file.relative_to(PACKAGE)).startswith(knows)
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


@pytest.fixture
def toy_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy task, whose module the package finds beside its own."""
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(TESTS / "support" / "toy_tasks")])


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """400 images of two halves, each of one brightness with noise on it, and how bright they are."""
    generator = np.random.default_rng(5)
    levels = generator.integers(20, 236, (400, 1, 2, 1)).repeat(SIDE // 2, axis=2)
    images = (levels + generator.integers(-20, 20, (400, SIDE, SIDE, 1))).astype(np.uint8)
    np.savez(tmp_path / "numbers.npz", images=images, numbers=measured_halves(images))
    return tmp_path / "numbers.npz"


def test_a_toy_task_is_pruned_quantized_and_judged_by_its_own_metric(
    toy_task: None, numbers: Path, tmp_path: Path
) -> None:
    skip_without("onnxruntime")
    chosen = recipe_for("raspberry-pi", prune=True, formats=("onnx",), max_drop_points=4.0)
    edgeslim.build(HALVES, device="raspberry-pi", data=str(numbers), recipe=chosen, out=tmp_path / "artifact")
    with open_artifact(tmp_path / "artifact.tar.gz") as artifact:
        manifest = artifact.manifest
        float_one, int8_one = (model.quality for model in manifest.models)
    assert (manifest.task.name, manifest.task.labels) == ("toy_numbers", ())
    assert [one.name for one in manifest.models[1].outputs] == ["numbers"]
    assert (int8_one.metric, int8_one.unit, int8_one.kind) == ("mean error", "grey levels", "accuracy")
    assert float_one.value < 1.0, "the network as it was given computes the numbers"
    assert float_one.value < int8_one.value <= float_one.value + 4.0
    assert manifest.model.parameters < manifest.model.original_parameters, "nothing was pruned by its marks"


def test_a_toy_task_refuses_what_falls_below_its_demand_in_its_own_words(
    toy_task: None, numbers: Path, tmp_path: Path
) -> None:
    skip_without("onnxruntime")
    chosen = recipe_for("raspberry-pi", prune=False, formats=("onnx",), max_drop_points=0.0)
    chosen = with_step_settings(chosen, "quantize", promote=False)  # which would keep layers float
    with pytest.raises(Rejected, match=r"onnx int8 loses [\d.]+ grey levels of mean error accuracy, 0 are allowed"):
        edgeslim.build(HALVES, device="raspberry-pi", data=str(numbers), recipe=chosen, out=tmp_path / "artifact")


def test_a_toy_task_refuses_a_network_and_data_that_do_not_fit_it(toy_task: None, numbers: Path) -> None:
    with pytest.raises(BadModel, match=r"returns \(1, 4\); two numbers are \(N, 2\)"):
        edgeslim.check(f"{TESTS / 'support' / 'two_numbers.py'}:four", device="raspberry-pi")
    with np.load(numbers) as file:
        np.savez(numbers, images=file["images"], numbers=file["numbers"][::-1])
    with pytest.raises(BadData, match=r"answers numbers\.npz no better than its mean does"):
        edgeslim.check(HALVES, device="raspberry-pi", data=str(numbers))


def test_what_a_classifier_is_stands_in_the_room_of_tasks_alone() -> None:
    knows = ("tasks", "model/default", "artifact/carried/run.py", "artifact/format_1.py")
    assert not lines_with(CLASSIFIES, knows)
