"""The page docs/estimator.md: how counts become a time, and how far off that was for every published time."""

import math

import fit_estimator as fits

from edgeslim.emulation.estimator import TRANSFER_BAND, relative_errors
from edgeslim.table import markdown_rows as table

HOW = """# From the counts of an emulated device to a time

A run under QEMU says nothing about time, but what it counts is what the device would do: instructions by class, and the
misses of the caches that its profile describes. An estimate adds them up:

    cycles = sum over groups of cost x count        seconds = cycles / clock

The costs of a device (section `estimator` of its profile; `edgeslim devices NAME --all` shows them) are fitted on times
that others measured on the real board, by `tools/fit_estimator.py`: non-negative least squares on the relative error,
so that a small network weighs as much as a large one. Every figure on this page is written by `tools/docs_tables.py`.

**The data.** `tools/ncnn_counts.csv`: the times that the ncnn project publishes for these boards (the column `min` of
[its benchmark](https://github.com/Tencent/ncnn/blob/master/benchmark/README.md), BSD-3-Clause), beside the counts of
the same networks in ncnn under QEMU 7.2. On a Raspberry Pi 5 ncnn computes float networks in fp16, by its counts too:
those rows are called fp16, and no time of true fp32 code on that board is among them.

**Which groups.** Four ways to group instructions, each with the misses of one or two levels of cache, were thought of
with this data at hand. The fewest groups are taken whose error on networks left out lies within one standard error of
the best (the rule of Breiman et al., 1984). The costs say what the times depend on and not what an instruction takes: a
store stands for the line that it makes the memory read and write back, and where "other instructions" cost nothing,
as on the in-order Cortex-A53, their work lay beside that of the others in the networks at hand.
"""

_CLAIMS = table(
    ["what was counted", "interval", "decisive"],
    [
        ["ncnn, in a precision of the fit", "the band above: nine of ten networks left out lay within it", "yes"],
        [
            "float code of another runtime, or in another precision (fp32 on a Raspberry Pi 5)",
            f"{TRANSFER_BAND:.0%} either way, a convention that no board has confirmed; the band where that is wider",
            "yes",
        ],
        [
            "INT8 of another runtime",
            "none: not calibrated, because ncnn's INT8 kernels are not those of LiteRT or ONNX Runtime",
            "no",
        ],
    ],
)
BANDS = f"""## What an estimate claims

Every estimate is called `estimated`, with an interval and what it rests on.

{_CLAIMS}

With 4 threads the time is divided by the median of the published speed-ups, and the ends of the interval by the highest
and the lowest, ncnn's for every runtime. Other numbers of threads than 1 and 4 are refused. **Not validated:** LiteRT
and ONNX Runtime on any of these boards, a clock other than the one above, a board that throttles, and networks unlike
those below.

Energy follows from it (`edgeslim/measure/energy.py`): gross between idle power for the shortest and active power for
the longest time, net between nothing and the difference for the longest. A profile's active power is that of Linpack on
all cores at the wall, so the upper end is far above what one thread draws. Where the profile holds no power, the energy
is unknown.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([HOW, _fits(), _costs(), _decisions(), BANDS, _validation()])


def _fits() -> str:
    rows = []
    for device in fits.CLOCKS:
        one, seen = fits.fitted(device), fits.observations(device)
        chosen = fits.left_out(device, fits.groups_of(one))
        rows.append(
            [
                f"`{device}`",
                str(one.times),
                str(one.networks),
                str(len(one.costs)),
                _share(one.each_left_out.mean, one.each_left_out.worst),
                _share(one.networks_left_out.mean, one.networks_left_out.worst),
                _share(*fits.mean_and_worst(seen, fits.left_out_of_all(device))),
                _share(*fits.mean_and_worst(seen, fits.left_out(device, fits.ALONE))),
                _share(*fits.int8_by_float(device)),
                f"{fits.rank_correlation(device, chosen):.3f}",
                f"±{one.band:.1%}",
            ]
        )
    heads = ["device", "times", "networks", "costs", "one time left out", "a network left out"]
    heads += ["the same, groups chosen without it", "instructions alone", "INT8 by float"]
    heads += ["rank correlation", "band"]
    about = """## How far off

Mean and worst error of times that were left out of the fit: one time; a network in every precision; the same with the
groups chosen anew without it; a network left out, of costs for nothing but the number of instructions; and INT8 times
by costs fitted on float times alone, which says most about code that the fit has not seen. Rank correlation and band
are those of networks left out.
"""
    return f"{about}\n{table(heads, rows)}\n"


def _costs() -> str:
    rows = []
    for device in fits.CLOCKS:
        one = fits.fitted(device)
        four = one.four_threads
        threads = "" if four is None else f"{four.median} ({four.lowest} to {four.highest})"
        costs = "; ".join(f"{cost.name} {cost.cycles:g}" for cost in one.costs)
        rows.append([f"`{device}`", one.clock.shown, ", ".join(one.precisions), costs, threads])
    heads = ["device", "clock", "precisions", "cycles for one", "4 threads against 1, median and range"]
    return f"{table(heads, rows)}\n"


def _decisions() -> str:
    rows, total = [], [0, 0, 0, 0]
    for device in fits.CLOCKS:
        one = fits.decisions(device, fits.left_out(device, fits.groups_of(fits.fitted(device))))
        figures = [one.pairs, one.ties, one.right, one.always_int8]
        total = [before + figure for before, figure in zip(total, figures, strict=True)]
        rows.append([f"`{device}`", *map(str, figures)])
    about = f"""## Is INT8 faster than float?

For each network that ncnn publishes in float and INT8, with both left out of the fit: does the estimate name the faster
one? Pairs within {fits.TIE:.0%} are ties and left out.
"""
    heads = ["device", "pairs", "ties", "right", "right when INT8 is always the answer"]
    return f"{about}\n{table(heads, [*rows, ['all', *map(str, total)]])}\n"


def _validation() -> str:
    rows = []
    for device in fits.CLOCKS:
        seen, fitted = fits.observations(device), fits.fitted(device)
        predicted = fits.left_out(device, fits.groups_of(fitted))
        cycles_a_ms = (fitted.clock.value or math.nan) * 1e-3
        published_ms, told_ms = [row.cycles / cycles_a_ms for row in seen], predicted / cycles_a_ms
        off = relative_errors(seen, predicted)
        rows += [
            [f"`{device}`", one.network, one.precision, f"{took:.2f}", f"{told:.2f}", f"{share:+.1%}"]
            for one, took, told, share in zip(seen, published_ms, told_ms, off, strict=True)
        ]
    about = """## Every published time

One thread; each estimate by costs fitted without the network, in any precision.
"""
    return f"{about}\n{table(['device', 'network', 'precision', 'published, ms', 'estimated, ms', 'error'], rows)}\n"


def _share(mean: float, worst: float) -> str:
    return f"{mean:.1%}, {worst:.1%}"
