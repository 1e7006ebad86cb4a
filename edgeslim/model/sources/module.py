"""A PyTorch module that a program has already made, with what it says of it."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from edgeslim.errors import BadModel
from edgeslim.model.model import Model
from edgeslim.model.sources.python_file import preprocessing_of
from edgeslim.tasks import DEFAULT_TASK, task_named
from edgeslim.tasks.preprocessing import Preprocessing


def from_module(
    network: nn.Module,
    weights: str | None,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
    labels: Sequence[str] | None,
    task: str | None,
) -> Model:
    """Return a module as it is, with its weights, as a model; the module itself is left alone."""
    name = type(network).__name__
    if weights is not None:
        raise BadModel(f"the {name} brings its weights; load others into it, and leave `weights` out")
    names = _names(labels)
    task_named(task or DEFAULT_TASK)
    if not isinstance(preprocessing, Preprocessing):
        said = {} if preprocessing is None else {"preprocessing": preprocessing}
        preprocessing = preprocessing_of(said, f"the {name} given as a module", "preprocessing")
    try:
        own = copy.deepcopy(network).eval()
    except Exception as error:
        raise BadModel(f"the {name} cannot be copied, and edgeslim changes no module of yours: {error}") from error
    return Model(
        f"module:{name}",
        "the module",
        own,
        preprocessing,
        names,
        task_name=task or DEFAULT_TASK,
    )


def _names(labels: Any) -> tuple[str, ...] | None:
    """Return labels in any sequence as a tuple; BadModel for what is none."""
    if labels is None:
        return None
    found = () if isinstance(labels, str) or not isinstance(labels, Iterable) else tuple(labels)
    if not found or not all(isinstance(one, str) for one in found):
        raise BadModel("labels: expected a list of names, one for each class")
    return tuple(map(str, found))
