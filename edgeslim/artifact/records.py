"""What is kept beside an artifact: a JSON file for each record."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from edgeslim.errors import BadInput
from edgeslim.resources import whole_file

Kind = TypeVar("Kind")


def text_of(adapter: TypeAdapter[Any], record: object) -> str:
    """Return a record as JSON text that `read` reads back equal."""
    return adapter.dump_json(record, indent=2).decode() + "\n"


def read(adapter: TypeAdapter[Kind], text: str | bytes, source: str) -> Kind:
    """Return the record in a text; BadInput names `source` and every missing, unknown or mistyped key."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, fault['loc'])) or 'text'}: {fault['msg']}" for fault in error.errors()]
        raise BadInput(f"{source}: {'; '.join(reasons)}") from error


class Record(Protocol):
    """What can be kept beside an artifact: a measurement, or what was found out about a file in another way."""

    @property
    def label(self) -> str:
        """The file it is of."""

    def to_json(self) -> str:
        """Return all of it."""


def file_name(label: str) -> str:
    """Return the name of the file that holds the record with a label."""
    return re.sub(r"[^\w.+-]+", "_", label) + ".json"


def save(records: Iterable[Record], folder: Path) -> None:
    """Write each record, a measurement with its raw times, into `folder` as LABEL.json, whole or not at all.

    BadInput for two whose labels make one name; OSError where the folder cannot be written to.
    """
    texts: dict[str, str] = {}
    for one in records:
        name = file_name(one.label)
        if name in texts:
            raise BadInput(f"two records would be saved as {folder / name}; give them labels that differ")
        texts[name] = one.to_json()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with whole_file(folder / name) as part:
            part.write_text(text, encoding="utf-8")
