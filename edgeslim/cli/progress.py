"""What a person sees of long work on stderr: a line a stage with its time, and on a terminal how long it will last."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edgeslim.cache import note, note_file, read_note
from edgeslim.cli.options import LOG, STDERR
from edgeslim.progress import Progress, ProgressCallback
from edgeslim.resources import default_store

BAR_WIDTH = 16
STAGES = "stages"  # the folder of notes of how long they took


@contextmanager
def progress_on(*, quiet: bool, of: Sequence[object] = ()) -> Iterator[ProgressCallback]:
    """Yield a function that shows progress on stderr: live on a terminal, a line a stage elsewhere; the log has all.

    `of` says what is done (the command, the model, the device): how long its stages take is kept for the next time.
    """
    clock = Clock(_earlier(of))
    if quiet:
        yield clock.enter
    elif STDERR.is_terminal:
        shown = _Shown(clock)
        with Live(shown, console=STDERR, transient=True, redirect_stdout=False, redirect_stderr=False) as live:

            def show(progress: Progress) -> None:
                before = clock.now
                if clock.enter(progress) and before is not None:
                    live.console.print(_kept(before, clock.took[-1][1]), highlight=False)

            yield show
        if (last := clock.now) is not None:
            clock.leave()
            STDERR.print(_kept(last, clock.took[-1][1]), highlight=False)
    else:

        def line(progress: Progress) -> None:
            if clock.enter(progress):
                click.echo(f"{clock.elapsed_s:7.1f} s  {_headline(progress)}", err=True)

        yield line
    if of:
        clock.leave()
        _keep(of, clock.took)


class Clock:
    """When stages began and what each took; where the same was done before, how long the rest will take."""

    def __init__(self, earlier: Sequence[tuple[str, float]] = ()) -> None:
        self.earlier = list(earlier)
        self.took: list[tuple[str, float]] = []
        self.now: Progress | None = None
        self.began_s = self.entered_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first stage began."""
        return time.monotonic() - self.began_s

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest took the last time; None where its stages were others."""
        here = len(self.took)
        if self.now is None or here >= len(self.earlier) or self.earlier[here][0] != self.now.stage:
            return None
        rest = max(0.0, self.earlier[here][1] - (time.monotonic() - self.entered_s))
        return rest + sum(seconds for _, seconds in self.earlier[here + 1 :])

    def enter(self, progress: Progress) -> bool:
        """Take progress; return whether a stage began with it."""
        before, self.now = self.now, progress
        began = before is None or (progress.stage, progress.number) != (before.stage, before.number)
        if began or (before is not None and progress.doing != before.doing):
            LOG.info("%s", ": ".join(filter(None, (_headline(progress), progress.doing))))
        if began:
            now_s = time.monotonic()
            if before is not None:
                self.took.append((before.stage, now_s - self.entered_s))
            self.began_s, self.entered_s = self.began_s or now_s, now_s
        return began

    def leave(self) -> None:
        """End the present stage, if any."""
        if self.now is not None:
            self.took.append((self.now.stage, time.monotonic() - self.entered_s))
            self.now = None


class _Shown:
    """What the terminal shows of the present stage, drawn anew several times a second."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __rich__(self) -> Group:
        now = self.clock.now
        if now is None:
            return Group()
        line = Table.grid(padding=(0, 2))
        words: list[Text | ProgressBar] = [Text(_headline(now), no_wrap=True)]
        if now.total:
            words.append(ProgressBar(total=now.total, completed=now.done, width=BAR_WIDTH))
        left = self.clock.left_s
        told = "" if left is None else f", about {clock_text(left)} left"
        words.append(Text(f"{clock_text(self.clock.elapsed_s)}{told}", no_wrap=True))
        line.add_row(*words)
        count = f", {now.done} of {now.total}" if now.total else ""
        inside = Text(f"          {now.doing}{count}", no_wrap=True, overflow="ellipsis", style="dim")
        return Group(line, inside) if now.doing else Group(line)


def _headline(progress: Progress) -> str:
    """Return the number of a stage, of how many, and its name; one that is not numbered has its name alone."""
    return f"{progress.number:>2} of {progress.stages}  {progress.stage}" if progress.stages else progress.stage


def _kept(progress: Progress, seconds: float) -> str:
    return f"{_headline(progress):<50}{clock_text(seconds):>8}"


def clock_text(seconds: float) -> str:
    """Return seconds as a clock shows them: "0:07", "12:30", "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _earlier(of: Sequence[object]) -> list[tuple[str, float]]:
    """Return what the stages took the last time; nothing where nobody knows, or the file is damaged."""
    content = read_note(note_file(default_store(), STAGES, _words(of))) if of else None
    try:
        return [(str(stage), float(seconds)) for stage, seconds in json.loads(content or b"[]")]
    except (ValueError, TypeError):
        return []


def _keep(of: Sequence[object], took: Sequence[tuple[str, float]]) -> None:
    """Keep what the stages took."""
    content = json.dumps([(stage, round(seconds, 3)) for stage, seconds in took])
    note(default_store(), STAGES, _words(of), content.encode())


def _words(of: Sequence[object]) -> list[str]:
    return [str(one) for one in of]
