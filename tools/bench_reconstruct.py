"""Print how long the reconstruction of a pruned network takes, and the most memory the process ever held.

    python tools/bench_reconstruct.py [MODEL] [--images 256] [--share 0.5]

MODEL is of torchvision (default resnet50) with random weights at its own input size; every group of channels keeps
`--share` of them on multiples of 8, the first ones. The images are noise: neither time nor memory depends on what they
show. Also printed: how far the logits are from the dense network's before and after, relative to their size.
"""

import argparse
import os
import resource
import time
from collections.abc import Sequence

from edgeslim.resources import HUGE_PAGES

os.environ.setdefault(*HUGE_PAGES)  # as the command line does, before torch is there

import torch
from torch import Tensor, fx
from width_share import beyond_share

from edgeslim.compress.prune.channels import channels_of, cut, surviving_rows
from edgeslim.devices.machine import this_machine
from edgeslim.model.fitting.reconstruct import reconstruct
from edgeslim.model.graph import batched
from edgeslim.model.load import load_model

BATCH = 32


@torch.no_grad()
def error(dense: fx.GraphModule, pruned: fx.GraphModule, images: Sequence[Tensor]) -> float:
    """Return the norm of the logits' difference over that of the dense logits, on the first batch."""
    wanted = dense(images[0])
    return float((pruned(images[0]) - wanted).norm() / wanted.norm())


def main() -> None:
    """Prune, reconstruct, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet50")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--share", type=float, default=0.5)
    arguments = parser.parse_args()
    model = load_model(f"torchvision:{arguments.model}", "random")
    chance = torch.Generator().manual_seed(0)
    images = torch.randn(arguments.images, *model.input_shape[1:], generator=chance).split(BATCH)
    channels = channels_of(model.graph)
    removed = beyond_share(channels, arguments.share)
    dense = batched(model.graph)
    pruned = cut(dense, channels, removed)
    before = error(dense, pruned, images)
    started = time.monotonic()
    remarks = reconstruct(dense, pruned, surviving_rows(channels, removed), images)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    machine = this_machine()
    shape = tuple(model.input_shape[1:])
    print(f"{arguments.model}, {arguments.images} images {shape}, {torch.get_num_threads()} threads")
    print(f"machine: {machine.cpu_model}")
    print(f"reconstruction: {seconds:.0f} s; peak memory of the process {peak / 1e9:.2f} GB")
    print(f"error of the logits, relative: {before:.3f} before, {error(dense, pruned, images):.3f} after")
    print(f"{len(remarks)} layers with fewer rows than inputs")


if __name__ == "__main__":
    main()
