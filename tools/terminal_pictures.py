"""Draw the pictures of the documentation from real runs, on a terminal of 80 columns.

    python tools/terminal_pictures.py [ARTIFACT]          # all; builds the bundled default where none is given
    python tools/terminal_pictures.py ARTIFACT --only bench.svg --only sensitivity.png
    python tools/terminal_pictures.py --run OUT.svg [--at REGEX] [--columns N] -- COMMAND ...

The first writes docs/pictures and docs/default.png: the end of a default build and the terminal while it works, then
what `verify` says, and the plots of `inspect`, `bench` and `sensitivity`; the second some of them, of a build that is
there already, which gives no picture of its own run. The third draws what one command leaves on the terminal, or, with
--at, the first screen on which REGEX is found.
What is drawn is what the program wrote: times differ from run to run, nothing else does.
"""

import argparse
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from terminal_screen import Screen, drawn, output_on_terminal

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURES = REPOSITORY / "docs" / "pictures"
COLUMNS = 80
BUILT = "artifacts/default-raspberry-pi-4"  # where the build puts it, below the folder it is called in
BUILD = ("edgeslim", "build", "--device", "raspberry-pi")
VERIFY = ("edgeslim", "verify", BUILT)
PLOTS = {  # by file of docs/
    "default.png": ("edgeslim", "inspect", BUILT),
    "pictures/bench.svg": ("edgeslim", "bench", BUILT, "--fail-on", "none"),
    "pictures/sensitivity.png": ("edgeslim", "sensitivity", "--device", "raspberry-pi"),
}
OF_A_BUILD = ("verify.svg", *(Path(file).name for file in PLOTS))
WORKING = r"reconstructing candidates"  # the stage of a build that is drawn: the longest


def shown(command: Sequence[str], folder: Path, *, at: str | None = None, columns: int = COLUMNS) -> tuple[str, str]:
    """Run a command in a folder; return what it had written when `at` was first seen on its screen, and at its end.

    SystemExit where the command fails or never shows `at`.
    """
    screen, written, noted, ended = Screen(columns), "", None, list[int]()
    for text in output_on_terminal(command, columns, folder, ended):
        screen.feed(text)
        written += text
        if noted is None and at is not None and re.search(at, "\n".join(screen.lines())):
            noted = written
    if ended != [0]:
        raise SystemExit("\n".join([*screen.lines(), f"{shlex.join(command)} ended with exit code {ended[0]}"]))
    if at is not None and noted is None:
        raise SystemExit(f"{shlex.join(command)} never showed `{at}`")
    return noted or written, written


def write(file: Path, command: Sequence[str], written: str, columns: int = COLUMNS) -> None:
    """Draw a command, as it was typed, and what it had written below it; say where the picture is."""
    screen = Screen(columns)
    screen.feed(f"$ {shlex.join(command)}\r\n{written}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(drawn(screen, columns), encoding="utf-8")
    print(f"{file}: {len(screen.lines())} lines, {file.stat().st_size / 1e3:.0f} kB")


def all_pictures(artifact: Path | None, folder: Path, wanted: Sequence[str]) -> None:
    """Write pictures of the documentation, from one build: of a new one those of its run, and those that are wanted."""
    if artifact is None:
        working, end = shown(BUILD, folder, at=WORKING)
        write(PICTURES / "working.svg", BUILD, working)
        write(PICTURES / "build.svg", BUILD, end)
    else:
        (folder / BUILT).parent.mkdir()
        (folder / BUILT).symlink_to(artifact.resolve())
    if "verify.svg" in wanted:
        write(PICTURES / "verify.svg", VERIFY, shown(VERIFY, folder)[1])
    for file, command in PLOTS.items():
        if Path(file).name in wanted:
            shown((*command, "--plot", str(REPOSITORY / "docs" / file)), folder)
            print(f"{REPOSITORY / 'docs' / file}: drawn by {shlex.join(command)}")


def main() -> None:
    """Draw one command, or all pictures of the documentation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", nargs="?", type=Path)
    parser.add_argument("--run", type=Path, metavar="OUT.svg")
    parser.add_argument("--only", action="append", choices=OF_A_BUILD)
    parser.add_argument("--at", metavar="REGEX")
    parser.add_argument("--columns", type=int, default=COLUMNS)
    ours, command = _parted(sys.argv[1:])
    arguments = parser.parse_args(ours)
    if (arguments.run is None) == bool(command):
        parser.error("--run OUT.svg and `-- COMMAND` go together")
    if arguments.only and arguments.artifact is None:
        parser.error("--only draws of an ARTIFACT that is there")
    if arguments.run is not None:
        written, _ = shown(command, Path.cwd(), at=arguments.at, columns=arguments.columns)
        write(arguments.run, command, written, arguments.columns)
        return
    with tempfile.TemporaryDirectory() as folder:
        all_pictures(arguments.artifact, Path(folder), arguments.only or OF_A_BUILD)


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before and after the first `--`."""
    place = words.index("--") if "--" in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


if __name__ == "__main__":
    main()
