"""What a terminal shows of a program: run it on one, obey its control sequences, draw the screen as SVG."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Text

ROWS = 60  # of the terminal; the screen itself is as long as what is written
# Colour; cursor up, down or to the left edge; a line or the rest of it erased; modes (the cursor hidden, and so on).
CONTROL = re.compile(r"\x1b\[(?P<words>[0-9;?]*)(?P<kind>[A-Za-z])|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)|[\r\n]|[^\x1b]")
UNFINISHED = re.compile(r"\x1b(?:\[[0-9;?]*|\]8;[^\x1b\x07]*\x1b?)?$")
GAP = re.compile(r"^ +| {2,}")
CELL = 0.602  # width of a cell by the height of a letter, in those fonts
# As rich writes it, without the fonts that it would fetch.
PICTURE = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, monospace; font-size: {char_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Screen:
    """The lines that a terminal of some columns shows, each cell with the colour sequences that hold for it."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._lines: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._colour = self._rest = ""

    def feed(self, written: str) -> None:
        """Take what a program wrote; ValueError for a sequence that this screen does not know."""
        text = self._rest + written
        unfinished = UNFINISHED.search(text)
        self._rest = unfinished[0] if unfinished else ""
        text = text.removesuffix(self._rest)
        place = 0
        while place < len(text):
            one = CONTROL.match(text, place)
            if one is None:
                raise ValueError(f"a control sequence that is not known: {text[place : place + 12]!r}")
            place = one.end()
            self._obey(one)

    def _obey(self, one: "re.Match[str]") -> None:
        if one["kind"]:
            self._control(one["kind"], one["words"])
        elif one[0] == "\r":
            self._column = 0
        elif one[0] == "\n":
            self._move(1)
            self._column = 0
        elif not one[0].startswith("\x1b"):  # a link's address is not shown
            self._write(one[0])

    def _control(self, kind: str, words: str) -> None:
        if kind == "m":
            self._colour = "" if words in ("", "0") else f"{self._colour}\x1b[{words}m"
        elif kind in "AB":
            self._move(int(words or 1) * (1 if kind == "B" else -1))
        elif kind == "K":
            line = self._lines[self._row]
            line[slice(0 if words == "2" else self._column, None)] = []
        elif kind not in "hl":
            raise ValueError(f"a control sequence that is not known: ESC [ {words} {kind}")

    def _move(self, rows: int) -> None:
        self._row = max(self._row + rows, 0)
        self._lines += [[] for _ in range(self._row + 1 - len(self._lines))]

    def _write(self, character: str) -> None:
        if self._column == self._columns:
            self._move(1)
            self._column = 0
        line = self._lines[self._row]
        line += [(" ", "")] * (self._column - len(line))
        line[self._column : self._column + 1] = [(character, self._colour)]
        self._column += 1

    def lines(self) -> list[str]:
        """Return the lines in plain text, without those below the last that holds something."""
        return [plain.rstrip() for plain in ("".join(cell for cell, _ in line) for line in self._shown())]

    def coloured(self) -> list[Text]:
        """Return the lines with their colours."""
        return [
            Text.from_ansi(
                "".join(
                    f"{colour}{''.join(cell for cell, _ in cells)}\x1b[0m"
                    for colour, cells in groupby(line, key=lambda cell: cell[1])
                )
            )
            for line in self._shown()
        ]

    def _shown(self) -> list[list[tuple[str, str]]]:
        held = [place for place, line in enumerate(self._lines) if any(cell.strip() for cell, _ in line)]
        return self._lines[: held[-1] + 1] if held else []


def output_on_terminal(command: Sequence[str], columns: int, folder: Path, ended: list[int]) -> Iterator[str]:
    """Run a command on a terminal of some columns; yield what it writes there, then put its exit code into `ended`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        rest = b""
        while written := _read(ours):
            text, rest = _decoded(rest + written)
            yield text
        os.close(ours)
    ended.append(process.returncode)


def _read(terminal: int) -> bytes:
    """Return what was written next, nothing at the end, which Linux tells as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def _decoded(written: bytes) -> tuple[str, bytes]:
    """Return text, and the bytes of a character of which the rest is still to come."""
    for behind in range(min(4, len(written) + 1)):
        try:
            end = len(written) - behind
            return written[:end].decode(), written[end:]
        except UnicodeDecodeError:
            continue
    return written.decode(errors="replace"), b""


def drawn(screen: Screen, columns: int) -> str:
    """Return a screen as SVG: the same screen gives the same text, and nothing in it is fetched from anywhere."""
    console = Console(width=columns, record=True, file=StringIO(), color_system="truecolor", force_terminal=True)
    for line in screen.coloured():
        for gap in GAP.finditer(line.plain):  # each word has a place of its own, whatever the reader's font is
            line.stylize(Style(meta={"gap": True}), *gap.span())
        console.print(line, overflow="ignore", crop=False, no_wrap=True)
    return console.export_svg(title="", code_format=PICTURE, font_aspect_ratio=CELL, unique_id="terminal")
