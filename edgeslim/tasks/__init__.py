"""What a network is for: one file a task, with how its data are read, what its outputs mean and how good they are.

A module with these functions; classification.py is the example. All else knows of a task what these say. A model names
its task (TASK in its file). `outputs` are a network's, in its order, with the images on axis 0: arrays, for
`divergence` and `loss` tensors. `targets` are what the data say is right, None where they say nothing; `reference` are
the outputs of the network that others are compared with.

`model_faults(facts)`: why a network cannot serve the task, in sentences.
`meaning(facts, labels)`: what the outputs say, in a sentence; `labels` are the model's, or the data's.
`read(source, facts, own, skip_bad, seed, opened)`: three disjoint sets of images, with targets where they are known;
`Data`. `own` names sources of single sets (sets.py cuts the others from `source`), `opened` how many files of a folder
are opened at most to see whether they can be used (None: all).
`counts(facts, data)`: how many images there are of each thing that the outputs tell apart, in their order; none where
the targets say nothing of it.
`remarks(facts, data)`: what seems wrong with the targets, though a build would take them, in sentences.
`require_fitting(outputs, targets, facts, data)`: raise BadData where the targets seem to mean something else than the
outputs of the network as it was given; both are of calibration and selection images, or of those that judge where no
others have targets.
`score(outputs, targets, reference)`: a `Score` with its interval, against the targets or else the reference.
`marks(outputs, targets, reference)`: what each image is worth (N,), in the score's unit; more is better.
`drop(before, after)`: a `Drop`, what is lost between the marks of two networks on the same images.
`images_to_tell(points)`: how many images it takes at least to tell a loss of so many points.
`agreement_pct(outputs, reference)`: on how many of the images both say the same, in percent.
`divergence(outputs, reference, temperature=1.0)`: how far outputs are from others, summed over the images; 0 where
they are equal. A higher temperature softens both, where the task knows what that is.
`loss(outputs, targets)`: for gradients; without targets, against the network's own answers.

`OUTPUT`: what the output of a network is called that names none. `METRIC`, `UNIT`: of scores and marks.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

from edgeslim.errors import BadModel, near_misses

DEFAULT_TASK = "classification"  # of a model that names none
# Modules beside the tasks: what several of them share.
SHARED = (
    *("class_counts", "class_folders", "class_order", "image_files", "image_remarks", "image_store", "images"),
    *("preprocessing", "sets", "task"),
)


def known_tasks() -> list[str]:
    """Return the names of all tasks, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in SHARED)


def task_named(name: str) -> ModuleType:
    """Return the module of a task; BadModel for a name that none has."""
    if name not in known_tasks():
        raise BadModel(f"no task `{name}`{near_misses(name, known_tasks())}; tasks are {', '.join(known_tasks())}")
    return import_module(f"{__name__}.{name}")
