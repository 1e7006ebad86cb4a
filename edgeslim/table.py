"""Tables as data: what is shown is decided once, a terminal and a page render it alike."""

from dataclasses import dataclass


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
