"""Fit what counts cost on each Raspberry Pi, and write it into the device profiles (section `estimator`).

ncnn_counts.csv beside this file holds one row a device, network and precision: the times that ncnn publishes
(Tencent/ncnn, benchmark/README.md, BSD-3-Clause; the column `min`, at 1 and 4 threads), and what QEMU 7.2 counted when
the same networks ran in ncnn on the emulated core, an inference. `precision` is what ran by those counts: on a
Raspberry Pi 5 ncnn computes its float networks in fp16. One row has counts and no published time.

`--check` writes nothing and returns 1 where a profile does not hold what the fit gives.
"""

import argparse
import csv
import math
import re
import statistics
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import get_args

import numpy as np

from edgeslim.devices.emulation import COUNTS, Cost, Estimator, Speedup
from edgeslim.devices.profile import Precision
from edgeslim.devices.sourced import Hertz
from edgeslim.emulation.estimator import (
    INSTRUCTIONS,
    Groups,
    Observation,
    choose,
    cycles,
    fit,
    learn_estimator,
    leave_one_out,
    relative_errors,
)
from edgeslim.resources import bundled

CSV = Path(__file__).resolve().parent / "ncnn_counts.csv"
RUNTIME = "ncnn"
README_OF_NCNN = "Tencent/ncnn benchmark/README.md"
CLOCKS = {  # under which the times were taken, as written and from where
    "raspberry-pi-4": ("1.8 GHz", README_OF_NCNN),
    "raspberry-pi-5": ("2.4 GHz", "Raspberry Pi documentation, Processors: BCM2712"),
    "raspberry-pi-zero-2w": ("1.0 GHz", README_OF_NCNN),
}
ALONE: Groups = INSTRUCTIONS[0]  # the baseline: a cost for each instruction and no other
TIE = 0.03  # of the float time: pairs whose published times are closer decide nothing


@dataclass(frozen=True)
class Decisions:
    """Of how many published pairs the estimates name the faster precision, and always answering INT8 does."""

    pairs: int
    ties: int
    right: int
    always_int8: int


@cache
def _rows() -> list[dict[str, str]]:
    with CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def observations(device: str) -> list[Observation]:
    """Return what is known of a device: counts beside the cycles of the published time with 1 thread."""
    return [_observation(row) for row in _rows() if row["device"] == device and row["published_1thread_ms"]]


def _observation(row: dict[str, str]) -> Observation:
    precision = next(one for one in get_args(Precision) if one == row["precision"])
    counts = {name: float(row[name]) for name in COUNTS if row.get(name)}
    clock_hz = clock(row["device"]).value or math.nan
    return Observation(row["net"], precision, counts, float(row["published_1thread_ms"]) * 1e-3 * clock_hz)


def clock(device: str) -> Hertz:
    """Return the clock of a device while it was timed."""
    written, source = CLOCKS[device]
    return Hertz.model_validate({"value": written, "source": source})


def speedup(device: str) -> Speedup:
    """Return by how much 4 threads are faster than one in the published times of a device."""
    ratios = [
        float(row["published_1thread_ms"]) / float(row["published_4thread_ms"])
        for row in _rows()
        if row["device"] == device and row["published_1thread_ms"] and row["published_4thread_ms"]
    ]
    low, middle, high = (round(of(ratios), 2) for of in (min, statistics.median, max))
    return Speedup(lowest=low, median=middle, highest=high)


@cache
def fitted(device: str) -> Estimator:
    """Return the estimator that the published times of a device give."""
    source = f"{README_OF_NCNN}, 1 thread, beside counts under QEMU 7.2: tools/fit_estimator.py"
    return learn_estimator(observations(device), RUNTIME, clock(device), source, speedup(device))


def left_out(device: str, groups: Groups) -> np.ndarray:
    """Return the cycles of each observation by costs fitted without any precision of its network."""
    return leave_one_out(observations(device), partial(fit, groups=groups))


@cache
def left_out_of_all(device: str) -> np.ndarray:
    """Return the same where the groups are chosen without the network too."""
    return leave_one_out(observations(device), _chosen_and_fitted)


def _chosen_and_fitted(kept: Sequence[Observation]) -> tuple[Cost, ...]:
    return fit(kept, choose(kept))


def groups_of(estimator: Estimator) -> Groups:
    """Return the groups that an estimator has costs for."""
    return {cost.name: cost.counts for cost in estimator.costs}


def int8_by_float(device: str) -> tuple[float, float]:
    """Return the mean and the largest error of INT8 times by costs that were fitted on float times alone."""
    seen = observations(device)
    costs = fit([one for one in seen if one.precision != "int8"], groups_of(fitted(device)))
    int8 = [one for one in seen if one.precision == "int8"]
    return mean_and_worst(int8, np.array([cycles(one.counts, costs) for one in int8]))


def rank_correlation(device: str, predicted: np.ndarray) -> float:
    """Return Spearman's rank correlation of predicted and published times."""
    from scipy.stats import spearmanr

    return float(spearmanr(predicted, [one.cycles for one in observations(device)])[0])


