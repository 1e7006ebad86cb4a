"""Train the benchmark's second model on Fashion-MNIST and write its weights and figures into tools/bench_models/.

The same data, split, method and choice of the checkpoint as `train_default.py`, which this needs beside it, at a lower
rate and with a shorter average.
"""

from pathlib import Path

from bench_models.mobile import make
from train_default import load_data, parse_arguments, train_on

WEIGHTS = Path(__file__).resolve().parent / "bench_models" / "mobile.safetensors"


def main() -> None:
    """Train, test once, write."""
    arguments = parse_arguments(__doc__, epochs=10)
    train_on(
        load_data(arguments.data, arguments.seed),
        make,
        WEIGHTS,
        arguments.epochs,
        arguments.seed,
        max_lr=0.05,
        decay=0.99,
    )


if __name__ == "__main__":
    main()
