"""Tables as data: what is shown is decided once, a terminal and a page render it alike."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeslim.units import plain

_CODE = re.compile("(`[^`\n]*`)")
_MARKS = re.compile(r"[\\*<|]")


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns, a title above and notes below.

    `right` holds the columns that are numbers; `whole` those that are never broken over lines; `bold` the places of the
    rows that stand out; `ends` those of the rows after which a line is drawn.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    right: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    bold: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not all(self.columns):
            raise ValueError(f"a column without a heading: {', '.join(self.columns)}")


def markdown(table: Table) -> str:
    """Return a table and its notes, a list, in Markdown; its title is left to the page that it stands on."""
    rows = (
        [f"**{cell}**" if place in table.bold and cell else cell for cell in map(_escaped, row)]
        for place, row in enumerate(table.rows)
    )
    notes = [f"- {_escaped(note)}" for note in table.notes]
    return "\n".join([markdown_rows(map(_escaped, table.columns), rows), *(["", *notes] if notes else []), ""])


def markdown_rows(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are Markdown already, without a line end behind it."""
    heads = list(columns)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Return text so that a page shows it as it is, on one line of its source; `code` stays code."""
    parts = _CODE.split(plain(text))
    for place, part in enumerate(parts):
        parts[place] = part.replace("|", r"\|") if place % 2 else _MARKS.sub(r"\\\g<0>", part)
    return "".join(parts).replace("\n", "<br>").strip()
