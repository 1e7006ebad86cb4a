"""How long builds took on this machine: a note of each, by which the next one is foreseen."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edgeslim.cache import note, read_note
from edgeslim.devices.profile import DeviceProfile
from edgeslim.formats import FormatName
from edgeslim.model.graph import macs_of
from edgeslim.model.model import Model
from edgeslim.recipe import Recipe
from edgeslim.tasks.images import Data

FOLDER = "builds"


@dataclass(frozen=True)
class Work:
    """What a build has to do, as far as its time depends on it; two that are equal do the same."""

    source: str
    weights_sha256: str
    device: str
    recipe_sha256: str
    steps: tuple[str, ...]
    formats: tuple[FormatName, ...]
    macs: int
    images: tuple[int, int, int]  # that calibrate, select and judge


@dataclass(frozen=True)
class PastBuild:
    """A build that was done here: what it had to do, and how long it took from its call to its artifact."""

    work: Work
    seconds: float


_READ = TypeAdapter(PastBuild)


def work_of(model: Model, profile: DeviceProfile, recipe: Recipe, data: Data) -> Work:
    """Return what a build has to do; `model` as it was given."""
    return Work(
        model.source,
        model.weights_sha256(),
        profile.name,
        hashlib.sha256(recipe.text().encode()).hexdigest(),
        tuple(call.step for call in recipe.steps),
        recipe.formats,
        macs_of(model.graph),
        (len(data.calibration), len(data.selection), len(data.evaluation)),
    )


def note_build(store: Path, work: Work, seconds: float) -> None:
    """Note how long a build took, in place of what was noted of the same work, where the store takes anything."""
    note(store, FOLDER, asdict(work), _READ.dump_json(PastBuild(work, seconds)))


def past_builds(store: Path) -> list[PastBuild]:
    """Return what was noted of builds here; what cannot be read as a note is none."""
    found = []
    for file in sorted((store / FOLDER).glob("*.json")):
        with suppress(ValidationError):
            content = read_note(file)
            found += [] if content is None else [_READ.validate_json(content)]
    return found


def most_alike(work: Work, past: Sequence[PastBuild]) -> PastBuild | None:
    """Return the build with the same steps and formats that ran its images through most nearly as much of a network."""

    def effort(one: Work) -> float:
        return max(one.macs, 1) * max(sum(one.images), 1)

    alike = [one for one in past if (one.work.steps, one.work.formats) == (work.steps, work.formats)]
    wanted = effort(work)
    return min(alike, key=lambda one: max(effort(one.work) / wanted, wanted / effort(one.work)), default=None)
