"""Train the little network on a folder of images by class: python train.py FOLDER WEIGHTS.safetensors.

FOLDER holds `train` and `test`, each with a folder of images for every label. Seeded; a minute at most on any laptop.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from little_net import LABELS, PREPROCESSING, make
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional


def read(folder: Path) -> tuple[Tensor, Tensor]:
    """Return normalized images (N, 1, 28, 28) and their classes (N), the places of their folders' names in LABELS."""
    files = [file for label in LABELS for file in sorted((folder / label).iterdir())]
    size = (PREPROCESSING["width"], PREPROCESSING["height"])
    images = np.stack([np.asarray(Image.open(file).convert("L").resize(size), np.float32) for file in files])
    scaled = (images / 255 - PREPROCESSING["mean"][0]) / PREPROCESSING["std"][0]
    classes = [LABELS.index(file.parent.name) for file in files]
    return torch.from_numpy(scaled.astype(np.float32))[:, None], torch.tensor(classes)


def trained(images: Tensor, classes: Tensor, epochs: int = 12, seed: int = 0) -> nn.Module:
    """Return a network trained on images by gradient descent with momentum, half of them mirrored each time."""
    torch.manual_seed(seed)
    network, batch = make(), 64
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for step in range(len(images) // batch):
            chosen = order[step * batch : (step + 1) * batch]
            mirrored = torch.rand(batch, 1, 1, 1) < 0.5
            inputs = torch.where(mirrored, images[chosen].flip(3), images[chosen])
            loss = functional.cross_entropy(network(inputs), classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def right_pct(network: nn.Module, images: Tensor, classes: Tensor) -> float:
    """Return the share of images that a network names rightly, in percent."""
    return 100 * float((network(images).argmax(1) == classes).float().mean())


def main() -> None:
    """Train, say how good the network is on images that it never saw, and write its weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    network = trained(*read(arguments.folder / "train"), epochs=arguments.epochs)
    print(f"{right_pct(network, *read(arguments.folder / 'test')):.1f} % of the test images are named rightly")
    save_file(network.state_dict(), arguments.weights)


if __name__ == "__main__":
    main()
