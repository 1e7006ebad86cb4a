"""What training gives back of a network that was pruned, on few images and on many, beside what others' pruning keeps.

    python tools/bench_recovery.py [--model MODEL ...] [--seeds 3] [--steps 200] [--data FOLDER] [--out FOLDER]

Networks are pruned to a share of the dense INT8 network's time by a table of operator times
(tools/bench_models/operator_times_MODEL.json; measured and written where it is missing), from 512 images that nobody
trained on, drawn by the seed. Each technique then does as many steps of 128 images: on those 512, on 5,000 of
Fashion-MNIST's training set drawn by the seed, or on all of it but what edgeslim holds out. 10,000 other images judge,
in float. Each row is one loss of step `distill`; `labels` alone is cross-entropy. Peers' networks are trained alike.
Results are kept in FOLDER as they come, and only what is not there is computed; the tables go to stdout.
Needs Debian's `dataset-fashion-mnist`, and `pip install torch-pruning==1.6.1` for peers (`--peers`).
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_compress_case import MODELS, MODELS_FOLDER, Case, load_case
from bench_compress_prune import MEASURED, pruned, timed
from bench_compress_results import DENSE, Figures, Key, Results, mean_and_half
from peers import PRUNERS
from train_default import CALIBRATION, load_data

from edgeslim.compress.distill import step as distill
from edgeslim.compress.prune import step as prune
from edgeslim.devices.machine import this_machine
from edgeslim.errors import Refused, ToolFailed
from edgeslim.measure.operators.used import load_used, save_used
from edgeslim.model.model import Model
from edgeslim.pipeline.latency import Noted
from edgeslim.progress import silent
from edgeslim.tasks.images import ImageSet

BUDGETS = (0.4, 0.25)  # shares of the dense INT8 network's time
CALIBRATING, SOME = 512, 5000
CLOSED_FORM, ANSWERS, LABELS = "closed form", "answers", "labels"
# What is mixed, in the settings of the step; the first two on all numbers of images, the others on one.
MIXES: Mapping[str, Mapping[str, Any]] = {
    ANSWERS: {},
    LABELS: {"answers": 0.0, "labels": 1.0},
    "answers + features": {"features": 1.0},
    "answers + attention": {"attention": 10.0},
    "answers + relations": {"relations": 10.0},
    "answers + labels": {"labels": 0.5},
}
AT = (0.25, SOME)  # where all mixes are tried


@dataclass(frozen=True, eq=False)
class Bench:
    """One model, its training images and their classes, in what edgeslim's own order leaves, and steps for each."""

    case: Case
    images: np.ndarray
    targets: np.ndarray
    steps: int

    def training(self, count: int, seed: int) -> ImageSet:
        """Return so many labelled images; those that calibrate where they are as few."""
        if count == CALIBRATING:
            return self._drawn_of_the_pool(seed)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.images))[:count])
        return ImageSet(self.images[chosen, ..., None], self.targets[chosen], self.case.model.preprocessing)

    def _drawn_of_the_pool(self, seed: int) -> ImageSet:
        drawn = self.case.drawn(CALIBRATING, seed).calibration
        parts = (self.case.data.calibration, self.case.data.selection)
        known = {
            image.tobytes(): target
            for part in parts
            for image, target in zip(np.asarray(part.images), np.asarray(part.targets), strict=True)
        }
        return replace(drawn, targets=np.array([known[image.tobytes()] for image in np.asarray(drawn.images)]))

    @cache  # noqa: B019 # a bench lives as long as its process
    def narrow(self, method: str, budget: float, seed: int) -> Model:
        """Return the pruned network; Refused where its budget cannot be reached."""
        found = pruned(self.case, Key("prune", self.case.name, method, CALIBRATING, seed, budget))
        if found is None:
            raise Refused(f"{method} does not reach {budget:g} of the time")
        return found

    def recovered(self, model: Model, mix: str, count: int, seed: int) -> Model:
        """Return a pruned network that was trained as a build would."""
        drawn = self.case.drawn(CALIBRATING, seed)
        data = replace(drawn, train=self.training(count, seed))
        settings = distill.Settings(steps=self.steps, **MIXES[mix])
        with self.case.context(data, seed) as context:
            return distill.apply(model, settings, replace(context, given=self.case.model))

    def top1_pct(self, model: Model) -> Figures:
        """Return what a network answers rightly of the images that judge."""
        return {"top1_pct": self.case.top1_pct(model.graph)}


