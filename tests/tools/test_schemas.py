"""The published schemas say what the strict readers do: they take what those take, and no key that those refuse."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from edgeslim.backends import backend_of
from edgeslim.compress import step_faults
from edgeslim.devices.profile import PROFILE_SCHEMA, DeviceProfile, known_devices, load_profile
from edgeslim.errors import BadInput
from edgeslim.recipe import RECIPE_SCHEMA, StepCall, load_recipe
from edgeslim.resources import bundled
from tests.support import REPOSITORY, TESTS

RECIPE, PROFILE = (Draft7Validator(json.loads(file.read_text())) for file in (RECIPE_SCHEMA, PROFILE_SCHEMA))
RECIPES = [
    "steps: []\nmax_latency_s: 5 ms\nmax_size_bytes: 1.5 MiB\n",
    "steps: []\nmax_latency_s: 0.005\nmax_size_bytes: 300000\nstrict: true\nmin_npu_ops_pct: 90\n",
    "steps:\n- {step: prune, settings: {importance: l1, allocation: uniform, keep_macs: 0.5, rounds: 2}}\n"
    "- step: fold\n- {step: equalize}\n"
    "- {step: quantize, settings: {rounding: gptq, keep_float: [stem], reduce_range: null}}\n",
    "steps: [{step: fold}, {step: legalize, settings: {rewrite: [auto, clip=no]}}, {step: quantize, settings: {}}]\n",
    "steps: [{step: fold}, {step: mixed_precision, settings: {io: fp16, headroom: 3}}]\nformats: [onnx]\n",
]
# What is wrong with these is what their sections say against each other, or how YAML is written: no schema sees it.
UNSEEN = {
    "compiler-without-its-runtime",
    "emulation-of-another-core",
    "estimator-counts-twice",
    "estimator-insns-beside-a-class",
    "estimator-of-no-clock",
    "estimator-speed-up-out-of-order",
    "estimator-with-a-class-left-out",
    "estimator-with-an-unknown-count",
    "failure-of-a-precision-not-offered",
    "fraction-of-a-byte",
    "key-twice",
    "multiple-of-one-precision-missing",
    "no-precision",
    "no-runtime",
    "not-yaml",
    "npu-section-of-a-cpu",
    "npu-without-its-section",
    "runtime-twice",
}
INVALID = [file for file in sorted((TESTS / "invalid_profiles").glob("*.yaml")) if file.stem not in UNSEEN]


def complaints(validator: Draft7Validator, says: Any) -> list[str]:
    return [error.message for error in validator.iter_errors(says)]


def profile_says(name: str) -> Any:
    return yaml.safe_load((bundled("device_profiles") / f"{name}.yaml").read_text())


def test_they_are_what_the_tool_writes() -> None:
    command = [sys.executable, REPOSITORY / "tools" / "schemas.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("validator", [RECIPE, PROFILE], ids=["recipe", "profile"])
def test_they_are_schemas_that_editors_can_read(validator: Draft7Validator) -> None:
    Draft7Validator.check_schema(validator.schema)
    assert not [one for one in sections(validator.schema) if "$ref" in one and len(one) > 1], "draft 7 reads $ref alone"


@pytest.mark.parametrize("name", known_devices())
def test_a_bundled_profile_and_the_recipe_of_its_device_follow_theirs(name: str) -> None:
    profile = load_profile(name)
    assert complaints(PROFILE, profile_says(name)) == []
    assert complaints(RECIPE, yaml.safe_load(backend_of(profile).default_recipe(profile).text())) == []


@pytest.mark.parametrize("text", RECIPES)
def test_a_recipe_that_is_read_follows_its_schema(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    load_recipe(tmp_path / "recipe.yaml", step_faults)
    assert complaints(RECIPE, yaml.safe_load(text)) == []


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_an_invalid_profile_whose_keys_or_values_are_wrong_is_refused(file: Path) -> None:
    assert complaints(PROFILE, yaml.safe_load(file.read_text()))


def test_a_profile_over_another_one_needs_no_whole_and_a_whole_one_needs_every_section() -> None:
    power = {"idle": {"value": "9 W", "source": "mine"}, "active": {"value": None}, "sensors": []}
    assert complaints(PROFILE, {"base": "raspberry-pi-4", "power": power}) == []
    assert complaints(PROFILE, {"power": power})
    assert complaints(PROFILE, profile_says("raspberry-pi-4") | {"calibrated": None}) == [
        "'base' is a dependency of 'calibrated'"
    ]


def sections(says: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping in what a file says."""
    if isinstance(says, dict):
        yield says
    for inside in says.values() if isinstance(says, dict) else says if isinstance(says, list) else []:
        yield from sections(inside)


@pytest.mark.parametrize("name", ["raspberry-pi-4", "nxp-imx93"])
def test_a_key_that_is_unknown_is_refused_wherever_it_stands(name: str) -> None:
    written = profile_says(name)
    for section in sections(written):
        section["unheard_of"] = 1
        assert complaints(PROFILE, written), f"beside {', '.join(section)}"
        del section["unheard_of"]


@pytest.mark.parametrize("text", RECIPES)
def test_a_key_that_is_unknown_in_a_recipe_is_refused_wherever_it_stands(text: str) -> None:
    written = yaml.safe_load(text)
    for section in sections(written):
        section["unheard_of"] = 1
        assert complaints(RECIPE, written), f"beside {', '.join(section)}"
        del section["unheard_of"]


OTHERS = st.sampled_from([None, True, 0, 1, -3, 1.5, "", "text", "5 ms", "3 GHz", "2 KiB", "onnx", [], ["fp32"], {}])


def places(says: Any) -> list[tuple[Any, Any]]:
    """Return every place of a value: the mapping or list that holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    for key, inside in says.items() if isinstance(says, dict) else enumerate(says) if isinstance(says, list) else ():
        found += [(says, key), *places(inside)]
    return found


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_the_reader_of_profiles_takes_its_schema_takes_too(data: st.DataObject) -> None:
    written = profile_says(data.draw(st.sampled_from(["raspberry-pi-4", "nxp-imx93", "jetson-orin-nano"])))
    holder, key = data.draw(st.sampled_from(places(written)))
    holder[key] = data.draw(OTHERS)
    try:
        DeviceProfile.model_validate(copy.deepcopy(written))
    except ValueError:
        return
    assert complaints(PROFILE, written) == []


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_the_reader_of_recipes_takes_its_schema_takes_too(data: st.DataObject, tmp_path_factory) -> None:
    written = yaml.safe_load(data.draw(st.sampled_from(RECIPES)))
    holder, key = data.draw(st.sampled_from(places(written)))
    holder[key] = data.draw(OTHERS)
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    file.write_text(yaml.safe_dump(written))
    try:
        load_recipe(file, step_faults)
    except BadInput:
        return
    assert complaints(RECIPE, written) == []


def test_every_step_has_its_settings_in_the_schema() -> None:
    steps = RECIPE.schema["properties"]["steps"]["items"]["anyOf"]
    for step in steps:
        name, said = step["properties"]["step"]["const"], step["properties"]["settings"]["properties"]
        defaults = {key: one["default"] for key, one in said.items() if one["default"] is not None}
        assert step_faults(StepCall(step=name, settings=defaults)) == [], name
