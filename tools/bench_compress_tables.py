"""The tables of the compression benchmark: Markdown from its results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from bench_compress_prune import MEASURED, METHODS, UNIFORM, step_above
from bench_compress_results import DENSE, Figures, Key, Results, mean_and_half
from peers import PRUNERS

from edgeslim.table import markdown_rows as table

Found = dict[Key, Figures]
PLUS_MINUS = "±"


def shown(values: Sequence[float]) -> str:
    """Return the mean of some seeds and half of its 95 % interval; nothing where there is no value."""
    if not values:
        return ""
    mean, half = mean_and_half(values)
    return f"{mean:.2f} {PLUS_MINUS} {half:.2f}" if np.isfinite(half) else f"{mean:.2f}"


def top1(found: Found, method: str, images: int, budget: float | None) -> dict[int, float]:
    """Return the accuracy of each seed of a method, where it reached the budget."""
    return {
        key.seed: figures["top1_pct"]
        for key, figures in found.items()
        if (key.method, key.images, key.budget) == (method, images, budget) and "top1_pct" in figures
    }


def _accuracies(found: Found, method: str, images: int, budget: float) -> str:
    asked = [
        figures for key, figures in found.items() if (key.method, key.images, key.budget) == (method, images, budget)
    ]
    reached = top1(found, method, images, budget)
    return shown(list(reached.values())) if reached or not asked else "unreachable"


def _against_best_peer(found: Found, images: int, budget: float) -> str:
    """Return ours minus the peer of the highest mean, paired by seed."""
    ours = top1(found, "ours", images, budget)
    peers = [one for one in (top1(found, name, images, budget) for name in PRUNERS) if one]
    if not ours or not peers:
        return ""
    best = max(peers, key=lambda one: float(np.mean(list(one.values()))))
    return shown([ours[seed] - best[seed] for seed in ours if seed in best])


def prune(results: Results, model: str, part: str = "prune") -> str:
    """Accuracy of the float networks; one row a budget and number of images."""
    found = results.of(part, model)
    dense = next((f["top1_pct"] for k, f in found.items() if k.method == DENSE), float("nan"))
    cells = sorted({(k.images, k.budget) for k in found if k.budget}, key=lambda one: (one[0], -(one[1] or 0)))
    rows = [
        [str(images), f"{budget:g}", *(_accuracies(found, method, images, budget) for method in METHODS),
         _against_best_peer(found, images, budget)]
        for images, budget in cells
        if budget
    ]  # fmt: skip
    seeds = len({key.seed for key in found})
    return (
        f"{model}, {dense:.2f} % before pruning; top-1 in % of the float network, mean and 95 % interval of {seeds} "
        "seeds\n\n" + table(["images", "share of time", *METHODS, "ours minus best peer"], rows)
    )


def few(results: Results, model: str) -> str:
    """The same from few images."""
    return prune(results, model, "few")


def int8(results: Results, model: str) -> str:
    """What the INT8 files of the first seed are worth and how long they take, against the dense INT8 file."""
    found, times = results.of("int8", model), results.of("latency", model)
    floats = results.of("prune", model) | results.of("matched", model)
    timed = {(key.method, key.budget): figures for key, figures in times.items()}
    shares = {(key.method, key.seed, key.budget): figures for key, figures in floats.items()}
    rows = []
    for key, figures in found.items():
        taken = timed.get((key.method, key.budget))
        ratio = f"{taken['ratio']:.3f} ({taken['low']:.3f} to {taken['high']:.3f})" if taken else ""
        of = shares[key.method, key.seed, key.budget]
        budget = "" if key.budget is None else f"{key.budget:g}"
        rows.append([budget, key.method, f"{of['table_share']:.3f}", ratio, f"{of['macs'] / 1e6:.2f}",
                     f"{of['top1_pct']:.2f}", f"{figures['top1_pct']:.2f}"])  # fmt: skip
    header = ["budget", "method", "time by the table", "measured (95 % interval)", "million MACs", "top-1 in float",
              "top-1 in INT8"]  # fmt: skip
    return f"{model}, first seed; times as shares of the dense INT8 network's\n\n" + table(header, rows)


def equal_accuracy(results: Results, model: str) -> str:
    """The time at which measured widths reach what uniform widths reach at theirs."""
    found = results.of("prune", model) | results.of("matched", model)
    measured = sorted(_points(results, found, MEASURED), key=lambda point: point.top1_pct)
    rows = []
    for uniform in _points(results, found, UNIFORM):
        level, ours = uniform.top1_pct, ""
        if measured and measured[0].top1_pct <= level <= measured[-1].top1_pct:
            share = float(np.interp(level, [p.top1_pct for p in measured], [p.share for p in measured]))
            ours = f"{uniform.share / share:.2f}"
        by_seed = top1(found, UNIFORM, uniform.images, uniform.budget)
        beside = next((p for p in measured if p.budget == step_above(uniform.table_share)), None)
        against = top1(found, MEASURED, uniform.images, beside.budget) if beside else {}
        gains = [against[seed] - by_seed[seed] for seed in by_seed if seed in against]
        rows.append([f"{uniform.table_share:.3f}", f"{level:.2f}", shown(gains), f"{uniform.share:.3f}", ours])
    header = ["time by the table", "top-1, uniform widths", "measured allocation at this time, points more",
              "time measured, uniform widths", "times faster at equal top-1"]  # fmt: skip
    return f"{model}: measured against uniform widths, interpolated between budgets\n\n" + table(header, rows)


@dataclass(frozen=True)
class Point:
    """One budget of a method, mean over seeds; `share` of the dense INT8 time, measured where it was, else by table."""

    images: int
    budget: float
    share: float
    table_share: float
    top1_pct: float


def _points(results: Results, found: Found, method: str) -> list[Point]:
    """Return a method's points, the slowest first."""
    model = next((key.model for key in found), "")
    times = {(key.method, key.budget): f["ratio"] for key, f in results.of("latency", model).items()}
    points = []
    for images, budget in {(key.images, key.budget) for key in found if key.method == method and key.budget}:
        some = [f for k, f in found.items() if (k.method, k.images, k.budget) == (method, images, budget)]
        reached = [f for f in some if "top1_pct" in f]
        if reached and budget:
            by_table = float(np.mean([f["table_share"] for f in reached]))
            accuracy = float(np.mean([f["top1_pct"] for f in reached]))
            points.append(Point(images, budget, times.get((method, budget), by_table), by_table, accuracy))
    return sorted(points, key=lambda point: -point.share)


