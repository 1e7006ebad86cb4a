"""A picture shows what a program left on its terminal: colours, lines written over, nothing that was erased."""

import subprocess
import sys
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.support import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
from terminal_screen import Screen, drawn

TOOL = REPOSITORY / "tools" / "terminal_pictures.py"
SAYS_WHERE_IT_IS = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns)"
WORKS = "import sys, time; print('one', end='', flush=True); time.sleep(0.5); print('\\r\\x1b[2Ktwo')"


def screen(*written: str, columns: int = 20) -> Screen:
    one = Screen(columns)
    for part in written:
        one.feed(part)
    return one


def picture(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        (["one\r\ntwo\r\n"], ["one", "two"]),
        (["three\rone\r\n"], ["oneee"]),
        (["three\r\x1b[Kone\r\n"], ["one"]),
        (["kept\r\ngone\r\x1b[2K\x1b[1A\x1b[2Know\r\n"], ["now"]),
        (["0123456789abc\r\n"], ["0123456789", "abc"]),
        (["\x1b]8;id=1;https://nowhere\x1b\\link\x1b]8;;\x1b\\\r\n"], ["link"]),
        (["a\x1b", "[31", "mb\x1b[0mc"], ["abc"]),
        (["\x1b[?25l\x1b[?25h"], []),
    ],
    ids=["lines", "written over", "erased to the end", "up", "too wide", "link", "cut in two", "nothing"],
)
def test_a_screen_shows_what_a_terminal_would(written: list[str], lines: list[str]) -> None:
    assert screen(*written, columns=10).lines() == lines


def test_what_a_screen_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="not known"):
        screen("\x1b[5;5H")


def test_nothing_of_a_bar_that_goes_away_is_left() -> None:
    written = StringIO()
    console = Console(width=20, force_terminal=True, color_system="truecolor", file=written)
    with Progress(console=console, transient=True) as bar:
        bar.update(bar.add_task("work", total=1.0), completed=0.5)
    assert "work" in written.getvalue()
    assert screen(written.getvalue().replace("\n", "\r\n") + "done").lines() == ["done"]


def test_colours_are_those_that_held_when_a_letter_was_written() -> None:
    (line,) = screen("\x1b[1;31merror:\x1b[0m no").coloured()
    assert line.plain == "error: no"
    (span,) = line.spans
    assert (span.start, span.end, str(span.style)) == (0, 6, "bold color(1)")


def test_a_picture_is_whole_and_fetches_nothing() -> None:
    told = drawn(screen("\x1b[1ma < b & c\x1b[0m\r\n"), 20)
    ElementTree.fromstring(told)
    assert "a&#160;&lt;&#160;b&#160;&amp;&#160;c" in told
    assert "url(http" not in told
    assert told == drawn(screen("\x1b[1ma < b & c\x1b[0m\r\n"), 20), "the same screen gives another picture"


def test_a_command_runs_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    done = picture("--run", tmp_path / "out.svg", "--", sys.executable, "-c", SAYS_WHERE_IT_IS)
    assert done.returncode == 0, done.stderr
    assert "True&#160;80" in (tmp_path / "out.svg").read_text()


def test_a_screen_on_the_way_is_drawn_where_it_is_asked_for(tmp_path: Path) -> None:
    done = picture("--run", tmp_path / "out.svg", "--at", "one", "--", sys.executable, "-c", WORKS)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "out.svg").read_text()
    assert ">one</text>" in told
    assert ">two</text>" not in told, "it is the screen of the end"


@pytest.mark.parametrize(
    ("code", "wish", "complaint"),
    [("print('no'); exit(3)", [], "ended with exit code 3"), ("print('no')", ["--at", "yes"], "never showed `yes`")],
    ids=["fails", "not shown"],
)
def test_what_fails_gives_no_picture(tmp_path: Path, code: str, wish: list[str], complaint: str) -> None:
    done = picture("--run", tmp_path / "out.svg", *wish, "--", sys.executable, "-c", code)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert not (tmp_path / "out.svg").exists()