def decisions(device: str, predicted: np.ndarray) -> Decisions:
    """Return how often predictions and always answering INT8 name the faster of float and INT8; ties are left out."""
    seen = observations(device)
    both = [(one.cycles, float(told)) for one, told in zip(seen, predicted, strict=True)]
    known = {(one.network, one.precision == "int8"): pair for one, pair in zip(seen, both, strict=True)}
    pairs = [(known[one.network, False], known[one.network, True]) for one in seen if one.precision == "int8"]
    clear = [pair for pair in pairs if abs(pair[1][0] / pair[0][0] - 1) > TIE]
    faster = [int8[0] < plain[0] for plain, int8 in clear]
    answers = [int8[1] < plain[1] for plain, int8 in clear]
    right = sum(answer == truth for answer, truth in zip(answers, faster, strict=True))
    return Decisions(len(pairs), len(pairs) - len(clear), right, sum(faster))


def section(estimator: Estimator) -> str:
    """Return the section `estimator` of a profile as YAML, with the empty line after it."""
    costs = "".join(
        f"    - name: {cost.name}\n{_folded(cost.counts)}\n      cycles: {cost.cycles}\n" for cost in estimator.costs
    )
    each, networks, four = estimator.each_left_out, estimator.networks_left_out, estimator.four_threads
    threads = "" if four is None else f"{{lowest: {four.lowest}, median: {four.median}, highest: {four.highest}}}"
    return (
        f"estimator:  # written by tools/fit_estimator.py\n"
        f"  runtime: {estimator.runtime}\n"
        f"  precisions: [{', '.join(estimator.precisions)}]\n"
        f'  clock: {{value: "{estimator.clock.shown}", source: "{estimator.clock.source}"}}\n'
        f"  costs:\n{costs}"
        f"  times: {estimator.times}\n"
        f"  networks: {estimator.networks}\n"
        f"  each_left_out: {{mean: {each.mean}, worst: {each.worst}}}\n"
        f"  networks_left_out: {{mean: {networks.mean}, worst: {networks.worst}}}\n"
        f"  band: {estimator.band}\n"
        f"  four_threads: {threads}\n"
        f'  source: "{estimator.source}"\n\n'
    )


def _folded(counts: Sequence[str]) -> str:
    line = f"      counts: [{', '.join(counts)}]"
    return textwrap.fill(line, width=120, subsequent_indent=" " * 15, break_long_words=False)


def rewritten(profile: str, estimator: Estimator) -> str:
    """Return the text of a profile with its section `estimator` written anew, before `limits`."""
    without = re.sub(r"^estimator:.*?\n\n", "", profile, flags=re.DOTALL | re.MULTILINE)
    return without.replace("limits:\n", f"{section(estimator)}limits:\n", 1)


def report(device: str) -> str:
    """Return what the fit of a device gave, in a few lines."""
    estimator, seen = fitted(device), observations(device)
    chosen = left_out(device, groups_of(estimator))
    verdict = decisions(device, chosen)
    costs = ", ".join(f"{cost.name} {cost.cycles}" for cost in estimator.costs)
    lines = [
        f"{device}: {len(seen)} times of {estimator.networks} networks; cycles: {costs}",
        f"  one time left out          {_share(estimator.each_left_out.mean, estimator.each_left_out.worst)}",
        f"  a network left out         {_share(*mean_and_worst(seen, chosen))}, rank correlation "
        f"{rank_correlation(device, chosen):.3f}, nine of ten within {estimator.band:.1%}",
        f"  its groups chosen without  {_share(*mean_and_worst(seen, left_out_of_all(device)))}",
        f"  instructions alone         {_share(*mean_and_worst(seen, left_out(device, ALONE)))}",
        f"  INT8 by float times alone  {_share(*int8_by_float(device))}",
        f"  float or INT8              {verdict.right} of {verdict.pairs - verdict.ties} right "
        f"({verdict.ties} ties left out); always INT8: {verdict.always_int8}",
    ]
    return "\n".join(lines)


def mean_and_worst(seen: Sequence[Observation], predicted: np.ndarray) -> tuple[float, float]:
    """Return the mean and the largest relative error of predictions, without their signs."""
    off = np.abs(relative_errors(seen, predicted))
    return float(np.mean(off)), float(np.max(off))


def _share(mean: float, worst: float) -> str:
    return f"mean error {mean:.1%}, worst {worst:.1%}"


def main() -> int:
    """Write the profiles and print what the fits gave; with --check return 1 where that would change a profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    code = 0
    for device in CLOCKS:
        file = bundled("device_profiles") / f"{device}.yaml"
        wanted = rewritten(file.read_text(encoding="utf-8"), fitted(device))
        if not check:
            file.write_text(wanted, encoding="utf-8")
            print(report(device))
        elif file.read_text(encoding="utf-8") != wanted:
            print(f"{file.name}: `estimator` is not what the fit gives: run tools/fit_estimator.py", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