def seconds(results: Results, model: str) -> str:
    """How long each method takes for one budget; ours keeps its curves from one budget to the next."""
    found = results.of("prune", model)
    tables = [figures["seconds"] for figures in results.of("table", model).values()]
    rows = []
    for method in METHODS:
        taken = [figures["seconds"] for key, figures in found.items() if key.method == method]
        if taken:
            rows.append([method, f"{np.median(taken):.1f}", f"{max(taken):.1f}"])
    told = f"; the table of operator times took {tables[0]:.0f} s once" if tables else ""
    return f"{model}: seconds to prune to one budget{told}\n\n" + table(["method", "median", "longest"], rows)


def round(results: Results, model: str) -> str:  # noqa: A001 - named as its part
    """Rounded weights, activations in float."""
    return _methods(results, "round", model, "weights rounded, activations in float")


def quantize(results: Results, model: str) -> str:
    """INT8 files in their runtimes."""
    return _methods(results, "quantize", model, "files in their runtimes")


def _methods(results: Results, part: str, model: str, what: str) -> str:
    values: dict[str, list[float]] = {}
    for key, figures in results.of(part, model).items():
        values.setdefault(key.method, []).append(figures["top1_pct"])
    rows = [[method, shown(some), str(len(some))] for method, some in values.items()]
    return f"{model}, {what}\n\n" + table(["method", "top-1 in %, mean and 95 % interval", "seeds"], rows)


def resnet50(results: Results, model: str) -> str:
    """Half width in INT8 against full width in fp32."""
    rows = [
        [key.method, f"{f['dense_s'] * 1e3:.2f}", f"{f['half_s'] * 1e3:.2f}",
         f"{f['times_faster']:.2f} ({f['low']:.2f} to {f['high']:.2f})", f"{f['times_smaller']:.1f}"]
        for key, f in results.of("resnet50", model).items()
    ]  # fmt: skip
    header = ["format", "dense fp32, ms", "half width INT8, ms", "times faster (95 % interval)", "times smaller"]
    return f"{model}, random weights\n\n" + table(header, rows)


# Part -> its tables; each takes the results and a model that has some.
TABLES: dict[str, tuple[Callable[[Results, str], str], ...]] = {
    "prune": (prune, int8, equal_accuracy, seconds),
    "few": (few,),
    "round": (round,),
    "quantize": (quantize,),
    "resnet50": (resnet50,),
}
