"""Tables on a terminal: what is in them is text, and commands no terminal obeys."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from edgeslim.report.tables import rendered
from edgeslim.table import Table
from edgeslim.units import plain


def page(shown: Table | str | list[Table | str], width: int = 100) -> str:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, markup=False).print(rendered(shown))
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


def test_a_column_without_a_heading_is_no_column() -> None:
    with pytest.raises(ValueError, match="a column without a heading"):
        Table("a title", ("file", ""), (("onnx", "valid"),))


WORDS = st.lists(st.text("abcdefghij0123456789.%", min_size=1, max_size=14), min_size=1, max_size=5).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(WORDS, min_size=1, max_size=9, unique=True))
    rows = draw(st.lists(st.tuples(*[WORDS for _ in columns]), min_size=1, max_size=4))
    some = st.sets(st.sampled_from(columns)).map(frozenset)
    return Table("a title", tuple(columns), tuple(rows), ("a note",), right=draw(some), whole=draw(some))


@settings(deadline=None, max_examples=60)
@given(table=tables(), width=st.sampled_from([60, 80, 100, 120]))
def test_no_word_is_cut_and_no_line_is_too_long_at_any_width(table: Table, width: int) -> None:
    text = page(table, width)
    words = {word for row in (table.columns, *table.rows) for cell in row for word in cell.split()}
    assert words <= set(text.split()), f"missing: {words - set(text.split())}"
    assert max(map(len, text.splitlines())) <= width


def test_a_table_too_wide_for_the_terminal_becomes_a_block_a_row_without_what_is_empty() -> None:
    table = Table("title", ("format", "latency"), (("onnx", "1.25"), ("tflite", "")), ("a note",))
    assert [line.rstrip() for line in page(table, 14).splitlines()] == [
        "title", "format   onnx", "latency  1.25", "", "format  tflite", "", "a note",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_builds_summary_cuts_no_value_at_any_width(width: int) -> None:
    columns = (
        "format",
        "precision",
        "size",
        "top-1, 95 % interval",
        "agrees with fp32",
        "int8 layers",
        "median latency*",
        "peak RSS*",
    )
    row = ("openvino", "int8", "1.53 MB", "94.55 % (94.09 to 94.98)", "97.49 %", "12 of 12", "1.07 ms ±14 %", "35 MiB")
    text = page(
        Table(
            "default-raspberry-pi-4 1.0.0: accepted",
            columns,
            (row,),
            whole=frozenset(columns) - {columns[3], columns[6]},
        ),
        width,
    )
    assert set(" ".join(row).split()) <= set(text.split())
    assert ("│" in text, "─" in text) == (width >= 100, width >= 80), "with its lines, without, and a block a row"
