"""Tables on a terminal: what is in them is text, and commands no terminal obeys."""

import io

from rich.console import Console

from edgeslim.report.tables import rendered
from edgeslim.table import Table
from edgeslim.units import plain


def page(shown: Table | str | list[Table | str]) -> str:
    text = io.StringIO()
    Console(file=text, width=100, highlight=False, markup=False).print(rendered(shown))
    return text.getvalue()


def test_the_commands_of_a_terminal_are_spelled_out_wherever_they_come_from() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    text = page([Table(evil, ("a", "b"), ((evil, "x"),), (evil,)), evil])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("\\x1b]0;owned\\x07\\x1b[2J") == 4


def test_plain_text_of_any_language_stays_as_it_is() -> None:
    for text in ("µs ± 5 %", "größe\n\tzweite", "猫", "█▂"):
        assert plain(text) == text
    assert plain("a\rb\x00\u202e") == "a\\rb\\x00\\u202e"


def test_a_table_has_its_title_columns_rows_and_notes_in_order() -> None:
    text = page(
        Table("title", ("name", "count"), (("one", "1"), ("two", "22")), ("a note",), right=frozenset({"count"}))
    )
    places = [text.index(word) for word in ("title", "name", "one", "two", "a note")]
    assert places == sorted(places)
    assert "│     1 │" in text, "a number does not stand on the right"
