"""Tables of single operators in a folder of kept results: read whole or refused by name, replaced at once."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from edgeslim.errors import BadInput, ToolFailed
from edgeslim.model.operator import Operator
from edgeslim.resources import whole_file

Table = TypeVar("Table")
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, config=STRICT)
class OperatorTime:
    """What one operator takes, in seconds."""

    operator: Operator
    seconds: float


def file_name(words: Iterable[str], conditions: Any) -> str:
    """Return the name of the table of some conditions, a dataclass: words for a person, and the hash of them all."""
    digest = hashlib.sha256(json.dumps(asdict(conditions), sort_keys=True).encode()).hexdigest()[:8]
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", word) for word in (*words, digest)) + ".json"


def load_table(
    file: Path, adapter: TypeAdapter[Table], conditions: Any, rows: str, taken: str, again: str
) -> Table | None:
    """Return the table in a file, None where there is no file.

    `rows` is the field that its conditions, a dataclass, leave empty; `taken` and `again` say how its rows come about
    ("measured", "measuring"). ToolFailed, with the advice to delete it, for one that is damaged or of other conditions
    than its name says.
    """
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolFailed(f"{file} cannot be read: {error.strerror}") from error
    try:
        table = adapter.validate_json(text)
    except (ValidationError, BadInput) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise damaged(file, f"no table of operator {rows} ({fault})", again) from error
    if {**asdict(table), rows: ()} != asdict(conditions):  # type: ignore[call-overload] # a table is a dataclass
        raise damaged(file, f"its {rows} were {taken} under other conditions than its name says", again)
    return table


def damaged(file: Path, fault: str, again: str) -> ToolFailed:
    """Return the error of a table that cannot be used."""
    return ToolFailed(f"{file}: {fault}: the file is damaged; it only saves {again} again, so it can be deleted")


def save_table(file: Path, content: dict[str, Any]) -> None:
    """Replace the file at once: a reader meets the old table or the new one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_text(json.dumps(content) + "\n", encoding="utf-8")
    except OSError as error:
        raise ToolFailed(f"{file} cannot be written: {error.strerror}") from error
