"""Progress tells every stage with its time, live where somebody looks, and how long the rest took the last time."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from edgeslim.cli.progress import Clock, clock_text, progress_on
from edgeslim.cli.progress import _Shown as Shown
from edgeslim.progress import Progress, StagedProgress
from tests.support.command_line import call

WORK = """
import time
from edgeslim.cli.progress import progress_on
from edgeslim.progress import StagedProgress
with progress_on(quiet=False, of=("build", "net.py:make", "raspberry-pi")) as show:
    told = StagedProgress(show, 2)
    told.begin("prune")
    time.sleep(0.4)
    told("studying", 12, 40)
    time.sleep(0.9)
    told.begin("packing")
    time.sleep(0.4)
"""
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(store: Path) -> list[str]:
    """Return the lines that a terminal of 80 columns got from two stages of work, those that were drawn over too."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "EDGESLIM_CACHE": str(store)}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([sys.executable, "-c", WORK], stderr=theirs, stdout=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 65536):
                text += part
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 0, text
    return [line.rstrip() for line in CODES.sub("", text.decode()).replace("\r", "\n").split("\n")]


def test_a_terminal_keeps_a_line_a_stage_and_shows_a_clock_that_never_stops(tmp_path: Path) -> None:
    lines = on_a_terminal(tmp_path)
    assert "          studying, 12 of 40" in lines
    live = [line for line in lines if line.startswith(" 1 of 2  prune  ")]
    assert any(line.endswith("0:00") for line in live), lines
    assert any(line.endswith("0:01") for line in live), lines
    kept = [line for line in lines if re.fullmatch(r" \d of 2  \w+ {20,}\d:\d\d", line)]
    assert [line.split()[3] for line in kept] == ["prune", "packing"], lines
    assert not any("left" in line for line in lines), "nobody knew"


def test_the_second_time_it_says_how_long_the_rest_will_take(tmp_path: Path) -> None:
    on_a_terminal(tmp_path)
    lines = on_a_terminal(tmp_path)
    assert any("0:00, about 0:01 left" in line for line in lines), lines


def test_a_pipe_gets_a_line_a_stage_with_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_on(quiet=False) as show:
        told = StagedProgress(show, 12)
        for stage in ("loading", "prune"):
            told.begin(stage)
            told("studying", 1, 3)
    assert re.fullmatch(r" +0\.\d s   1 of 12  loading\n +0\.\d s   2 of 12  prune\n", capsys.readouterr().err)


def test_what_is_left_is_the_rest_of_this_stage_and_all_that_follow() -> None:
    clock = Clock([("prune", 10.0), ("packing", 20.0), ("last", 5.0)])
    assert clock.left_s is None
    clock.enter(Progress("prune", 1, 3))
    assert 34 < (clock.left_s or 0) <= 35
    clock.entered_s -= 30
    assert clock.left_s == 25, "a stage that takes longer than it did is about to end"
    clock.enter(Progress("packing", 2, 3))
    assert 24 < (clock.left_s or 0) <= 25
    clock.enter(Progress("another", 3, 3))
    assert clock.left_s is None, "the last time went another way"


def test_what_was_kept_of_the_last_time_may_be_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path))
    for content in (None, "{", "[1]", '{"a": 1}'):
        for file in (tmp_path / "stages").glob("*.json") if content is not None else ():
            file.write_text(str(content))
        with progress_on(quiet=True, of=("build", None, "raspberry-pi")) as show:
            StagedProgress(show, 1).begin("only")
    (file,) = (tmp_path / "stages").iterdir()
    assert re.fullmatch(r'\[\["only", 0\.\d+\]\]', file.read_text())


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_what_is_drawn_over_is_never_wider_than_the_terminal(width: int) -> None:
    clock = Clock([("finding where accuracy is lost", 100.0)])
    clock.enter(Progress("finding where accuracy is lost", 1, 13, "which layers of a network " * 5, 3, 40))
    console = Console(width=width, force_terminal=True, color_system=None, file=None)
    with console.capture() as captured:
        console.print(Shown(clock))
    lines = captured.get().rstrip("\n").split("\n")
    assert len(lines) == 2, lines
    assert all(len(line) <= width for line in lines)


def test_a_clock_shows_hours_where_there_are_any() -> None:
    assert [clock_text(one) for one in (0.4, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]


def test_the_log_has_every_step_warning_and_error_with_its_time(monkeypatch, capsys, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for _ in range(2):
        code, _, err = call(monkeypatch, capsys, "bench", tmp_path / "nothing", "--log-file", log)
    lines = log.read_text().splitlines()
    assert len(lines) == 10, "the second command adds to what is there"
    assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ", "", line) for line in lines[:2]] == [
        f"INFO edgeslim bench {tmp_path / 'nothing'} --log-file {log}",
        "INFO measuring",
    ]
    assert "ERROR" in lines[2]
    assert lines[3].endswith("INFO name its folder or its .tar.gz; `edgeslim build` makes one")
    assert lines[4].endswith(f"INFO ended with exit code {code}")
    assert "error:" in err


def test_a_log_that_cannot_be_written_is_refused_before_any_work(monkeypatch, capsys, tmp_path: Path) -> None:
    place = tmp_path / "missing" / "log.txt"
    code, out, err = call(monkeypatch, capsys, "bench", tmp_path / "nothing", "--log-file", place)
    assert (code, out) == (2, "")
    assert f"--log-file: cannot write {place}: No such file or directory" in err
