"""Print wall time and peak memory of a build, stage by stage; or compare commands of two checkouts, interleaved.

    python tools/bench_build.py [MODEL] --device raspberry-pi [--weights random] [--data synthetic]
    python tools/bench_build.py --before CHECKOUT [--pairs 3] -- build --device raspberry-pi

With --before, the words behind `--` are run in turn by that checkout and this one, each time with an empty store, and
the shares of wall time are printed: of each pair, and their median.

Peak memory is the largest sum, sampled ten times a second, of the resident sizes of the build's process and its
children (VmRSS; pages they share are counted for each).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from edgeslim import build
from edgeslim.devices.machine import this_machine
from edgeslim.progress import Progress


def resident_bytes(pid: int) -> int:
    """Return the resident size of a process and all its descendants, 0 for one that has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return own + sum(resident_bytes(int(child)) for child in children)


class Stages:
    """Seconds and peak bytes of every stage, in their order; sampled by a thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}
        self._current, self._since = "starting", time.monotonic()
        threading.Thread(target=self._sample, daemon=True).start()

    def enter(self, progress: Progress) -> None:
        """Count what passed since the last call for the stage that was current."""
        now = time.monotonic()
        self.seconds[self._current] = self.seconds.get(self._current, 0.0) + now - self._since
        self._current, self._since = progress.stage, now

    def _sample(self) -> None:
        own = int(Path("/proc/self").resolve().name)
        while True:
            self.peaks[self._current] = max(self.peaks.get(self._current, 0), resident_bytes(own))
            time.sleep(0.1)


def seconds_of(checkout: Path, words: Sequence[str]) -> float:
    """Return what a command takes in a checkout, with nothing known before it."""
    with tempfile.TemporaryDirectory() as folder:
        own = ["--out", str(Path(folder) / "artifact")] if words[0] == "build" else []
        environment = {**os.environ, "PYTHONPATH": str(checkout), "EDGESLIM_CACHE": str(Path(folder) / "store")}
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "edgeslim", *words, *own], env=environment, cwd=folder, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 3):  # 3: what was built falls below a demand
            raise SystemExit(done.stderr)
        return time.monotonic() - began


def compare(before: Path, words: Sequence[str], pairs: int) -> None:
    """Print what a command takes before and now, taken in turn, and the shares."""
    here = Path(__file__).resolve().parents[1]
    shares = []
    print(f"`edgeslim {' '.join(words)}` on {this_machine().cpu_model}, {os.cpu_count()} cores")
    for _ in range(pairs):
        old, new = seconds_of(before, words), seconds_of(here, words)
        shares.append(new / old)
        print(f"before {old:.1f} s, now {new:.1f} s: {new / old:.2f}", flush=True)
    print(f"median share: {median(shares):.2f}")


def main() -> None:
    """Build once into a temporary folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--device", default="raspberry-pi")
    parser.add_argument("--weights")
    parser.add_argument("--data")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="compare with it, in place of stages")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("words", nargs="*", help="of the command that is compared")
    arguments = parser.parse_args()
    if arguments.before is not None:
        compare(
            arguments.before.resolve(),
            [*([arguments.model] if arguments.model else []), *arguments.words],
            arguments.pairs,
        )
        return
    stages, started = Stages(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        build(
            arguments.model,
            device=arguments.device,
            weights=arguments.weights,
            data=arguments.data,
            out=Path(folder) / "artifact",
            progress=stages.enter,
        )
    stages.enter(Progress("done"))
    machine = this_machine()
    print(f"{arguments.model or 'default'} for {arguments.device} on {machine.cpu_model}, {machine.cores} cores\n")
    print("| stage | wall s | peak MB |\n|---|---|---|")
    for stage, seconds in stages.seconds.items():
        print(f"| {stage} | {seconds:.1f} | {stages.peaks.get(stage, 0) / 1e6:.0f} |")
    print(f"| total | {time.monotonic() - started:.1f} | {max(stages.peaks.values()) / 1e6:.0f} |")


if __name__ == "__main__":
    main()
