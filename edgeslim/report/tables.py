"""Tables on a terminal."""

from collections.abc import Sequence

from rich import table as rich_table
from rich.console import Group, RenderableType
from rich.text import Text

from edgeslim.table import Table
from edgeslim.units import plain


def rendered(table: Table | str | Sequence[Table | str]) -> RenderableType:
    """Return a table as the terminal shows it, its notes below; lines of text, and several of both, as they follow."""
    if isinstance(table, str):
        return Text(plain(table))
    if not isinstance(table, Table):
        return Group(*map(rendered, table))
    shown = rich_table.Table(title=plain(table.title) or None, title_justify="left")
    for name in table.columns:
        shown.add_column(
            name, justify="right" if name in table.right else "left", no_wrap=name in table.whole, overflow="fold"
        )
    for place, row in enumerate(table.rows):
        shown.add_row(*map(plain, row), style="bold" if place in table.bold else "", end_section=place in table.ends)
    return Group(shown, *(Text(plain(note)) for note in table.notes))
