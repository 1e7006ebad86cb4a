"""The manifest is read strictly, and its published schema is the one it follows."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

pytest.importorskip("onnx", reason="onnx is not installed; pip install 'edgeslim[all]'")
pytest.importorskip("openvino", reason="openvino is not installed; pip install 'edgeslim[all]'")

from edgeslim.artifact import manifest as manifest_module
from edgeslim.artifact.archive import _contradictions
from edgeslim.artifact.manifest import MANIFEST, Manifest, manifest_text, read_manifest, schema_text
from edgeslim.errors import IntegrityFailed


def _first_input(manifest: dict, **changes: object) -> dict:
    first, *others = manifest["models"]
    changed = first | {"inputs": [first["inputs"][0] | changes]}
    return manifest | {"models": [changed, *others]}


def compiled(made_from: str = "models/tiny_int8.onnx", **changes: object) -> dict:
    """Return the entry of a compiled file."""
    figures = ("inference_s", "cycles", *(f"{m}{k}_bytes" for m in ("sram", "flash", "dram") for k in ("", "_moved")))
    return {
        "path": "models/tiny_vela.tflite", "made_from": made_from, "bytes": 1, "compiler": "ethos-u-vela",
        "compiler_version": "5.2.0", "accelerator_config": "ethos-u65-256", "system_config": "a", "memory_mode": "b",
        "config": "compiler/vela.ini", "config_sha256": "0" * 64, "goal": "Size", "npu_operators": {"Conv2D": 1},
        "cpu_operators": [], "npu_pct": 100.0, "reports": [],
        "simulated": dict.fromkeys(figures, 1) | {"known_error": "none known"}, **changes,
    }  # fmt: skip


def test_the_manifest_follows_its_published_schema(packed):
    schema = json.loads((packed.folder / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((packed.folder / MANIFEST).read_text()), schema)


def test_the_published_schema_is_the_generated_one():
    published = Path(manifest_module.__file__).with_name("manifest.schema.json")
    assert published.read_text() == schema_text(), "run tools/schemas.py"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda m: m | {"primary": "models/none.onnx"}, "primary: `models/none.onnx` is none of the models"),
        (lambda m: m | {"status": "rejected"}, "a rejected artifact has reasons"),
        (lambda m: m | {"reasons": ["too slow"]}, "an accepted one has none"),
        (lambda m: m | {"task": m["task"] | {"labels": ["one"]}}, "task: 1 labels for 4 values of `scores`"),
        (lambda m: m | {"numerics": "../numerics.json"}, "[numerics] String should match pattern"),
        (lambda m: m | {"numerics": "/numerics.json"}, "[numerics] String should match pattern"),
        (lambda m: m | {"model": m["model"] | {"flops": 1}}, "flops is 1; expected 2 x macs"),
        (lambda m: m | {"models": [m["models"][0]] * 2}, "two models have the same path"),
        (lambda m: _first_input(m, dtype="int8"), "`image` is int8 and has no scale and zero_point"),
        (
            lambda m: _first_input(m, dtype="int16"),
            "inputs.0.dtype] Input should be 'float32', 'float16' or 'int8'",
        ),
        (lambda m: m | {"compiled": compiled("models/gone.tflite")}, "compiled: `models/gone.tflite` is none of the"),
        (lambda m: m | {"compiled": compiled(simulated={})}, "[compiled.simulated.inference_s] Field required"),
        (lambda m: m | {"format": "edgeslim-manifest/2"}, "[format] Input should be 'edgeslim-artifact/2'"),
        (lambda m: m | {"surprise": 1}, "unknown key `surprise`"),
        (lambda m: m | {"preprocessing": m["preprocessing"] | {"gamma": 2}}, "unknown key `preprocessing.gamma`"),
        (lambda m: m | {"data": m["data"] | {"labelled": "yes"}}, "[data.labelled] Input should be a valid boolean"),
    ],
)
def test_a_manifest_that_breaks_the_rules_is_refused_by_key(packed, tmp_path, spoil, complaint):
    (tmp_path / MANIFEST).write_text(json.dumps(spoil(json.loads(manifest_text(packed.manifest)))))
    with pytest.raises(IntegrityFailed, match=re.escape(complaint)):
        read_manifest(tmp_path)


def test_the_compiled_file_may_be_primary_and_its_files_must_be_there(packed):
    raw = json.loads(manifest_text(packed.manifest)) | {"compiled": compiled(), "primary": "models/tiny_vela.tflite"}
    made = Manifest.model_validate_json(json.dumps(raw))
    assert made.compiled is not None
    assert made.compiled.simulated.kind == "simulated"
    problems = _contradictions(made)
    assert "`models/tiny_vela.tflite` is named, but not among the files" in problems
    assert "`compiler/vela.ini` is named, but not among the files" in problems
