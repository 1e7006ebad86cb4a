"""Recipes: what is done to a model and what is demanded of the result, as data that travels with the artifact."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, ValidationError, field_validator
from pydantic.config import JsonDict

from edgeslim.errors import BadInput
from edgeslim.formats import FORMATS, FormatName
from edgeslim.resources import in_package
from edgeslim.strict_yaml import KeyPath, Section, explain, fault_at, faultless, in_section, read_document, read_section
from edgeslim.units import parse, pattern

RECIPE_SCHEMA = in_package("recipe.schema.json")  # written by tools/schemas.py

PRUNING_UNITS = ("macs", "parameters", "channels", "latency")  # of what `prune` may be told to keep a share


def _seconds(told: Any) -> Any:
    """Return a time in words ("5 ms") in seconds, a number as it is."""
    return parse(told, "seconds") if isinstance(told, str) else told


def _bytes(told: Any) -> Any:
    """Return a size in words ("300 KB") in bytes, a number as it is."""
    return round(parse(told, "bytes")) if isinstance(told, str) else told


def one_of(*words: str) -> Any:
    """Return what tells editors the words that a setting of a step may be; the step itself refuses others."""
    return Field(json_schema_extra={"enum": [*words]})


class StepCall(Section):
    """One technique: the name of a module in `compress/`, and its settings."""

    step: str
    settings: dict[str, Any] = Field(default_factory=dict)


# What is wrong with a step: the path to it from the step on, and a sentence.
StepFaults = Callable[[StepCall], Iterable[tuple[KeyPath, str]]]


def _or_quantity(kind: str) -> Callable[[JsonDict], None]:
    """Return what adds to the JSON Schema of a number, or null, that it may be a quantity in words."""

    def add(schema: JsonDict) -> None:
        kinds = schema["anyOf"]
        schema["anyOf"] = [*(kinds if isinstance(kinds, list) else []), {"type": "string", "pattern": pattern(kind)}]

    return add


Percent = Annotated[StrictFloat, Field(ge=0, le=100)]
Seconds = Annotated[
    Annotated[StrictFloat, Field(gt=0)] | None,
    BeforeValidator(_seconds),
    Field(json_schema_extra=_or_quantity("seconds")),
]
SizeBytes = Annotated[
    Annotated[StrictInt, Field(gt=0)] | None,
    BeforeValidator(_bytes),
    Field(json_schema_extra=_or_quantity("bytes")),
]


def _told(description: str) -> Any:
    """Return what an editor shows of a setting."""
    return Field(description=description)


class Recipe(Section):
    """The steps in their order, the formats to write, and the demands."""

    format: Literal["edgeslim-recipe/1"] = "edgeslim-recipe/1"
    steps: Annotated[tuple[StepCall, ...], _told("What is done to the network, in this order.")]
    formats: Annotated[tuple[FormatName, ...], Field(min_length=1), _told("What is written.")] = tuple(FORMATS)
    max_drop_points: Annotated[Percent, _told("Points of the score that a file may lose.")] = 1.0
    max_latency_s: Annotated[
        Seconds, _told("What the primary INT8 file may take on the device itself: seconds, or `5 ms`.")
    ] = None
    max_size_bytes: Annotated[SizeBytes, _told("What the primary INT8 file may take: bytes, or `300 KB`.")] = None
    min_npu_ops_pct: Annotated[Percent, _told("Operators on the NPU, where the device has one.")] = 100.0
    min_fp16_agreement_pct: Annotated[Percent, _told("With the same network in fp32, on a GPU.")] = 99.0
    cut_probabilities: Annotated[StrictBool, _told("Take a softmax, log-softmax or sigmoid off the outputs.")] = False
    strict: Annotated[
        StrictBool, _told("A file that differs from the plan without a stated reason fails the build.")
    ] = False
    threads: Annotated[StrictInt, Field(ge=1), _told("Threads of the runtimes.")] = 1
    seed: Annotated[StrictInt, Field(ge=0), _told("Seed of all that is random.")] = 0

    @field_validator("formats")
    @classmethod
    def _refuse_formats_twice(cls, formats: tuple[FormatName, ...]) -> tuple[FormatName, ...]:
        for name in formats:
            if formats.count(name) > 1:
                raise ValueError(f"`{name}` stands twice; a format is written once")
        return formats

    def text(self) -> str:
        """Return the recipe as YAML that `load_recipe` reads back."""
        plain: str = yaml.safe_dump(json.loads(self.model_dump_json()), sort_keys=False)
        return plain


def load_recipe(path: str | Path, step_faults: StepFaults | None = None) -> Recipe:
    """Read a recipe file strictly; BadInput names every fault with its line, key and what was expected.

    What the steps' settings mean only the techniques know, which need torch: `compress.step_faults` asks them.
    """
    document = read_document(Path(path), BadInput)
    recipe, faults = read_section(document.says, Recipe, [document])
    for number, call in _readable_steps(document.says):
        for inside, text in step_faults(call) if step_faults is not None else ():
            where = ("steps", number, *inside)
            faults.append(fault_at(where, f"{in_section(where[:-1])}: {text}", [document]))
    return faultless(recipe, faults, [document], BadInput)


def _readable_steps(says: Any) -> Iterator[tuple[int, StepCall]]:
    """Yield the steps of a recipe that may be damaged elsewhere, each with its place."""
    steps = says.get("steps") if isinstance(says, dict) else None
    for number, one in enumerate(steps if isinstance(steps, list) else []):
        with suppress(ValidationError):
            yield number, StepCall.model_validate(one)


def with_settings(recipe: Recipe, **settings: Any) -> Recipe:
    """Return the recipe with some settings replaced; BadInput for a value that does not fit."""
    try:
        return Recipe.model_validate({**recipe.model_dump(), **settings})
    except ValidationError as invalid:
        raise BadInput("\n".join(explain(problem).lstrip(": ") for problem in invalid.errors())) from invalid


def without_step(recipe: Recipe, step: str) -> Recipe:
    """Return the recipe without one step."""
    return recipe.model_copy(update={"steps": tuple(call for call in recipe.steps if call.step != step)})


def with_pruning(recipe: Recipe, prune: bool | str | None) -> Recipe:
    """Return the recipe with its pruning as wished: None, its own · False, none · "macs=0.5", a share to keep.

    True and "auto": its own, BadInput where it has none, and for another wish.
    """
    if prune is None:
        return recipe
    if prune is False:
        return without_step(recipe, "prune")
    if prune in (True, "auto"):
        return with_step_settings(recipe, "prune")
    unit, _, share = str(prune).partition("=")
    try:
        if unit not in PRUNING_UNITS:
            raise ValueError(unit)
        return with_step_settings(recipe, "prune", **{f"keep_{unit}": float(share)})
    except ValueError as error:
        raise BadInput(
            f"pruning by `{prune}`: expected auto, or UNIT=SHARE, a share to keep, UNIT one of "
            f"{', '.join(PRUNING_UNITS)}: macs=0.5"
        ) from error


def with_training(recipe: Recipe, seconds: float | None) -> Recipe:
    """Return the recipe with so many seconds of distillation behind its pruning or rewriting; None: as it is · 0: none.

    A number of steps that the recipe names gives way to the seconds. BadInput for a recipe that neither prunes nor
    rewrites: there is nothing to give back.
    """
    if seconds is None:
        return recipe
    if seconds == 0:
        return without_step(recipe, "distill")
    names = [call.step for call in recipe.steps]
    behind = max((place + 1 for place, name in enumerate(names) if name in ("prune", "legalize")), default=None)
    if behind is None:
        raise BadInput(
            "training gives back what pruning or rewriting took, and the recipe has no step `prune` or `legalize`"
        )
    if "distill" not in names:
        steps = (*recipe.steps[:behind], StepCall(step="distill"), *recipe.steps[behind:])
        recipe = recipe.model_copy(update={"steps": steps})
    timed = with_step_settings(recipe, "distill", seconds=seconds)
    known = next(call for call in timed.steps if call.step == "distill").settings
    return with_step_settings(timed, "distill", steps=None) if known.get("steps") else timed


def with_step_settings(recipe: Recipe, step: str, **settings: Any) -> Recipe:
    """Return the recipe with some settings of one step replaced; BadInput when it has no such step."""
    if all(call.step != step for call in recipe.steps):
        raise BadInput(f"the recipe has no step `{step}` to set {', '.join(settings) or 'anything'} on")
    steps = tuple(
        call.model_copy(update={"settings": {**call.settings, **settings}}) if call.step == step else call
        for call in recipe.steps
    )
    return recipe.model_copy(update={"steps": steps})
