"""What a build would take of time and disk, as far as that can be said honestly before it."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from edgeslim.export.evaluation.inputs import PART_BYTES
from edgeslim.model.model import Model
from edgeslim.pipeline.preflight.past_builds import PastBuild, Work, most_alike, past_builds
from edgeslim.recipe import Recipe
from edgeslim.tasks.image_store import MOST_BYTES
from edgeslim.tasks.images import Data
from edgeslim.threads import cores

# Bytes of a parameter in the file that a step makes, beside those of the float one.
FILE_BYTES = {"quantize": 1, "mixed_precision": 2}
FLOAT_BYTES = 4
TIMED_S, LEAST_RUNS, MOST_RUNS = 0.5, 3, 50


@dataclass(frozen=True)
class Inference:
    """What one inference took in PyTorch here, just now: the median of `runs`, the least and the most."""

    s: float
    least_s: float
    most_s: float
    runs: int


@dataclass(frozen=True)
class Expected:
    """What a build would take here.

    `past_s`: what the last build of the same work took here, None where there was none. `judging_s`: what running the
    images that judge in every file takes of it: as many inferences as here in PyTorch, `at_once` side by side. `alike`:
    of the builds here the one most like it. `weights_bytes`: of all files, in the folder and in its archive, with no
    channel pruned; `temporary_bytes`: of inputs, while it runs; `kept_bytes`: of decoded images, for the next build.
    """

    past_s: float | None
    inference: Inference
    files: int
    images: int  # that judge
    at_once: int  # files that are run
    judging_s: float
    alike: PastBuild | None
    weights_bytes: int
    temporary_bytes: int
    kept_bytes: int


def expected(model: Model, recipe: Recipe, data: Data, work: Work, inference: Inference, store: Path) -> Expected:
    """Return what a build would take, from the notes of builds in the store and an inference that was measured."""
    past, judging = past_builds(store), data.evaluation
    added = [FILE_BYTES[call.step] for call in recipe.steps if call.step in FILE_BYTES]
    files = len(recipe.formats) * (1 + len(added))
    at_once = min(max(cores() // recipe.threads, 1), files)
    how = judging.preprocessing
    values = how.width * how.height * how.channels
    decoded = [len(one) for one in (data.calibration, data.selection, judging) if isinstance(one.images, list)]
    return Expected(
        past_s=next((one.seconds for one in past if one.work == work), None),
        inference=inference,
        files=files,
        images=len(judging),
        at_once=at_once,
        judging_s=files * len(judging) * inference.s / at_once,
        alike=most_alike(work, past),
        weights_bytes=2 * model.parameters * len(recipe.formats) * (FLOAT_BYTES + sum(added)),
        temporary_bytes=2 * min(4 * values * len(judging), 2 * PART_BYTES),  # in two layouts, two parts at most
        kept_bytes=min(values * sum(decoded), MOST_BYTES),
    )


@torch.no_grad()
def timed_inference(network: nn.Module, image: Tensor) -> Inference:
    """Return what an inference (1, C, H, W) takes in PyTorch, after one that is not counted; in about half a second."""
    network.eval()
    network(image)
    taken: list[float] = []
    while len(taken) < LEAST_RUNS or (sum(taken) < TIMED_S and len(taken) < MOST_RUNS):
        began_s = time.perf_counter()
        network(image)
        taken.append(time.perf_counter() - began_s)
    return Inference(median(taken), min(taken), max(taken), len(taken))
