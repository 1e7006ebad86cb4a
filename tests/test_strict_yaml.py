"""A file is read once and every fault in it is told: in the order of its lines, each with its section and key."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeslim.errors import BadInput
from edgeslim.strict_yaml import Section, read_strictly


class Inner(Section):
    """A section inside another."""

    low: int
    high: int

    def faults(self) -> Iterator[str]:
        """Yield what is out of order or out of bounds."""
        if self.low > self.high:
            yield "`low` is above `high`"
        if self.high > 100:
            yield "`high` is above 100"


class Outer(Section):
    """A file."""

    name: str
    first: Inner
    many: tuple[Inner, ...] = ()


def faults_of(folder: Path, text: str) -> list[str]:
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(BadInput) as refused:
        read_strictly(folder / "mine.yaml", Outer, BadInput)
    return str(refused.value).splitlines()


def test_faults_of_every_kind_are_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = """\
many:
  - {low: 1, high: two}
  - low: 5
    high: 1
first:
  low: 1
  hihg: 2
  colour: red
nmae: me
many: [{low: 3}, 7]
"""
    assert faults_of(tmp_path, text) == [
        "mine.yaml:7 [first]: unknown key `hihg`; did you mean `high`?",
        "mine.yaml:8 [first]: unknown key `colour`",
        "mine.yaml:9: unknown key `nmae`; did you mean `name` or `many`?",
        "mine.yaml:10: key `many` stands twice",
        "mine.yaml:10 [many#1]: missing key `high`",
        "mine.yaml:10: `many#2`: expected a mapping with the keys `low`, `high`; got `7`",
    ]


def test_two_faults_of_a_line_stand_in_its_order(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "name: me\nfirst: {high: x, low: y}\n") == [
        "mine.yaml:2 [first]: `high`: expected a valid integer, unable to parse string as an integer; got `x`",
        "mine.yaml:2 [first]: `low`: expected a valid integer, unable to parse string as an integer; got `y`",
    ]


def test_every_contradiction_is_told_beside_what_is_wrong_elsewhere(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "name: []\nfirst:\n  low: 300\n  high: 200\n") == [
        "mine.yaml:1: `name`: expected text; got `[]`",
        "mine.yaml:2: `first`: `low` is above `high`",
        "mine.yaml:2: `first`: `high` is above 100",
    ]


def test_a_key_that_is_missing_and_its_misspelling_are_one_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "naem: me\n") == [
        "mine.yaml: missing key `first`",
        "mine.yaml:1: unknown key `naem`; did you mean `name`?",
    ]


def test_a_key_under_a_merge_may_stand_again_and_is_found_where_it_stands(tmp_path: Path) -> None:
    text = "name: me\nfirst: &a {low: 1, high: 2}\nmany:\n  - <<: *a\n    high: 3\n  - <<: *a\n    high: 0\n"
    assert faults_of(tmp_path, text) == ["mine.yaml:6: `many#2`: `low` is above `high`"]


def test_a_section_that_holds_itself_ends(tmp_path: Path) -> None:
    found = faults_of(tmp_path, "name: me\nfirst: &a\n  low: 1\n  high: *a\n")
    assert [line.partition("expected")[0] for line in found] == ["mine.yaml:4 [first]: `high`: "]


def test_a_key_that_is_no_text_is_named(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "name: me\nfirst: {low: 1, high: 2}\n5: me\n") == ["mine.yaml:3: unknown key `5`"]


def test_what_is_right_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: me\nfirst: {low: 1, high: 2}\n")
    assert read_strictly(tmp_path / "mine.yaml", Outer, BadInput) == Outer(name="me", first=Inner(low=1, high=2))
