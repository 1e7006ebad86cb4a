"""Put the emulated core to the proof: does it repeat, what does it cost, how far off are its estimates.

    python tools/bench_emulator.py counts ARTIFACT [--device NAME]   every file three times: spread, slow-down, seconds
    python tools/bench_emulator.py estimates                          errors of left-out times, and INT8 decisions

ARTIFACT is what `edgeslim build` made. Emulated seconds are those of the tool itself: what a user waits for. Prints
Markdown.
"""

import argparse
import time
from pathlib import Path

from fit_estimator import CLOCKS, decisions, fitted, groups_of, left_out, mean_and_worst, observations

from edgeslim.artifact.archive import open_artifact
from edgeslim.devices.profile import load_profile
from edgeslim.emulation.bench import count_inference
from edgeslim.emulation.core import Emulator, open_emulator
from edgeslim.errors import DeviceFailed
from edgeslim.measure.entries import Entry, entries_of
from edgeslim.measure.harness import Workload, measure
from edgeslim.table import markdown_rows as table

RUNS = 3
PROCESSES = 5


def counts(artifact: Path, device: str | None) -> None:
    """Count every file RUNS times on an emulated core, time it here, and print how the two compare."""
    with open_artifact(artifact) as opened:
        profile = load_profile(device or opened.manifest.compatible.device)
        entries = entries_of(opened.folder, opened.manifest)
        with open_emulator(profile) as emulator:
            rows = [_row_or_reason(entry, emulator) for entry in entries]
    heads = ["file", "instructions", f"spread of {RUNS} runs", "an inference here", "emulated and counted", "slow-down",
             "an estimate takes", "estimate"]  # fmt: skip
    print(table(heads, rows))


def _row_or_reason(entry: Entry, emulator: Emulator) -> list[str]:
    try:
        return _row(entry, emulator)
    except DeviceFailed as error:
        return [entry.candidate.label, *[""] * 6, f"not run: {str(error).rpartition(': ')[2]}"]


def _row(entry: Entry, emulator: Emulator) -> list[str]:
    inputs = entry.folder / entry.model.inputs[0].golden_inputs
    began_s = time.monotonic()
    first = count_inference(entry.candidate, inputs, emulator)
    estimate_s = time.monotonic() - began_s
    again = [count_inference(entry.candidate, inputs, emulator) for _ in range(RUNS - 1)]
    counted = [one.counts["insns"] for one in (first, *again)]
    emulated_s = _emulated_s(entry, emulator)
    (here,) = measure([entry.candidate], entry.golden_inputs, Workload(processes=PROCESSES))
    return [
        entry.candidate.label, f"{first.counts['insns'] / 1e6:.2f} M",
        f"{(max(counted) - min(counted)) / min(counted):.5%}", f"{1e3 * here.median_s:.2f} ms",
        f"{1e3 * emulated_s:.0f} ms", f"{emulated_s / here.median_s:.0f}", f"{estimate_s:.1f} s",
        "none" if first.estimate is None else first.estimate.shown,
    ]  # fmt: skip


def _emulated_s(entry: Entry, emulator: Emulator) -> float:
    """Return the seconds of this machine that one counted inference takes."""
    inputs = str(entry.folder / entry.model.inputs[0].golden_inputs)
    session, _ = emulator.count(entry.candidate, ["--inputs", inputs, "--warmup", "1", "--iterations", "1"])
    return session.samples_s[-1]


def estimates() -> None:
    """Print how far off left-out times are on each device, and how often INT8 is rightly decided for."""
    rows = []
    for device in CLOCKS:
        estimator, seen = fitted(device), observations(device)
        predicted = left_out(device, groups_of(estimator))
        mean, worst = mean_and_worst(seen, predicted)
        each, decided = estimator.each_left_out, decisions(device, predicted)
        rows.append([
            device, str(len(seen)), str(len(estimator.costs)), f"{each.mean:.1%} / {each.worst:.1%}",
            f"{mean:.1%} / {worst:.1%}", f"{decided.right} of {decided.pairs - decided.ties}", f"{decided.always_int8}",
            str(decided.ties),
        ])  # fmt: skip
    heads = ["device", "times", "costs", "one time left out: mean / worst", "a network left out: mean / worst",
             "float or INT8: right", "always INT8", "ties left out"]  # fmt: skip
    print(table(heads, rows))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    counting = what.add_parser("counts")
    counting.add_argument("artifact", type=Path)
    counting.add_argument("--device")
    what.add_parser("estimates")
    told = parser.parse_args()
    if told.what == "counts":
        counts(told.artifact, told.device)
    else:
        estimates()


if __name__ == "__main__":
    main()
