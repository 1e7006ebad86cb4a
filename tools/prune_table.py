"""Print which of torchvision's classifiers edgeslim can prune, and what is left of each; or why it refuses one.

    python tools/prune_table.py [MODEL ...] [--again]

Each model gets random weights and a small input, in a process of its own: its channels are grouped, every group keeps
the same share of them on multiples of 8, the largest that leaves at most half of the multiply-accumulates, and seeded
random ones go. The network without them must count the multiply-accumulates that were foretold, and compute what the
dense network computes with zeros in their place. What is found is kept in tools/bench_models/prune_table.json, model
by model, and not computed again; Markdown goes to stdout.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import fx, nn

from edgeslim.compress.prune.allocation import Problem, uniform
from edgeslim.compress.prune.candidates import PrunedNetwork, widened
from edgeslim.compress.prune.channels import Channels, channels_of, legal_widths, without
from edgeslim.compress.prune.sizes import sizes_of
from edgeslim.errors import BadModel, Refused
from edgeslim.model.graph import drop_unused, input_of, macs_of, shape_of, trace
from edgeslim.model.sources.torchvision import torchvision_models
from edgeslim.table import markdown_rows as table
from edgeslim.tasks.task import Drop

FOUND = Path(__file__).resolve().parent / "bench_models" / "prune_table.json"
SIDES = (64, 80, 224)  # of the input; the first that the network takes
MULTIPLE, KEEP_MACS = 8, 0.5
SEED = 0
TOLERANCE = 1e-4  # of the largest logit, in float32
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Row:
    """What became of one model; `refused` is the first reason, `failed` what nobody meant to happen."""

    side: int = 0
    groups: int = 0
    kept_macs_pct: float | None = None
    refused: str | None = None
    failed: str | None = None

    @property
    def outcome(self) -> str:
        """The last cell of the table."""
        if self.kept_macs_pct is not None:
            return f"{self.kept_macs_pct:.1f}"
        return f"refused: {self.refused}" if self.refused else f"failed: {self.failed}"


def prune_one(name: str) -> Row:
    """Prune one model of torchvision to half of its multiply-accumulates and check what is left."""
    torch.manual_seed(SEED)
    # Their own initialization takes minutes, and without weights nothing rescales their input.
    slow = {"transform_input": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = torchvision_models().get_model(name, weights=None, **slow).eval()
    side, graph = _traced(network)
    del network
    drop_unused(graph)
    try:
        channels = channels_of(graph)
    except Refused as refusal:
        return Row(side, refused=(refusal.reasons or (str(refusal),))[0])
    sizes = sizes_of(graph, channels)
    legal = {group: legal_widths(channels, group, MULTIPLE) for group in channels.groups}
    plan = uniform(Problem({}, sizes, sizes.macs), legal, KEEP_MACS * sizes.macs(sizes.dense))
    if plan is None:
        return Row(side, len(legal), failed=f"no legal widths leave {KEEP_MACS:.0%} of the multiply-accumulates")
    chance = random.Random(SEED)  # noqa: S311 - which channels go is no secret
    removed = {
        group: sorted(chance.sample(range(dense), dense - plan.widths[group])) for group, dense in sizes.dense.items()
    }
    dense_macs = macs_of(graph)
    pruned = without(graph, channels, removed)
    fault = _fault(graph, pruned, channels, removed, int(plan.cost))
    return Row(side, len(legal), failed=fault) if fault else Row(side, len(legal), 100 * macs_of(pruned) / dense_macs)


def _traced(network: nn.Module) -> tuple[int, fx.GraphModule]:
    """Return the first side of the input that the network takes, and the network traced for it."""
    for side in SIDES[:-1]:
        try:
            return side, trace(network, (1, 3, side, side))
        except BadModel:
            continue
    return SIDES[-1], trace(network, (1, 3, SIDES[-1], SIDES[-1]))


@torch.no_grad()
def _fault(
    graph: fx.GraphModule, pruned: fx.GraphModule, channels: Channels, removed: dict[str, list[int]], macs: int
) -> str | None:
    """Return what is wrong with a pruned network, None where nothing is."""
    if macs_of(pruned) != macs:
        return f"{macs_of(pruned)} multiply-accumulates where {macs} were foretold"
    image = torch.randn(shape_of(input_of(pruned)), generator=torch.Generator().manual_seed(SEED))
    answers = pruned(image)
    zeros_instead = widened(PrunedNetwork(pruned, removed, (), Drop(0.0, 0.0), ()), graph, channels)(image)
    if answers.shape != zeros_instead.shape or not bool(answers.isfinite().all()):
        return f"logits of {tuple(answers.shape)} for {tuple(zeros_instead.shape)}, or not all finite"
    off = float((answers - zeros_instead).abs().max() / zeros_instead.abs().max())
    return None if off <= TOLERANCE else f"logits are off by {off:.1e} of the largest"


def in_fresh_process(name: str) -> Row:
    """Return what a process of its own finds, within a time limit; what it dies of is the row's failure."""
    command = [sys.executable, __file__, "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Row(failed=f"not done after {TIMEOUT_S:.0f} s")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return Row(failed=said[-1] if said else f"the process ended with {done.returncode}")
    return Row(**json.loads(done.stdout))


def markdown(rows: Mapping[str, Row]) -> str:
    """Return the table."""
    lines = [(name, str(row.groups or ""), row.outcome) for name, row in sorted(rows.items())]
    return table(["model", "groups of channels", "MACs kept, %"], lines)


def load(path: Path = FOUND) -> dict[str, Row]:
    """Return what was found before, by model."""
    return {name: Row(**row) for name, row in json.loads(path.read_text()).items()} if path.is_file() else {}


def main() -> None:
    """Complete what was found before, and print the table."""
    known = torchvision_models().list_models(module=torchvision_models())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="all where none is named")
    parser.add_argument("--again", action="store_true", help="forget what was found of these models")
    parser.add_argument("--one", choices=known, metavar="MODEL", help="print one row as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(asdict(prune_one(arguments.one))))
        return
    rows = load()
    for name in arguments.models or known:
        if name not in rows or arguments.again:
            started = time.monotonic()
            rows[name] = in_fresh_process(name)
            print(f"{name}: {rows[name].outcome} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
            FOUND.write_text(json.dumps({key: asdict(rows[key]) for key in sorted(rows)}, indent=1) + "\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
