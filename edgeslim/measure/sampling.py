"""Sample a device's power while it works: an agent of its own reads the sensors there, beside the run."""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from edgeslim.deploy.agent_session import Sample, read_message
from edgeslim.deploy.targets import Target
from edgeslim.errors import DeviceFailed
from edgeslim.measure.meters import Reading, Sampling

LONGEST_S = 24 * 3600.0
SILENT_S = 30.0


class Sampler:
    """The readings so far of a device's sensors; use `sampling`."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.failure: DeviceFailed | None = None
        self.stopped = threading.Event()

    @property
    def now_s(self) -> float:
        """The device's CLOCK_MONOTONIC at the last reading; DeviceFailed where the sampling has ended."""
        return self._last_of(1)

    def pause(self, seconds: float) -> tuple[float, float]:
        """Let the device rest, and return the pause on its own clock: from one reading to another within it.

        The last reading before it may have been taken while a process still worked, so the pause begins at the next.
        """
        began_s = self._last_of(len(self.readings) + 1)
        time.sleep(seconds)
        return began_s, self.now_s

    def _last_of(self, count: int) -> float:
        """Wait until there are so many readings, and return when the last one was taken."""
        deadline = time.monotonic() + SILENT_S
        while len(self.readings) < count and self.failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.failure is not None:
            raise self.failure
        if len(self.readings) < count:
            raise DeviceFailed(f"the device's sensors gave nothing for {SILENT_S:g} s", "timeout")
        return self.readings[-1].at_s

    def read(self, lines: Iterator[str]) -> None:
        """Take readings line by line until `stopped` is set."""
        try:
            for number, line in enumerate(lines, start=1):
                message = read_message(line, number)
                if isinstance(message, Sample):
                    self.readings.append(Reading(message.at_s, message.values))
                if self.stopped.is_set():
                    break
            else:
                self.failure = DeviceFailed("the agent that reads the device's sensors ended before the run did")
        except DeviceFailed as error:
            self.failure = error
        finally:
            cast("Generator[str, None, None]", lines).close()


@contextmanager
def sampling(target: Target, agent: Sequence[str], what: Sampling) -> Iterator[Sampler]:
    """Read a device's sensors in the background; `agent` is the command of an agent there."""
    sources = [word for file in what.files for word in ("--sample", file)]
    command = [] if what.command is None else ["--sample-command", what.command]
    sampler = Sampler()
    lines = target.run([*agent, *sources, *command, "--period-s", str(what.period_s)], LONGEST_S)
    thread = threading.Thread(target=sampler.read, args=(lines,), daemon=True)
    thread.start()
    try:
        yield sampler
    finally:
        sampler.stopped.set()
        thread.join(what.period_s + SILENT_S)
