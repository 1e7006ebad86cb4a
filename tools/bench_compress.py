"""Compare what edgeslim makes of a model without any training with what others make of it, from the same images.

    python tools/bench_compress.py [--part PART ...] [--model MODEL ...] [--seeds 3] [--out FOLDER]

Parts: `prune` (accuracy at shares of the dense INT8 network's time), `few` (the same from 64 and 500 images), `round`
(weights in 4 bits, and in 8 with one scale a layer), `quantize` (against NNCF, ONNX Runtime's static quantization and
ai-edge-quantizer), `resnet50` (half of its width in INT8 against itself in fp32; random weights: speed and size).

A seed chooses the unlabelled images that a method may look at, out of 2,512 that nobody trained on; 10,000 others
judge. Every method prunes to multiples of the runtime's own and meets a budget by the same table of measured operator
times; what the whole INT8 networks then take is measured interleaved. Results are kept in FOLDER as they come, and only
what is not there is computed; the tables of all that is there go to stdout.
Peers: `pip install torch-pruning==1.6.1 nncf`.
"""

import argparse
from pathlib import Path

from bench_compress_case import MODELS, load_case
from bench_compress_others import quantize_all, resnet50, round_all
from bench_compress_prune import prune_at, time_files
from bench_compress_results import Results
from bench_compress_tables import TABLES
from peers import PRUNERS, ROUNDERS, describe

from edgeslim.devices.machine import this_machine
from edgeslim.formats import RUNTIMES

BUDGETS = (0.8, 0.6, 0.4, 0.25)  # shares of the dense INT8 network's time
IMAGES = 512
FEW_IMAGES, FEW_BUDGETS = (64, 500), (0.4,)


def run(part: str, model: str, results: Results, arguments: argparse.Namespace) -> None:
    """Compute what is missing of one part and model."""
    seeds = range(arguments.seeds)
    case = load_case(model, arguments.runtime, arguments.out)
    if part == "prune":
        prune_at(case, results, part, IMAGES, seeds, arguments.budget)
        time_files(case, results, arguments.processes)
    elif part == "few":
        for images in FEW_IMAGES:
            prune_at(case, results, part, images, seeds, FEW_BUDGETS)
    elif part == "round":
        round_all(case, results, IMAGES, seeds)
    else:
        quantize_all(case, results, IMAGES, seeds)


def show(results: Results, runtime: str) -> None:
    """Print the settings of the peers and the tables of all results."""
    machine = this_machine()
    print(f"1 thread, {runtime} on {machine.cpu_model}. Peers:\n")
    for name in (*PRUNERS, *ROUNDERS):
        print(f"- {name}: {describe(name)}")
    for part, tables in TABLES.items():
        for model in results.models(part):
            for one in tables:
                print(f"\n{one(results, model)}")


def main() -> None:
    """Run what was asked for, and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="*", choices=TABLES, default=list(TABLES), help="none: only print the tables")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, nargs="+", default=BUDGETS, help="of the part `prune`")
    parser.add_argument("--runtime", choices=RUNTIMES, default="litert")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench_compress"))
    arguments = parser.parse_args()
    results = Results(arguments.out)
    for part in arguments.part:
        if part == "resnet50":
            resnet50(results, arguments.processes)
            continue
        for model in arguments.model:
            run(part, model, results, arguments)
    show(results, arguments.runtime)


if __name__ == "__main__":
    main()
