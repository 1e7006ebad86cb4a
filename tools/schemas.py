"""Write the JSON Schemas of the files that edgeslim reads, from the code that reads them.

Editors take them for a recipe and a device profile (docs/recipes.md, docs/devices.md); every artifact carries those of
its manifest and its recipe. `--check` only says whether all are current.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from edgeslim.artifact.manifest import schema_text as manifest_schema
from edgeslim.compress import known_steps, technique
from edgeslim.devices.overlay import Head
from edgeslim.devices.profile import PROFILE_SCHEMA, DeviceProfile
from edgeslim.recipe import RECIPE_SCHEMA, Recipe
from edgeslim.resources import in_package

# What editors understand: most know no later draft.
DRAFT = "http://json-schema.org/draft-07/schema#"


def recipe_schema() -> str:
    """Return the schema of a recipe, in which every step has its own settings."""
    schema = Recipe.model_json_schema()
    steps = [_step(name) for name in known_steps()]
    schema["properties"]["steps"]["items"] = {"anyOf": steps}
    del schema["$defs"]
    return _text(schema)


def _step(name: str) -> dict[str, Any]:
    settings = TypeAdapter(technique(name).Settings).json_schema() | {"additionalProperties": False}
    told = (inspect.getdoc(technique(name)) or "").splitlines()[0]
    return {
        "type": "object",
        "properties": {"step": {"const": name, "description": told}, "settings": settings},
        "required": ["step"],
        "additionalProperties": False,
    }


def profile_schema() -> str:
    """Return the schema of a device profile: a whole one, or one that lies over the profile that `base` names."""
    schema, head = DeviceProfile.model_json_schema(), Head.model_json_schema()
    schema["$defs"] |= head["$defs"]
    schema["properties"] |= head["properties"]
    whole = {"required": schema.pop("required")}
    return _text(schema | {"if": {"required": ["base"]}, "else": whole, "dependencies": {"calibrated": ["base"]}})


def _text(schema: dict[str, Any]) -> str:
    return json.dumps({"$schema": DRAFT, **_untitled(schema)}, indent=2, ensure_ascii=False) + "\n"


def _untitled(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names: they say nothing that the name does not."""
    if isinstance(schema, list):
        return [_untitled(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _untitled(one) for key, one in schema.items() if not (key == "title" and isinstance(one, str))}


SCHEMAS: dict[Path, Callable[[], str]] = {
    RECIPE_SCHEMA: recipe_schema,
    PROFILE_SCHEMA: profile_schema,
    in_package("artifact/manifest.schema.json"): manifest_schema,
}


def main() -> int:
    """Write all schemas, or with --check return 1 when that would change one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    code = 0
    for file, made in SCHEMAS.items():
        if not check:
            file.write_text(made(), encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != made():
            print(f"{file.name} is not current: run tools/schemas.py", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
