"""What the rewrites that are not exact cost a trained network: accuracy before, after, and after the recovery.

    python tools/bench_legalize.py [--device nxp-imx93] [--epochs 24]

Trains the network of bench_models/gated.py, seeded, on the first 7,000 of the bundled test images, and judges on the
other 3,000; calibration and selection images are the bundled ones, as in a build. Each rewrite is made wherever it
applies, alone, then all of them together; what `auto` makes of the network is said below. INT8 is the TFLite file in
LiteRT. Takes about two minutes of training, and less than one for each row. Prints a Markdown table.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from bench_compress_case import export_int8, folded, quantized
from bench_models import gated
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from train_default import augment, prepare

from edgeslim.compress.legalize import step as legalize
from edgeslim.compress.legalize.rewrites import known_rewrites, rewrite_named
from edgeslim.deploy.run_model import run_model
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.errors import BadInput
from edgeslim.model.context import Context
from edgeslim.model.graph import batched, copy_of, drop_unused, input_of, shape_of, trace
from edgeslim.model.load import load_model
from edgeslim.model.model import Model
from edgeslim.progress import silent
from edgeslim.table import markdown_rows as table
from edgeslim.tasks.classification import agreement_pct, score
from edgeslim.tasks.images import Data, ImageSet

TRAINING = 7_000
BATCH, HIGHEST_RATE, DECAY = 128, 4e-3, 0.01
HEADER = (
    "rewrite", "places", "float, no recovery", "float, recovered", "INT8, no recovery", "INT8, recovered",
    "recovered INT8 answers as the float network did",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """The logits of one form of the network on the images that judge, in float and as the INT8 file."""

    floats: NDArray[np.float32]
    int8: NDArray[np.float32]


def train(images: Tensor, labels: Tensor, epochs: int, seed: int) -> nn.Module:
    """Return the network trained on normalized images (N, 1, 28, 28) and their classes, with AdamW in one cycle."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network: nn.Module = gated.make().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload] # missing in torch's stubs
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=HIGHEST_RATE, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            index = order[step * BATCH : (step + 1) * BATCH]
            logits = network(augment(images[index], generator).contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits, labels[index], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    return network


def trained(work: Path, epochs: int, seed: int) -> tuple[Model, Data]:
    """Return the trained network as a build loads it, and its data; what judges was never trained on."""
    source = f"{Path(gated.__file__)}:make"
    untrained = load_model(source, "random")
    data = untrained.task.read(None, replace(untrained.facts, bundled=True))
    images, labels = np.asarray(data.evaluation.images), data.evaluation.targets
    if labels is None:
        raise BadInput("the bundled test images have no labels")
    network = train(*prepare(images[:TRAINING, :, :, 0], np.asarray(labels)[:TRAINING]), epochs, seed)
    weights = work / "gated.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
    judging = ImageSet(images[TRAINING:], labels[TRAINING:], untrained.preprocessing)
    return load_model(source, str(weights)), replace(data, evaluation=judging)


@torch.no_grad()
def result(model: Model, context: Context) -> Result:
    """Return what a folded network answers, in float and quantized to a TFLite file in LiteRT."""
    graph = batched(model.graph)
    floats = torch.cat([graph(batch) for batch in context.data.evaluation.tensors()]).numpy()
    with tempfile.TemporaryDirectory() as folder:
        within = replace(context, work=Path(folder))
        file = export_int8(quantized(model, within), "tflite", within)
        inputs = np.concatenate(list(context.data.evaluation.inputs()))
        return Result(floats, run_model("litert", file, inputs, precision="int8")[0])


def rewritten(model: Model, names: Sequence[str], profile: DeviceProfile) -> tuple[Model, int]:
    """Return a folded network with rewrites made wherever they apply, without recovery, and at how many places."""
    if profile.npu is None:
        raise BadInput(f"{profile.name} has no NPU")
    graph, count = copy_of(model.graph), 0
    for name in names:
        rewrite = rewrite_named(name)
        for node in list(graph.graph.nodes):
            if node.op == "call_function" and rewrite.applies(node, profile.npu):
                rewrite.rewrite(graph, node, profile.npu)
                count += 1
    graph.graph.eliminate_dead_code()
    drop_unused(graph)
    graph.recompile()
    return replace(model, network=trace(graph, shape_of(input_of(graph)))), count


def row(names: Sequence[str], before: Result, model: Model, context: Context) -> list[str]:
    """Return the line of some rewrites."""
    plain, places = rewritten(model, names, context.profile)
    recovered = legalize.apply(model, legalize.Settings(("none", *(f"{name}=yes" for name in names))), context)
    without, fitted = result(plain, context), result(recovered, context)
    name = " + ".join(f"`{name}`" for name in names)
    return [name, str(places), *_accuracies(without, fitted, context), _agreement(before, fitted)]


def _accuracies(without: Result, fitted: Result, context: Context) -> list[str]:
    labels = context.data.evaluation.targets
    parts = (without.floats, fitted.floats, without.int8, fitted.int8)
    return [f"{score([logits], labels, [logits]).value:.2f} %" for logits in parts]


def _agreement(before: Result, fitted: Result) -> str:
    return f"{agreement_pct([before.floats], [fitted.int8]):.2f} %"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train, rewrite, recover, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="nxp-imx93")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    profile = load_profile(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.monotonic()
        model, data = trained(Path(folder), arguments.epochs, arguments.seed)
        training_s = time.monotonic() - began_s
        context = Context(profile, data, arguments.seed, Path(folder), silent)
        ready = folded(model, context)
        before = result(ready, context)
        asked = legalize.apply(ready, legalize.Settings(), context)
        inexact = [name for name in known_rewrites() if not rewrite_named(name).EXACT]
        print(table(HEADER, []), flush=True)
        print(_line(["none", "0", *_accuracies(before, before, context), _agreement(before, before)]), flush=True)
        for names in (*([name] for name in inexact), inexact):
            print(_line(row(names, before, ready, context)), flush=True)
        print(f"\n`auto` for {profile.name}: {asked.history[-1]}. Trained in {training_s:.0f} s.")


if __name__ == "__main__":
    main()
