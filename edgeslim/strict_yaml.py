"""YAML files read strictly: whatever is wrong is named with its file, section and key, and what was expected."""

import re
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from edgeslim.bounds import MOST_YAML_BYTES, content_of
from edgeslim.errors import BadInput, near_misses

_DEEPER = re.compile(r"[\[{]|- (?=- )")  # what begins a list or a mapping within a line
MANY = 500  # of them; more may lie so deep that the C loader overruns its stack


def _loader_for(text: str) -> Any:
    """Return a loader of what JSON could hold too: a date is text.

    The one in C is about ten times faster; it is absent where PyYAML was built without libyaml.
    """
    many = sum(1 for _ in _DEEPER.finditer(text)) > MANY
    kind = yaml.SafeLoader if many else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = kind(text)
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in kind.yaml_implicit_resolvers.items()
    }
    return loader


_Ours = Literal["no_mapping", "unknown_key"]


class Section(BaseModel):
    """A mapping in a file: frozen, and a key it does not know is an error that names the near misses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, written: Any) -> Any:
        if isinstance(written, cls):
            return written
        if not isinstance(written, dict):
            keys = ", ".join(f"`{key}`" for key in cls.model_fields)
            raise _broken("no_mapping", f"expected a mapping with the keys {keys}; got `{written}`")
        for key in written:
            if key not in cls.model_fields:
                raise _broken("unknown_key", f"unknown key `{key}`{near_misses(str(key), cls.model_fields)}")
        return written


_SectionT = TypeVar("_SectionT", bound=Section)


def read_strictly(file: Path, kind: type[_SectionT], error: type[BadInput]) -> _SectionT:
    """Return the `kind` of section that `file` holds.

    Raises `error` with one line for each thing that is wrong; a key that stands twice is wrong too.
    """
    return validated(read_document(file, error), file, kind, error)


def validated(written: Any, file: Path, kind: type[_SectionT], error: type[BadInput]) -> _SectionT:
    """Return the `kind` of section that was read from `file`; raises `error` as `read_strictly`."""
    try:
        return kind.model_validate(written)
    except ValidationError as invalid:
        raise error("\n".join(f"{file.name}{explain(problem)}" for problem in invalid.errors())) from invalid


def read_document(file: Path, error: type[BadInput]) -> Any:
    """Return what a YAML file holds; raises `error` where it cannot be read, or a key stands twice in it."""
    try:
        text = content_of(file, MOST_YAML_BYTES).decode("utf-8")
    except (OSError, ValueError) as unreadable:
        raise error(f"{file}: cannot be read: {unreadable}") from unreadable
    try:
        loader = _loader_for(text)
        try:
            document = loader.get_single_node()
            _refuse_keys_twice(document, file.name, error)
            return None if document is None else loader.construct_document(document)
        finally:
            loader.dispose()
    except RecursionError as deep:
        raise error(f"{file.name}: not read: its lists and mappings lie too deep inside one another") from deep
    except (yaml.YAMLError, ValueError) as broken:  # a number of thousands of digits is the latter
        raise error(f"{file.name}: not YAML: {broken}") from broken


def _refuse_keys_twice(document: yaml.Node | None, file_name: str, error: type[BadInput]) -> None:
    """Raise `error` for a key that stands twice in one mapping: YAML would silently take the last."""
    waiting, seen = [document], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias, perhaps of a node that holds it
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    raise error(f"{file_name}: line {key.start_mark.line + 1}: key `{key.value}` stands twice")
                keys |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
                waiting.append(value)


def explain(problem: ErrorDetails) -> str:
    """Return " [section]: `key`: what was expected" for one of pydantic's errors."""
    path: list[str] = []
    for part in problem["loc"]:
        if isinstance(part, int):
            path[-1] += f"#{part + 1}"
        else:
            path.append(part)
    kind, message = problem["type"], problem["msg"]
    key = f"`{path.pop()}`: " if path and kind != "unknown_key" else ""
    section = f" [{'.'.join(path)}]" if path else ""
    if kind == "missing":
        return f"{section}: missing key {key.removesuffix(': ')}"
    if kind == "value_error":
        message = str(problem["ctx"]["error"])
    elif kind not in get_args(_Ours):
        expected = re.sub(r"^\w+ should (be|have|match)", "expected", message)
        expected = expected.replace("a valid string", "text").replace("a valid tuple", "a list")
        message = f"{expected}; got `{problem['input']}`"
    return f"{section}: {key}{message}"


def _broken(kind: _Ours, message: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{message}", {"message": message})
