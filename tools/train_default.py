"""Train the bundled default model on Fashion-MNIST and write everything edgeslim ships of it.

Needs the four files of Debian's `dataset-fashion-mnist` (apt-get install dataset-fashion-mnist).
The 2,000 selection images are held out of the training; the checkpoint is chosen on them, the test
images are looked at once, at the end. Seeded: the same machine gives the same weights.
"""

import argparse
import copy
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from edgeslim.model.default.network import make

PACKAGE = Path(__file__).resolve().parent.parent / "edgeslim" / "model" / "default"
MEAN, STD = 0.2860, 0.3530
SELECTION, CALIBRATION, TO_TRAIN = 2000, 512, 5000  # the last without labels, to recover on


def read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array of one gzipped IDX file."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, shift by up to 2 pixels and erase an 8x8 patch, each image on its own; x is (N, 1, 28, 28)."""
    n = len(x)
    flip = torch.rand(n, generator=generator) < 0.5
    x = torch.where(flip.view(-1, 1, 1, 1), x.flip(3), x)
    padded = functional.pad(x, (2, 2, 2, 2), value=-MEAN / STD)
    shift = torch.randint(0, 5, (2, n, 1), generator=generator)
    rows, columns = shift[0] + torch.arange(28), shift[1] + torch.arange(28)
    x = padded[torch.arange(n).view(-1, 1, 1), 0, rows.unsqueeze(2), columns.unsqueeze(1)].unsqueeze(1)
    corner = torch.randint(-4, 28, (2, n, 1), generator=generator)
    axis = torch.arange(28)
    inside = [(axis >= c) & (axis < c + 8) for c in corner]
    erased = (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)
    return x.masked_fill(erased, 0.0)


@torch.no_grad()
def top1_pct(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of x classified as y, in percent."""
    network.eval()
    hits = sum(int((network(x[i : i + 500]).argmax(1) == y[i : i + 500]).sum()) for i in range(0, len(x), 500))
    return 100.0 * hits / len(x)


def train(
    make: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    chosen_on: tuple[Tensor, Tensor],
    epochs: int,
    seed: int,
    max_lr: float,
    decay: float,
) -> tuple[nn.Module, list[float]]:
    """Return the averaged network of the epoch that does best on `chosen_on`, and every epoch's score there."""
    generator = torch.Generator().manual_seed(seed)
    network = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's stubs
    average = copy.deepcopy(network)
    batch = 256
    steps = len(x) // batch
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_lr, total_steps=epochs * steps, pct_start=0.2)
    best, best_state, scores = -1.0, copy.deepcopy(average.state_dict()), []
    for epoch in range(epochs):
        started = time.monotonic()
        network.train()
        order = torch.randperm(len(x), generator=generator)
        for step in range(steps):
            index = order[step * batch : (step + 1) * batch]
            inputs = augment(x[index], generator).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(inputs)
            loss = functional.cross_entropy(logits.float(), y[index], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            follow(average, network, decay)
        score = top1_pct(average, *chosen_on)
        scores.append(score)
        if score >= best:
            best, best_state = score, copy.deepcopy(average.state_dict())
        print(f"epoch {epoch + 1}/{epochs}: selection {score:.2f} %, {time.monotonic() - started:.0f} s", flush=True)
    average.load_state_dict(best_state)
    return average.eval(), scores


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move every float state of `average` towards `network` (Polyak averaging)."""
    for ours, theirs in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if ours.dtype.is_floating_point:
            ours.lerp_(theirs, 1.0 - decay)
        else:
            ours.copy_(theirs)


def prepare(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return normalized images (N, 1, 28, 28) and their classes (N)."""
    scaled = (torch.from_numpy(images.astype(np.float32)) / 255.0 - MEAN) / STD
    return scaled.unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def load_data(folder: Path, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of the parts: training, and disjoint of it selection; calibration; evaluation."""
    images, labels = (read_idx(folder / f"train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    test = tuple(read_idx(folder / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).numpy()
    selection, rest = order[:SELECTION], order[SELECTION:]
    calibration = rest[:CALIBRATION]
    parts = {"training": rest, "selection": selection, "calibration": calibration}
    return {name: (images[part], labels[part]) for name, part in parts.items()} | {"evaluation": (test[0], test[1])}


def train_on(
    data: dict[str, tuple[np.ndarray, np.ndarray]],
    make: Callable[[], nn.Module],
    weights: Path,
    epochs: int,
    seed: int,
    max_lr: float,
    decay: float,
) -> None:
    """Train `make()`, test it once, write its weights and, beside them, the figures of its training."""
    torch.manual_seed(seed)
    ready = {name: prepare(*part) for name, part in data.items()}
    network, scores = train(make, *ready["training"], ready["selection"], epochs, seed, max_lr, decay)
    tested = top1_pct(network, *ready["evaluation"])
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights)
    figures = {
        "dataset": "Fashion-MNIST",
        "training_images": len(data["training"][0]),
        "selection_images": SELECTION,
        "calibration_images": CALIBRATION,
        "test_images": len(data["evaluation"][0]),
        "epochs": epochs,
        "seed": seed,
        "selection_top1_pct": max(scores),
        "test_top1_pct": tested,
        "parameters": sum(p.numel() for p in network.parameters()),
        "torch": torch.__version__,
    }
    weights.with_name("training.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def parse_arguments(description: str | None, epochs: int) -> argparse.Namespace:
    """Return the options of a training: data, epochs, seed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Write the data sets that edgeslim ships, then train."""
    arguments = parse_arguments(__doc__, epochs=26)
    data = load_data(arguments.data, arguments.seed)
    for name in ("calibration", "selection", "evaluation"):
        images, labels = data[name]
        np.savez_compressed(PACKAGE / f"{name}.npz", images=images, labels=labels)
    behind = slice(CALIBRATION, CALIBRATION + TO_TRAIN)  # in the order of `load_data`
    np.savez_compressed(PACKAGE / "train.npz", images=data["training"][0][behind])
    train_on(data, make, PACKAGE / "weights.safetensors", arguments.epochs, arguments.seed, max_lr=0.2, decay=0.998)


if __name__ == "__main__":
    main()
