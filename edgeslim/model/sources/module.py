"""A PyTorch module that a program has already made, with what it says of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from edgeslim.errors import BadModel
from edgeslim.model.model import THE_MODULE, Model
from edgeslim.model.sources.python_file import copied, preprocessing_of, require_shapes
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
    own = copied(network, f"the {name}").eval()
    require_shapes(own, f"the {name}")
    return Model(
        f"module:{name}",
        THE_MODULE,
        own,
        preprocessing,
        names,
        task_name=task or DEFAULT_TASK,
        preprocessing_from="`preprocessing`, as given",
        labels_from="`labels`, as given" if names else "",
    )


def _names(labels: Any) -> tuple[str, ...] | None:
    """Return labels in any sequence as a tuple; BadModel for what is none."""
    if labels is None:
        return None
    found = () if isinstance(labels, str) or not isinstance(labels, Iterable) else tuple(labels)
    if not found or not all(isinstance(one, str) for one in found):
        raise BadModel("labels: expected a list of names, one for each class")
    return tuple(map(str, found))
