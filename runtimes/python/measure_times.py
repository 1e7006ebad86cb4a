"""The timed loop: warm up, then time every inference, in one stream or in several side by side."""

from __future__ import annotations

import contextlib
import gc
import statistics
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from messages import Channel
    from model_inputs import Run, Sample, Samples

WARM_UP_LIMIT_S = 2.0
REPORT_EVERY_S = 0.5


def measure_times(copies: list[Run], samples: Samples, options: argparse.Namespace, channel: Channel) -> None:
    """Warm up and time copies of one model side by side, and send `time` and `window`."""
    streams = [(run, samples.endless(start)) for start, run in enumerate(copies)]
    loop = Loop(options.iterations, options.min_duration_s, options.max_duration_s)
    with ThreadPoolExecutor(len(streams)) as others, _no_garbage_collection():
        _side_by_side(others, [partial(warm_up, *stream, options.warmup) for stream in streams])
        loop.begin()
        first = partial(loop.work, *streams[0], after_each=lambda: _report_if_due(loop, channel))
        _side_by_side(others, [first, *(partial(loop.work, *stream) for stream in streams[1:])])
        ended_s = monotonic()
    loop.report(channel)
    channel.emit(
        "window", began_s=loop.began_s, ended_s=ended_s, began_unix_s=loop.began_unix_s, inferences=loop.started
    )


def timed(run: Run, sample: Sample) -> float:
    """Return the seconds of one inference."""
    started = monotonic()
    run(sample)
    return monotonic() - started


def warm_up(run: Run, samples: Iterator[Sample], count: int | None) -> None:
    """Run `count` inferences; without a count, groups of three until one is less than 5 % faster than the last.

    The groups take two seconds at most, and the inference in which these end.
    """
    if count is not None:
        for _ in range(count):
            run(next(samples))
        return
    deadline = monotonic() + WARM_UP_LIMIT_S
    before = float("inf")
    while True:
        group = []
        for _ in range(3):
            group.append(timed(run, next(samples)))
            if monotonic() >= deadline:
                return
        now = statistics.median(group)
        if now > 0.95 * before:
            return
        before = now


class Loop:
    """What the streams of one timed loop share: when to stop, and the times that are not yet reported."""

    def __init__(self, iterations: int, min_duration_s: float, max_duration_s: float) -> None:
        self.started = 0
        self.began_s = self.began_unix_s = self.reported_s = 0.0
        self._iterations, self._min_duration_s, self._max_duration_s = iterations, min_duration_s, max_duration_s
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._failed = False

    def begin(self) -> None:
        """Start the clock."""
        self.began_unix_s = time()
        self.began_s = self.reported_s = monotonic()

    def work(self, run: Run, samples: Iterator[Sample], after_each: Callable[[], None] = lambda: None) -> None:
        """Time inferences, as one of the streams, until all of them together have reached the limits."""
        try:
            while self._one_more():
                seconds = timed(run, next(samples))
                self._times.append(seconds)
                after_each()
        except BaseException:
            self._failed = True  # or the other streams would go on to the end
            raise

    def report(self, channel: Channel) -> None:
        """Send the times that came since the last report."""
        times = self._times[:]
        del self._times[: len(times)]  # not all: another stream may have appended meanwhile
        if times:
            channel.emit("time", seconds=times)
        self.reported_s = monotonic()

    def _one_more(self) -> bool:
        with self._lock:
            passed_s = monotonic() - self.began_s
            enough = self.started >= self._iterations and passed_s >= self._min_duration_s
            if self._failed or (self.started and (enough or passed_s >= self._max_duration_s)):
                return False
            self.started += 1
            return True


def _side_by_side(others: ThreadPoolExecutor, jobs: list[Callable[[], None]]) -> None:
    """Do the first job in this thread, so that one alone shares its processor with no other, and the rest in others."""
    rest = [others.submit(job) for job in jobs[1:]]
    jobs[0]()
    for one in rest:
        one.result()


def _report_if_due(loop: Loop, channel: Channel) -> None:
    if monotonic() - loop.reported_s > REPORT_EVERY_S:
        loop.report(channel)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
