"""A table in Markdown says what it says on a terminal, whatever stands in its cells."""

from edgeslim.table import Table, markdown, markdown_rows


def test_a_table_in_markdown_has_its_columns_rows_and_notes_in_order() -> None:
    table = Table("title", ("name", "count"), (("one", "1"), ("two", "")), ("a note", "another"), bold=frozenset({1}))
    assert markdown(table).splitlines() == [
        "| name | count |",
        "| --- | --- |",
        "| one | 1 |",
        "| **two** |  |",
        "",
        "- a note",
        "- another",
    ]


def test_a_table_without_notes_ends_with_its_last_row() -> None:
    assert markdown(Table("", ("a",), (("b",),))) == "| a |\n| --- |\n| b |\n"


def test_what_a_page_would_read_as_its_own_marks_is_shown_as_it_is() -> None:
    table = Table("", ("latency*",), (("a|b\nc <i> \\ \x1b[2J",),), ("* measured here", "`x|y *` stays code"))
    assert markdown(table).splitlines() == [
        r"| latency\* |",
        "| --- |",
        r"| a\|b<br>c \<i> \\ \\x1b[2J |",
        "",
        r"- \* measured here",
        r"- `x\|y *` stays code",
    ]


def test_cells_that_are_markdown_already_stay_as_they_are() -> None:
    assert markdown_rows(["`*.onnx`"], [["**bold**"]]) == "| `*.onnx` |\n| --- |\n| **bold** |"
