"""What others wrote is read up to its bound: beyond it a sentence says so, and nothing was tried."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from edgeslim.artifact.manifest import MANIFEST, read_manifest
from edgeslim.bounds import MOST_YAML_BYTES, arrays_of, content_of
from edgeslim.compress import resolve_all
from edgeslim.errors import BadData, BadInput, BadModel, IntegrityFailed
from edgeslim.model.sources.weights import load_weights
from edgeslim.recipe import StepCall, load_recipe
from edgeslim.strict_yaml import read_document
from edgeslim.tasks.classification import load_data
from edgeslim.tasks.preprocessing import LARGEST_SIDE, Preprocessing

COLOR = Preprocessing(8, 8, 3, 8, (0.5,) * 3, (0.25,) * 3, "RGB")


def written(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 50_000, "- " * 50_000, "a: " + "[" * 50_000 + "]" * 50_000])
def test_what_lies_deep_inside_one_another_is_refused_and_overruns_no_stack(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"mine\.yaml: not"):
        load_recipe(written(tmp_path, text))


def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"mine\.yaml: not YAML: .*digits"):
        load_recipe(written(tmp_path, "steps: []\nmax_drop_points: " + "9" * 5000))


def test_a_date_is_text_and_no_setting(tmp_path: Path) -> None:
    assert read_document(written(tmp_path, "when: 2026-11-30\n"), BadInput).says == {"when": "2026-11-30"}
    recipe = load_recipe(written(tmp_path, "steps: [{step: quantize, settings: {rounding: 2026-11-30}}]\n"))
    with pytest.raises(BadInput, match="rounding"):
        resolve_all(recipe.steps)


def test_settings_with_keys_of_several_kinds_are_refused() -> None:
    with pytest.raises(BadInput, match="has no setting `1`"):
        resolve_all([StepCall.model_construct(step="quantize", settings={1: 2, "rounding": "gptq"})])


def test_ordinary_yaml_is_read_by_either_loader(tmp_path: Path) -> None:
    many = {"rows": [[number, {"a": number}] for number in range(600)]}
    file = written(tmp_path, yaml.safe_dump(many, default_flow_style=True))
    assert read_document(file, BadInput).says == many


def test_a_file_that_is_too_large_or_none_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has 4\.\d* MiB; 4 MiB are read at most"):
        load_recipe(written(tmp_path, "#" * (MOST_YAML_BYTES + 100_000)))
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(BadInput, match="is no plain file"):
        load_recipe(tmp_path / "pipe.yaml")
    with pytest.raises(ValueError, match="is no plain file"):
        content_of(tmp_path, 1)


def claiming(folder: Path, shape: str, name: str = "images.npy") -> Path:
    """Write an .npz whose array says that it has another shape than its bytes give."""
    stream = io.BytesIO()
    np.save(stream, np.zeros((4, 8, 8, 3), np.uint8))
    raw = stream.getvalue().replace(b"(4, 8, 8, 3)", shape.encode())
    length = len(raw) - 4 * 8 * 8 * 3 - 10
    raw = raw[:8] + length.to_bytes(2, "little") + raw[10:]
    with zipfile.ZipFile(folder / "set.npz", "w") as archive:
        archive.writestr(name, raw)
    return folder / "set.npz"


@pytest.mark.parametrize("shape", ["(1000000000000000, 8, 8, 3)", "(4, 8, 8, 300)"])
def test_an_array_is_as_large_as_what_is_stored_of_it(tmp_path: Path, shape: str) -> None:
    with pytest.raises(BadData, match=r"`images` claims \(.*\) of uint8, and holds"):
        load_data(str(claiming(tmp_path, shape)), COLOR, 4, bundled=False)


def test_an_array_that_stands_twice_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 8, 8, 3), np.uint8))
    with zipfile.ZipFile(tmp_path / "set.npz") as archive:
        raw = archive.read("images.npy")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "set.npz", "a") as archive:
        archive.writestr("images.npy", raw)
    with pytest.raises(ValueError, match="it holds `images` twice"):
        arrays_of(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.empty(4, 3, device="meta"), "a meta tensor"),
        (torch.zeros(4, 3).to_sparse(), "sparse"),
        (torch.zeros(4, 3, dtype=torch.complex64), "complex"),
    ],
    ids=["meta", "sparse", "complex"],
)
def test_a_weight_is_a_plain_tensor(tmp_path: Path, tensor: torch.Tensor, what: str) -> None:
    torch.save({"weight": tensor, "bias": torch.zeros(4)}, tmp_path / "w.pt")
    with pytest.raises(BadModel, match=rf"`weight` is {what}.*; expected a plain tensor of numbers"):
        load_weights(torch.nn.Linear(3, 4), tmp_path / "w.pt")


def test_names_that_are_none_make_no_state(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(2), "bias": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(BadModel, match="holds no state dict"):
        load_weights(torch.nn.Linear(3, 4), tmp_path / "w.pt")


@pytest.mark.parametrize("key", ["width", "resize"])
def test_an_image_has_sides_that_fit_a_memory(key: str) -> None:
    with pytest.raises(ValueError, match=rf"`{key}` is {LARGEST_SIDE + 1}; expected .* at most {LARGEST_SIDE}"):
        Preprocessing.from_dict({**COLOR.to_dict(), key: LARGEST_SIDE + 1})


def test_a_manifest_of_brackets_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"edgeslim-manifest/1": ' + "[" * 50_000)
    with pytest.raises(IntegrityFailed, match=r"manifest\.json: "):
        read_manifest(tmp_path)
