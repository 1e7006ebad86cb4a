"""YAML files read strictly: every fault is told at once, with its line, section and key, and what was expected."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from edgeslim.bounds import MOST_YAML_BYTES, content_of
from edgeslim.errors import BadInput, near_misses

KeyPath = tuple[str | int, ...]  # ("cores", 0, "count"): keys, and places in lists from 0 on
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


_Ours = Literal["no_mapping", "unknown_key", "contradiction"]
_UNKNOWN = ("extra_forbidden", "invalid_key")  # pydantic's; the latter is no text


class Section(BaseModel):
    """A mapping in a file: frozen, and a key it does not know is an error that names the near misses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def faults(self) -> Iterable[str]:
        """Return what contradicts itself here, a sentence each; asked where every key could be read."""
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _tell_every_fault(cls, written: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(written, cls | dict):
            keys = ", ".join(f"`{key}`" for key in cls.model_fields)
            raise _broken("no_mapping", f"expected a mapping with the keys {keys}; got `{written}`")
        try:
            section = read(written)
        except ValidationError as invalid:
            raise ValidationError.from_exception_data(cls.__name__, list(_in_our_words(cls, invalid))) from invalid
        if faults := list(section.faults()):
            told = [InitErrorDetails(type=_broken("contradiction", one), input=written) for one in faults]
            raise ValidationError.from_exception_data(cls.__name__, told)
        return section


def _in_our_words(section: type[Section], invalid: ValidationError) -> Iterator[InitErrorDetails]:
    """Yield what is wrong in a section, as it is raised again: a key that it does not have with its near misses.

    A key that is missing and one that was meant for it are one fault. Sections inside have told theirs so already.
    """
    unknown = {one["loc"]: str(one["loc"][0]) for one in invalid.errors() if one["type"] in _UNKNOWN}
    meant = {loc: near_misses(key, section.model_fields) for loc, key in unknown.items()}
    for problem in invalid.errors():
        kind: Any = problem["type"]
        loc = problem["loc"]
        if kind == "missing" and len(loc) == 1 and any(f"`{loc[0]}`" in one for one in meant.values()):
            continue
        if loc in unknown:
            kind = _broken("unknown_key", f"unknown key `{unknown[loc]}`{meant[loc]}")
        elif kind in get_args(_Ours):
            kind = _broken(kind, problem["msg"])
        yield InitErrorDetails(type=kind, loc=loc, input=problem["input"], ctx=problem.get("ctx", {}))


def _broken(kind: _Ours, message: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{message}", {"message": message})


_SectionT = TypeVar("_SectionT", bound=Section)


class Position(NamedTuple):
    """Where in a file something begins, from 1 on; (0, 0) is the file as a whole."""

    line: int = 0
    column: int = 0

    @classmethod
    def of(cls, node: yaml.Node) -> Self:
        """Return where a node begins."""
        return cls(node.start_mark.line + 1, node.start_mark.column + 1)


class Fault(NamedTuple):
    """What is wrong in one of the documents of a file; faults sort in the order of those, and in that of its lines."""

    document: int
    position: Position
    text: str  # " [section]: what", after the name of the file and the line


@dataclass(frozen=True)
class Document:
    """What a YAML file says, on which lines, and which of its keys stand twice: YAML takes the last without a word."""

    name: str
    says: Any
    root: yaml.Node | None
    keys_twice: tuple[tuple[KeyPath, Position], ...] = ()

    def position(self, path: KeyPath) -> Position:
        """Return where a key or an item begins, as far as its path leads here."""
        node, found = self.root, Position()
        for part in path:
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                node = node.value[part]
                found = Position.of(node)
                continue
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            bearing = [pair for pair in pairs if pair[0].value == str(part)]
            if not bearing:
                break
            key, node = bearing[-1]
            found = Position.of(key)
        return found


def editor_line(schema: str) -> str:
    """Return the first line of a YAML file that names its JSON Schema to editors: a URL, or a path from the file."""
    return f"# yaml-language-server: $schema={schema}\n"


def read_strictly(file: Path, kind: type[_SectionT], error: type[BadInput]) -> _SectionT:
    """Return the `kind` of section that `file` holds.

    Raises `error` with a line for each thing that is wrong, in the order of the file; a key that stands twice is
    wrong too.
    """
    document = read_document(file, error)
    section, faults = read_section(document.says, kind, [document])
    return faultless(section, faults, [document], error)


def read_section(
    says: Any, kind: type[_SectionT], documents: Sequence[Document]
) -> tuple[_SectionT | None, list[Fault]]:
    """Return the `kind` of section that `documents` say together, None where it cannot be read, and every fault.

    A key is of the first document that has it.
    """
    try:
        return kind.model_validate(says), []
    except ValidationError as invalid:
        return None, [fault_at(one["loc"], explain(one), documents) for one in invalid.errors()]


def fault_at(path: KeyPath, text: str, documents: Sequence[Document]) -> Fault:
    """Return a fault of a key or an item, which is of the first document that has it."""
    owners = [
        number for number, one in enumerate(documents) if path and isinstance(one.says, dict) and path[0] in one.says
    ]
    owner = owners[0] if owners else 0
    return Fault(owner, documents[owner].position(path), text)


def faultless(
    section: _SectionT | None, faults: Iterable[Fault], documents: Sequence[Document], error: type[BadInput]
) -> _SectionT:
    """Return a section that was read; raises `error` with every fault, keys that stand twice among them."""
    twice = [
        Fault(number, position, f"{in_section(path[:-1])}: key `{path[-1]}` stands twice")
        for number, one in enumerate(documents)
        for path, position in one.keys_twice
    ]
    lines = [_with_place(one, documents) for one in sorted([*faults, *twice], key=lambda one: one[:2])]
    if section is None or lines:
        raise error("\n".join(lines))
    return section


def _with_place(fault: Fault, documents: Sequence[Document]) -> str:
    name, line = documents[fault.document].name, fault.position.line
    return f"{name}:{line}{fault.text}" if line else f"{name}{fault.text}"


def read_document(file: Path, error: type[BadInput]) -> Document:
    """Return what a YAML file says; raises `error` where it cannot be read."""
    try:
        text = content_of(file, MOST_YAML_BYTES).decode("utf-8")
    except (OSError, ValueError) as unreadable:
        raise error(f"{file}: cannot be read: {unreadable}") from unreadable
    try:
        loader = _loader_for(text)
        try:
            root = loader.get_single_node()
            twice = tuple(_keys_twice(root))  # before `<<` is resolved, under which a key may stand again
            return Document(file.name, None if root is None else loader.construct_document(root), root, twice)
        finally:
            loader.dispose()
    except RecursionError as deep:
        raise error(f"{file.name}: not read: its lists and mappings lie too deep inside one another") from deep
    except (yaml.YAMLError, ValueError) as broken:  # a number of thousands of digits is the latter
        raise error(f"{file.name}: not YAML: {broken}") from broken


def _keys_twice(root: yaml.Node | None) -> Iterator[tuple[KeyPath, Position]]:
    """Yield every key that stands in its mapping before, and where."""
    waiting: list[tuple[yaml.Node | None, KeyPath]] = [(root, ())]
    seen = set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:  # an alias, perhaps of a node that holds it
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, (*path, place)) for place, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                inside = (*path, "?" if name is None else name)
                if name in keys:
                    yield inside, Position.of(key)
                keys |= set() if name is None else {name}
                waiting.append((value, inside))


def explain(problem: ErrorDetails) -> str:
    """Return " [section]: `key`: what was expected" for one of pydantic's errors."""
    path, kind, message = problem["loc"], problem["type"], problem["msg"]
    if kind == "unknown_key":
        return f"{in_section(path[:-1])}: {message}"
    if kind == "missing":
        return f"{in_section(path[:-1])}: missing key `{path[-1]}`"
    if kind == "value_error":
        message = str(problem["ctx"]["error"])
    elif kind not in get_args(_Ours):
        expected = re.sub(r"^\w+ should (be|have|match)", "expected", message)
        expected = expected.replace("a valid string", "text").replace("a valid tuple", "a list")
        message = f"{expected}; got `{problem['input']}`"
    *above, key = _named(path) or [""]
    return f"{_bracketed(above)}: `{key}`: {message}" if key else f": {message}"


def in_section(path: KeyPath) -> str:
    """Return " [cores#1]" of the path to a section, nothing of the file itself."""
    return _bracketed(_named(path))


def _bracketed(names: Sequence[str]) -> str:
    return f" [{'.'.join(names)}]" if names else ""


def _named(path: KeyPath) -> list[str]:
    """Return the keys of a path, a place in a list with its key: `cores#1` is the first."""
    names: list[str] = []
    for part in path:
        if isinstance(part, int) and names:
            names[-1] += f"#{part + 1}"
        else:
            names.append(str(part))
    return names
