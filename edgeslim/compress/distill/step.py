"""Train what pruning left of a network to answer as the whole one does, on images that need no labels.

The loss is the divergence of its answers from those of the network as it was given, both softened by a temperature T
and weighed by T^2 (Hinton, Vinyals & Dean 2015, Distilling the Knowledge in a Neural Network, section 2); a recipe may
mix in others (losses.py). Images are those of --train, without them those that calibrate. What it gives back is
measured on the selection images, and where it gives nothing it is undone.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import fx

from edgeslim.cache import graph_sha256, remember
from edgeslim.compress.distill.losses import ANSWERS, INSIDE, Mix
from edgeslim.compress.prune.candidates import Judge
from edgeslim.compress.prune.workbench import images_of
from edgeslim.devices.profile import DeviceProfile
from edgeslim.errors import BadInput
from edgeslim.model.context import Context
from edgeslim.model.fitting.training import Schedule, Trained, steps_within, train
from edgeslim.model.graph import (
    ATEN,
    batched,
    copy_of,
    output_nodes,
    without_probabilities,
)
from edgeslim.model.model import Model
from edgeslim.tasks.images import ImageSet

DISTILLED = "distill: "  # so begins the line of a network's history that tells of it
NOTHING = f"{DISTILLED}nothing"


@dataclass(frozen=True)
class Settings:
    """What a recipe may say about this step: for how long is trained, or how many steps, and how."""

    seconds: float = 120.0
    steps: int | None = None  # in place of as many as the seconds allow here
    temperature: float = 2.0
    learning_rate: float = 0.02
    batch: int = 128  # images of a step
    answers: float = 1.0  # the weights of losses: of answers,
    labels: float = 0.0  # of what the images are labelled as,
    features: float = 0.0  # of activations, behind a 1x1 convolution that learns with them,
    attention: float = 0.0  # of the places where they are large,
    relations: float = 0.0  # and of how the images of a batch lie to each other in the last of them

    def __post_init__(self) -> None:
        if faults := list(self._faults()):
            raise BadInput("\n".join(faults))

    def _faults(self) -> Iterator[str]:
        for name in ("seconds", "temperature", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                yield f"distill: {name} is {getattr(self, name):g}; expected a number above 0"
        if self.steps is not None and self.steps < 1:
            yield f"distill: steps is {self.steps}; expected 1 or more"
        if self.batch < 2:
            yield f"distill: batch is {self.batch}; expected 2 or more"
        weights = {name: getattr(self, name) for name in (*ANSWERS, *INSIDE)}
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                yield f"distill: {name} is {weight:g}; expected a weight of 0 or more"
        if not any(weights.values()):
            yield f"distill: {', '.join(weights)} are all 0; expected one above 0 at least"


def gained(model: Model) -> str | None:
    """Return in words what this step gave a network back, None where it did nothing."""
    lines = [line for line in model.history if line.startswith(DISTILLED) and not line.startswith(NOTHING)]
    return lines[-1].removeprefix(DISTILLED) if lines else None


def foresee(settings: Settings, profile: DeviceProfile, runtimes: Collection[str]) -> tuple[Settings, dict[str, str]]:
    """Return the settings as they are, and that the build finds how many steps the seconds allow."""
    return settings, {} if settings.steps else {"steps": "as many as the seconds allow, found by the build"}


def apply(model: Model, settings: Settings, context: Context) -> Model:
    """Return the model with weights that were trained to answer as the network that was given, or as it was.

    Raises BadInput behind `quantize` and `mixed_precision`, and where the seconds are too few for one step.
    """
    if model.numerics is not None or model.half is not None:
        raise BadInput("the recipe's step `distill` comes before `quantize` and `mixed_precision`")
    given = context.given
    if given is None or model.reference is given.reference:
        return model.after(f"{NOTHING}, since the network is what was given")
    if context.data.synthetic:
        return model.after(f"{NOTHING}, since on synthetic images no network answers as on real ones")
    if settings.answers and any(node.target is ATEN.sigmoid.default for node in output_nodes(model.graph)):
        return model.after(f"{NOTHING}, since an output ends in a sigmoid: its classes do not exclude each other")
    student, teacher = batched(model.graph), batched(given.graph)
    judge = Judge(teacher, images_of(context.data.selection), model.task)
    before = judge.lost(student)
    found = _trained(student, teacher, settings, model.task, context)
    after = judge.lost(student)
    images = len(context.data.train or context.data.calibration)
    lost = f"{before.points:.2f} to {after.points:.2f} points lost on {len(context.data.selection)} selection images"
    line = (
        f"{lost} before quantization, loss {found.first_loss:.3g} to {found.last_loss:.3g}; "
        f"{found.steps} steps of {min(settings.batch, images)} of {images} images"
    )
    if found.stopped is not None:
        line += f", stopped at step {found.stopped}, whose loss was no number"
    if after.points > before.points:
        return model.after(f"{NOTHING} is kept of it: {line}")
    network = copy_of(model.graph)
    network.load_state_dict(student.state_dict())
    lost_points = model.lost_points - before.points + after.points
    return model.after(f"{DISTILLED}{line}", network=network, lost_points=lost_points, trained_steps=found.steps)


def _trained(
    student: fx.GraphModule, teacher: fx.GraphModule, settings: Settings, task: ModuleType, context: Context
) -> Trained:
    """Train a network in place, or take from the store what the same training gave before.

    How many steps the seconds allow is kept by itself: a build that was killed does as many when it is started again.
    """
    images = context.data.train or context.data.calibration
    batch = min(settings.batch, len(images))
    learning, answering = copy_of(student), copy_of(teacher)
    for one in (learning, answering):
        without_probabilities(one)
    loss = _mix(learning, answering, settings, images, task)
    how = {name: value for name, value in asdict(settings).items() if name not in ("seconds", "steps")}
    of = [graph_sha256(student), graph_sha256(teacher), _fingerprint(images), how, context.seed]
    of.append(torch.get_num_threads())
    context.progress("distilling")
    steps = settings.steps or remember(
        context.store,
        "training_steps",
        [*of, settings.seconds],
        lambda: steps_within(learning, images, loss, seconds=settings.seconds, batch=batch),
    )

    def compute() -> dict[str, Any]:
        schedule = Schedule(steps, batch, settings.learning_rate, context.seed)
        found = train(learning, images, loss, schedule, partial(context.progress, "distilling"))
        state = learning.state_dict()
        return {"state": {name: state[name] for name in student.state_dict()}, "told": asdict(found)}

    kept = remember(context.store, "trained", [*of, steps], compute)
    student.load_state_dict(kept["state"])
    return Trained(**kept["told"])


def _mix(
    student: fx.GraphModule, teacher: fx.GraphModule, settings: Settings, images: ImageSet, task: ModuleType
) -> Mix:
    """Return the loss that the settings say; BadInput where labels or activations are asked for and not there."""
    weights = {name: getattr(settings, name) for name in (*ANSWERS, *INSIDE)}
    if settings.labels and images.targets is None:
        raise BadInput("distill: labels weigh, and the images to train on have none", "name some with --train")
    targets = None if images.targets is None else torch.from_numpy(images.targets)
    mix = Mix(student, teacher, task, weights, settings.temperature, len(images), targets)
    if any(weights[name] for name in INSIDE) and not mix.stages:
        named = ", ".join(name for name in INSIDE if weights[name])
        raise BadInput(f"distill: {named}: no activation of the network as it was given is left to compare with")
    return mix


def _fingerprint(images: ImageSet) -> str:
    """Return the hash of what images of a set are, of files by their names, sizes and times."""
    digest = hashlib.sha256(str(images.preprocessing.to_dict()).encode())
    if isinstance(images.images, list):
        for file in images.images:
            seen = file.stat()
            digest.update(f"{file.resolve()} {seen.st_size} {seen.st_mtime_ns}".encode())
    else:
        digest.update(images.images.tobytes())
    if images.targets is not None:
        digest.update(images.targets.tobytes())
    return digest.hexdigest()
