"""What tracing and folding cost a network in the last digits, against what its own fp32 loses against float64.

`python tools/bench_exact.py [NAME ...]` prints a row for each of these torchvision networks, with random weights whose
batch norms are settled, on synthetic images; no file is written.
"""

import sys

from edgeslim.compress import fold
from edgeslim.model.equivalence import exactness
from edgeslim.model.load import load_model
from edgeslim.table import markdown_rows as table

NETWORKS = (
    "resnet18", "resnet50", "resnet101", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x1_0",
    "squeezenet1_1", "densenet121", "googlenet",
)  # fmt: skip


def row(name: str) -> list[str]:
    """Return the row of one network: all figures are SQNR in dB."""
    model = load_model(f"torchvision:{name}", "random")
    data = model.task.read("synthetic", model.facts)
    images = next(iter(data.selection.tensors()))
    traced = exactness(model.network, model.graph, images)
    folded = exactness(model.network, fold.folded(model.network, model.input_shape)[0], images)
    return [
        name,
        f"{traced.own_db:g}",
        f"{traced.sqnr_db:g}",
        f"{folded.sqnr_db:g}",
        f"{folded.float64_db:g}",
        f"{folded.demanded_float64_db:g}",
        "yes" if traced.holds and folded.holds else "NO",
    ]


def main(names: list[str]) -> None:
    """Print the table, a row as soon as it is there on stderr."""
    rows = []
    for name in names or NETWORKS:
        rows.append(row(name))
        print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
    heads = [
        "network", "its fp32 against its float64", "traced, against the module", "folded, against the module",
        "folded, against float64", "demanded", "holds",
    ]  # fmt: skip
    print(table(heads, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
