"""Tables on a terminal."""

from rich import table as rich_table
from rich.console import Group, RenderableType
from rich.text import Text

from edgeslim.table import Table


def rendered(table: Table) -> RenderableType:
    """Return a table as the terminal shows it, its notes below."""
    shown = rich_table.Table(title=table.title, title_justify="left")
    for name in table.columns:
        shown.add_column(
            name, justify="right" if name in table.right else "left", no_wrap=name in table.whole, overflow="fold"
        )
    for row in table.rows:
        shown.add_row(*row)
    return Group(shown, *(Text(note) for note in table.notes))
