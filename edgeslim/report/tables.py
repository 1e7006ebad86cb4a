"""Tables on a terminal."""

import html
import shutil
import textwrap
from collections.abc import Sequence
from io import StringIO

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.text import Text

from edgeslim.table import Table
from edgeslim.units import plain

UNKNOWN_WIDTH = 130  # characters, where no terminal says how wide it is


def rendered(table: Table | str | Sequence[Table | str]) -> RenderableType:
    """Return a table as the terminal shows it, its notes below; lines of text, and several of both, as they follow.

    A table that is too wide for the terminal loses its lines, and if that does not do each row becomes a block: no word
    is ever broken.
    """
    if isinstance(table, str):
        return Text(plain(table))
    if not isinstance(table, Table):
        return Group(*map(rendered, table))
    return Group(_Fitting(table), *(Text(plain(note)) for note in table.notes))


def as_text(table: Table | str | Sequence[Table | str]) -> str:
    """Return what a terminal shows, without colours: as wide as this one, or COLUMNS, else 130 characters."""
    width = shutil.get_terminal_size((UNKNOWN_WIDTH, 1)).columns
    written = StringIO()
    Console(file=written, width=width, highlight=False, markup=False, color_system=None).print(rendered(table))
    return written.getvalue().rstrip("\n")


def as_html(table: Table | str | Sequence[Table | str]) -> str:
    """Return the same for a page."""
    return f'<pre style="line-height: 1.2; overflow-x: auto">{html.escape(as_text(table), quote=False)}</pre>'


class _Fitting:
    """A table that knows its width only when it is printed."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = len(self._table.columns)
        for lines, between in ((True, 3 * columns + 1), (False, 2 * columns - 1)):
            widths = _widths(self._table, options.max_width - between)
            if widths is not None:
                yield _grid(self._table, widths, lines=lines)
                return
        yield from _blocks(self._table)


def _widths(table: Table, room: int) -> list[int] | None:
    """Return how wide the columns are in so much room for all: no word is broken; None where that cannot be."""
    cells = [[plain(one) for one in column] for column in zip(table.columns, *table.rows, strict=True)]
    lines = [[line for cell in column for line in cell.split("\n")] for column in cells]
    widths = [max(map(cell_len, column)) for column in lines]
    least = [
        max(cell_len(one) for place, line in enumerate(column) for one in _unbroken(line, whole=place > 0 and kept))
        for column, kept in zip(lines, (name in table.whole for name in table.columns), strict=True)
    ]  # a column's name may break where its cells may not
    while sum(widths) > room:
        wider = [place for place, width in enumerate(widths) if width > least[place]]
        if not wider:
            return None
        widths[max(wider, key=widths.__getitem__)] -= 1
    return widths


def _unbroken(line: str, *, whole: bool) -> list[str]:
    """Return what of a line stays together: its words, or all of it."""
    return [line] if whole else line.split(" ")


def _grid(table: Table, widths: Sequence[int], *, lines: bool) -> rich_table.Table:
    shown = rich_table.Table(title=plain(table.title) or None, title_justify="left")
    if not lines:
        shown.box, shown.show_edge, shown.padding = SIMPLE_HEAD, False, (0, 1, 0, 0)
    for name, width in zip(table.columns, widths, strict=True):
        justify: JustifyMethod = "right" if name in table.right else "left"
        heading = "\n".join(textwrap.wrap(plain(name), width))
        shown.add_column(heading, justify=justify, no_wrap=name in table.whole, overflow="fold", width=width)
    for place, row in enumerate(table.rows):
        shown.add_row(*map(plain, row), style="bold" if place in table.bold else "", end_section=place in table.ends)
    return shown


def _blocks(table: Table) -> RenderResult:
    """Yield the title, then a block for each row: a line for each cell that holds something, beside its column."""
    if table.title:
        yield Text(plain(table.title), style="italic")
    for place, row in enumerate(table.rows):
        block = rich_table.Table.grid(padding=(0, 2))
        block.add_column(overflow="fold")
        block.add_column(overflow="fold")
        for name, cell in zip(table.columns, row, strict=True):
            if cell:
                block.add_row(plain(name), plain(cell), style="bold" if place in table.bold else "")
        yield block
        yield Text()
