"""The compression benchmark's first question: what is left of a network that was pruned to a share of its time."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from bench_compress_case import Case, calibration_inputs, export_int8, folded, quantized
from bench_compress_results import DENSE, Figures, Key, Results
from peers import PRUNERS

from edgeslim.compress.prune import step as prune
from edgeslim.deploy.device import Candidate
from edgeslim.errors import Refused
from edgeslim.measure.comparison import faster
from edgeslim.measure.harness import Workload, measure
from edgeslim.model.graph import macs_of
from edgeslim.model.model import Model

MEASURED, UNIFORM = "ours", "ours, uniform widths"
OURS = {MEASURED: "measured", UNIFORM: "uniform"}
METHODS = (*OURS, *PRUNERS)
TIMED_IMAGES, TIMED_S = 32, 0.2


def prune_at(
    case: Case, results: Results, part: str, images: int, seeds: Sequence[int], budgets: Sequence[float]
) -> None:
    """Prune by every method to every budget from every seed's images; judge in float, the first seed's in INT8 too."""
    in_int8 = part == "prune"
    table = Key("table", case.name, case.runtime)
    results.remembered(table, lambda: timed(lambda: {"dense_s": case.dense_s}))
    dense = Key(part, case.name, DENSE, images, seeds[0])
    results.remembered(dense, lambda: worth(case, case.model))
    if in_int8:
        judge_int8(case, results, dense, lambda: case.model)
    for seed in seeds:
        for budget in budgets:
            for method in METHODS:
                key = Key(part, case.name, method, images, seed, budget)
                prune_one(case, results, key, in_int8=in_int8 and seed == seeds[0])
                if key.method == UNIFORM and in_int8 and "table_share" in results.of(part, case.name)[key]:
                    prune_one(case, results, matched(results, key), in_int8=seed == seeds[0])


def matched(results: Results, key: Key) -> Key:
    """Return ours at the time that uniform widths take by the table: those change in steps, far below a budget."""
    share = results.of(key.part, key.model)[key]["table_share"]
    return replace(key, part="matched", method=MEASURED, budget=step_above(share))


def step_above(share: float) -> float:
    """Return a share of time as a budget that it meets, in four digits."""
    return math.ceil(share * 1e4) / 1e4


def prune_one(case: Case, results: Results, key: Key, *, in_int8: bool) -> None:
    """Prune once and judge what has not been judged."""

    @cache
    def model() -> Model | None:
        return pruned(case, key)

    def found() -> Figures:
        figures = timed(lambda: {"reached": model() is not None})
        return {**figures, **worth(case, reached(model()))} if figures["reached"] else figures

    if results.remembered(key, found)["reached"] and in_int8:
        judge_int8(case, results, key, lambda: reached(model()))


def pruned(case: Case, key: Key) -> Model | None:
    """Return the model pruned to a share of the dense network's time by the table, None where that is unreachable."""
    data, share = case.drawn(key.images, key.seed), key.budget or 1.0
    try:
        if key.method in OURS:
            settings = prune.Settings(keep_latency=share, allocation=OURS[key.method])
            with case.context(data, key.seed) as context:
                return prune.apply(case.model, settings, context)
        images = torch.from_numpy(calibration_inputs(data, "onnxruntime"))
        budget = share * case.dense_s
        network = PRUNERS[key.method](case.model.network, images, case.table_s, budget, case.multiple)
    except Refused:
        return None
    return case.model.after(key.method, network=network)


def reached(model: Model | None) -> Model:
    """Return a model that was there before."""
    if model is None:
        raise Refused("a budget that was reached before is unreachable now: another operator table?")
    return model


def timed(compute: Callable[[], Figures]) -> Figures:
    """Return what `compute` returns, and the seconds it took."""
    started = time.perf_counter()
    found = compute()
    return {**found, "seconds": time.perf_counter() - started}


def worth(case: Case, model: Model) -> Figures:
    """Return accuracy in float, share of the dense time by the table, and multiply-accumulates."""
    share = case.table_s(model.graph) / case.dense_s
    return {"top1_pct": case.top1_pct(model.graph), "table_share": share, "macs": macs_of(model.graph)}


def judge_int8(case: Case, results: Results, key: Key, model: Callable[[], Model]) -> None:
    """Write the INT8 file of a model, keep it, and judge it in its runtime."""
    judged = replace(key, part="int8")
    slug = "".join(c if c.isalnum() else "-" for c in f"{key.model} {key.method} {key.images} {key.seed} {key.budget}")

    def found() -> Figures:
        with case.context(case.drawn(key.images, key.seed), key.seed) as context:
            written = export_int8(quantized(folded(model(), context), context), case.format, context)
            kept = case.out / f"{slug}{written.suffix}"
            for file in written.parent.glob(f"{written.stem}.*"):  # OpenVINO's weights lie beside its model
                shutil.copy(file, kept.with_suffix(file.suffix))
        return {"top1_pct": case.file_top1_pct(case.runtime, kept, "int8"), "file": kept.name}

    results.remembered(judged, found)


def time_files(case: Case, results: Results, processes: int) -> None:
    """Time every INT8 file of a model that was pruned, interleaved with the dense one."""
    files = results.of("int8", case.name)
    keys = {str(key): replace(key, part="latency") for key in files}
    if all(key in results for key in keys.values()):
        return
    candidates = [Candidate(str(key), case.runtime, case.out / found["file"], "int8") for key, found in files.items()]
    inputs = np.array(np.load(case.inputs(case.runtime), mmap_mode="r")[:TIMED_IMAGES])
    measured = measure(candidates, inputs, Workload(processes=processes, min_duration_s=TIMED_S))
    dense = next(one for one, key in zip(measured, files, strict=True) if key.method == DENSE)
    for one in measured:
        verdict = faster(one, dense)
        low, high = verdict.interval
        found = {"ratio": verdict.ratio, "low": low, "high": high, "median_s": one.median_s}
        results.keep(keys[one.label], found)
