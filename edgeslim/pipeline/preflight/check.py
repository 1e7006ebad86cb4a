"""What a person learns of a model, a device and images before a build: `edgeslim.check`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeslim.compress import resolve_all
from edgeslim.compress.quantize import step as quantize
from edgeslim.devices.profile import DeviceProfile, load_profile
from edgeslim.export.operator_facts import fact_name, operator_facts
from edgeslim.formats import FormatName
from edgeslim.model.graph import layers_of, macs_of
from edgeslim.model.load import Source, load_data, load_model, needs_weights
from edgeslim.model.model import BUNDLED, Model
from edgeslim.pipeline.preflight import preflight
from edgeslim.pipeline.preflight.expectation import Expected
from edgeslim.pipeline.preflight.on_images import NOTHING, on_images
from edgeslim.pipeline.recipes import recipe_for
from edgeslim.readable import Readable
from edgeslim.recipe import Recipe
from edgeslim.tasks.images import Data
from edgeslim.tasks.preprocessing import Preprocessing
from edgeslim.tasks.task import Output, Score

OPENED = 2000  # files of a folder that are opened; a build opens all of them


@dataclass(frozen=True)
class Layers:
    """What the INT8 file of one format computes how: `int8` of `layers`, and which operators in float, counted."""

    format: FormatName
    int8: int
    layers: int
    in_float: Mapping[str, int]


@dataclass(frozen=True)
class ImagesFound:
    """The images, by what they do in a build; `counts`: how many show each thing that the model tells apart."""

    source: str
    synthetic: bool
    calibration: int
    selection: int
    evaluation: int
    counts: Mapping[str, int]
    how_read: str | None

    @property
    def total(self) -> int:
        """How many there are."""
        return self.calibration + self.selection + self.evaluation


@dataclass(frozen=True)
class CheckReport(Readable, view="check:check_view"):
    """What was found before a build; `reasons`: why there can be none, `remarks`: what a build would do all the same.

    `chosen`: what was taken of a model that could have been read otherwise. `weights`: where they come from.
    `meaning`: of the outputs, in words. `score`: of the float model on some of the images that judge; where there is
    none, `not_scored` says why. `promotes`: a build may find layers that lose too much as INT8, and leave them float.
    `images`, `expected`: None where no images were named.
    """

    model: str
    weights: str
    device: str
    task: str
    reasons: tuple[str, ...]
    rewrites: tuple[str, ...]
    chosen: tuple[str, ...]
    remarks: tuple[str, ...]
    preprocessing: Preprocessing
    preprocessing_from: str
    outputs: tuple[Output, ...]
    meaning: str
    labels: tuple[str, ...]
    labels_from: str
    parameters: int
    macs: int
    layers: tuple[Layers, ...]
    promotes: bool
    images: ImagesFound | None = None
    score: Score | None = None
    not_scored: str | None = None
    expected: Expected | None = None

    @property
    def possible(self) -> bool:
        """Tell whether the device can have the model."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Return all that was found as JSON can hold it."""
        return {"possible": self.possible, **asdict(self)}

    def __repr__(self) -> str:
        """Say whether it can be built, and how much was found against it."""
        found = f"{len(self.reasons)} reasons against it, {len(self.remarks)} remarks"
        return f"CheckReport({self.model} for {self.device}: {found})"


def check(
    source: Source = None,
    *,
    device: str | Path,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    task: str | None = None,
    data: str | Path | None = None,
    calibration: str | Path | None = None,
    selection: str | Path | None = None,
    evaluation: str | Path | None = None,
    formats: Sequence[FormatName] | None = None,
    skip_bad: bool = False,
    trust_labels: bool = False,
) -> CheckReport:
    """Return what is known before a build, in seconds: every reason why `device` cannot have a model, and much else.

    For an NPU, every layer that breaks one of its rules is named: with a reason, or with the rewrite that cures it.
    `source` to `task`: as `load_model`; `data` to `evaluation`, `skip_bad`, `trust_labels`: as `build`. Images, which
    the bundled model has, must fit the model; the float one is judged on some of those that judge, as many as some
    seconds allow. `formats`: those that are wanted, None for the device's default. Raises BadInput for what cannot be
    read.
    """
    profile = load_profile(device)
    if weights is None and needs_weights(source):
        weights = "random"  # only the rule `weight_sums` looks at values, and random ones say what trained ones do
    model = load_model(source, weights, preprocessing=preprocessing, labels=labels, task=task)
    recipe = recipe_for(profile, formats=tuple(formats) if formats else None)
    named = any(one is not None for one in (data, calibration, selection, evaluation))
    images = None
    if named or model.source == BUNDLED:
        images = load_data(
            model,
            data,
            calibration=calibration,
            selection=selection,
            evaluation=evaluation,
            skip_bad=skip_bad,
            opened=None if skip_bad else OPENED,  # what is left out decides which images do what
        )
    return _reported(model, profile, recipe, images, trust_labels=trust_labels)


def _reported(
    model: Model, profile: DeviceProfile, recipe: Recipe, data: Data | None, *, trust_labels: bool
) -> CheckReport:
    """Return the report of a model for a device, and of its images where there are any."""
    shown = NOTHING if data is None else on_images(model, profile, recipe, data, trust_labels=trust_labels)
    steps = resolve_all(recipe.steps)
    found = preflight(model, profile, steps, recipe.formats)
    from_data = () if data is None or data.labels is None else data.labels
    names = model.labels or from_data
    return CheckReport(
        model=model.source,
        weights=model.weights_source,
        device=profile.name,
        task=model.task_name,
        reasons=found.reasons,
        rewrites=found.rewrites,
        chosen=found.chosen,
        remarks=shown.remarks,
        preprocessing=model.preprocessing,
        preprocessing_from=model.preprocessing_from,
        outputs=model.outputs,
        meaning=model.task.meaning(model.facts, names),
        labels=names,
        labels_from=model.labels_from if model.labels else "the folders of the images" if from_data else "",
        parameters=model.parameters,
        macs=macs_of(model.graph),
        layers=_layers(model, recipe),
        promotes=any(module is quantize and settings.promote for module, settings in steps),
        images=None if data is None else _images(model, data),
        score=shown.score,
        not_scored=shown.not_scored,
        expected=shown.expected,
    )


def _layers(model: Model, recipe: Recipe) -> tuple[Layers, ...]:
    """Return how the INT8 file of each format computes a network, as its operators were found to be computed."""
    if all(call.step != "quantize" for call in recipe.steps):
        return ()
    facts, total = operator_facts(), len(layers_of(model.graph))
    names = Counter(fact_name(node) for node in model.graph.graph.nodes if node.op == "call_function")
    layers = Counter(fact_name(node) for node in layers_of(model.graph).values())
    found = []
    for one in recipe.formats:
        floats = {
            name: count for name, count in sorted(names.items()) if name in facts and facts[name][one].kind == "float"
        }
        int8 = sum(count for name, count in layers.items() if facts[name][one].kind == "integer")
        found.append(Layers(one, int8, total, floats))
    return tuple(found)


def _images(model: Model, data: Data) -> ImagesFound:
    return ImagesFound(
        data.source,
        data.synthetic,
        len(data.calibration),
        len(data.selection),
        len(data.evaluation),
        model.task.counts(model.facts, data),
        data.how_read,
    )