def planned(name: str, everything: int, seeds: Sequence[int], peers: Sequence[str]) -> Iterator[tuple[Key, str, str]]:
    """Yield what is computed of one model: its key, the pruner, and what is mixed."""
    for seed in seeds:
        for budget in BUDGETS:
            for method in (MEASURED, *peers):
                yield Key("recovery", name, f"{method}: {CLOSED_FORM}", 0, seed, budget), method, CLOSED_FORM
                for mix in MIXES if method == MEASURED else (ANSWERS,):
                    of_all = method == MEASURED and mix in (ANSWERS, LABELS)
                    for count in (CALIBRATING, SOME, everything):
                        if of_all or (budget, count) == AT:
                            yield Key("recovery", name, f"{method}: {mix}", count, seed, budget), method, mix


def run(bench: Bench, results: Results, seeds: Sequence[int], peers: Sequence[str]) -> None:
    """Compute what is missing of one model."""
    name, everything = bench.case.name, len(bench.images)
    results.remembered(Key("recovery", name, DENSE), lambda: bench.top1_pct(bench.case.model))
    for key, method, mix in planned(name, everything, seeds, peers):
        results.remembered(key, partial(timed, partial(_found, bench, key, method, mix)))


def _found(bench: Bench, key: Key, method: str, mix: str) -> Figures:
    model = bench.narrow(method, key.budget or 1.0, key.seed)
    trained = model if mix == CLOSED_FORM else bench.recovered(model, mix, key.images, key.seed)
    return bench.top1_pct(trained)


def shown(results: Results, model: str) -> str:
    """Return the table of one model: a row a technique, a column a share of time."""
    found = results.of("recovery", model)
    rows: dict[tuple[str, int], dict[float, list[float]]] = {}
    for key, figures in found.items():
        if key.budget is not None:
            rows.setdefault((key.method, key.images), {}).setdefault(key.budget, []).append(figures["top1_pct"])

    def cell(values: Sequence[float]) -> str:
        if not values:
            return ""
        mean, half = mean_and_half(values)
        return f"{mean:.2f} ± {half:.2f}" if len(values) > 1 else f"{mean:.2f}"

    dense = found[Key("recovery", model, DENSE)]["top1_pct"]
    head = [f"{model}, {dense:.2f} %", "images", *(f"{one:g} of the time" for one in BUDGETS)]
    body = [
        [method, str(images) if images else "", *(cell(by.get(one, [])) for one in BUDGETS)]
        for (method, images), by in rows.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def load_bench(name: str, arguments: argparse.Namespace) -> Bench:
    """Return a model with its images and its table of operator times, which is written where it is missing."""
    file = MODELS_FOLDER / f"operator_times_{name}.json"
    case = load_case(name, "litert", arguments.out)
    if not file.is_file():
        noted = Noted(case.profile, 1, arguments.out / "store", silent)
        with case.context(case.drawn(CALIBRATING, 0), 0) as context:
            prune.apply(case.model, prune.Settings(keep_latency=BUDGETS[0]), replace(context, operator_latency=noted))
        if noted.used is None:
            raise ToolFailed("pruning asked for no times")
        save_used(noted.used, file)
    images, targets = load_data(arguments.data, 0)["training"]
    behind = slice(CALIBRATION, None)  # what calibrates is in the pool
    return Bench(replace(case, given=load_used(file)), images[behind], targets[behind], arguments.steps)


def main() -> None:
    """Run what was asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--peers", nargs="*", choices=PRUNERS, default=[])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench_recovery"))
    arguments = parser.parse_args()
    results = Results(arguments.out)
    for name in arguments.model:
        run(load_bench(name, arguments), results, range(arguments.seeds), arguments.peers)
    print(f"{arguments.steps} steps of 128 images, {torch.get_num_threads()} threads, {this_machine().cpu_model}")
    for name in arguments.model:
        print(f"\n{shown(results, name)}")


if __name__ == "__main__":
    main()
