"""Two artifacts side by side, as their manifests have them: size and score of the primary files, and the verdicts."""

import math
from dataclasses import dataclass

from edgeslim.artifact.manifest import GOLDEN_IMAGES, Manifest, ModelFile
from edgeslim.tasks.task import between, points

Interval = tuple[float, float]


@dataclass(frozen=True)
class SizeChange:
    """Bytes of b over those of a; any change counts, for sizes have no noise."""

    a: int
    b: int
    ratio: float
    different: bool

    def __str__(self) -> str:
        return f"{100 * (self.ratio - 1):+.1f} %"

    def beyond(self, percent: float, *, above: bool) -> bool:
        """Tell whether it grew by more than so many percent, or fell by more."""
        return beyond(self.ratio, percent, above=above)

    def limit(self, percent: float) -> str:
        """Return a limit of it in words."""
        return f"{percent:+g} %"


@dataclass(frozen=True)
class ScoreChange:
    """The score of b beside that of a, in `unit`, each with its 95 % interval.

    `difference` is b - a; it counts as one where its `interval`, as `difference_interval` has it, does not hold zero.
    """

    metric: str
    unit: str
    a: float
    b: float
    a_interval: Interval
    b_interval: Interval
    difference: float
    interval: Interval
    different: bool

    def __str__(self) -> str:
        end = "" if self.different else ", no difference"
        interval = between(self.interval, self.unit)
        return f"{points(self.difference, self.unit, signed=True)} (95 % interval {interval}){end}"

    def beyond(self, amount: float, *, above: bool) -> bool:
        """Tell whether it rose by more than an amount in its unit, or fell by more."""
        return self.difference > amount if above else self.difference < amount

    def limit(self, amount: float) -> str:
        """Return a limit of it in words."""
        return points(amount, self.unit, signed=True)


@dataclass(frozen=True)
class ArtifactChanges:
    """What two manifests say of the files that the device should run.

    `no_score`: why their scores cannot be compared, None where they are. `verdicts`: "accepted" or "rejected", of a and
    of b; `reasons`: why one of them was rejected.
    """

    size: SizeChange
    score: ScoreChange | None
    no_score: str | None
    verdicts: tuple[str, str]
    reasons: tuple[str, ...] = ()


def compare_manifests(a: Manifest, b: Manifest) -> ArtifactChanges:
    """Compare what two manifests say of their primary files; ValueError where one has none."""
    one, other = a.answering, b.answering
    if one is None or other is None:
        raise ValueError("an artifact without a primary file has nothing to compare")
    no_score = _why_no_score(a, one, b, other)
    sizes = a.primary_bytes, b.primary_bytes
    sides = (("before", a), ("after", b))
    return ArtifactChanges(
        SizeChange(*sizes, sizes[1] / sizes[0], sizes[0] != sizes[1]),
        None if no_score else _score_change(one, other),
        no_score,
        (a.status, b.status),
        tuple(f"{when}: rejected: {reason}" for when, manifest in sides for reason in manifest.reasons),
    )


def _score_change(a: ModelFile, b: ModelFile) -> ScoreChange:
    before, after = a.quality, b.quality
    interval = difference_interval(before.value, before.ci95, after.value, after.ci95)
    return ScoreChange(
        f"{after.metric} {after.kind}",
        after.unit,
        before.value,
        after.value,
        before.ci95,
        after.ci95,
        after.value - before.value,
        interval,
        not interval[0] <= 0 <= interval[1],
    )


def difference_interval(a: float, a_interval: Interval, b: float, b_interval: Interval) -> Interval:
    """Return the 95 % interval of b - a from those of a and b, as if other images had judged each.

    Square-and-add (for shares Newcombe 1998, method 10; for any figure Zou and Donner 2008). Where the same images
    judged both, which no manifest holds image by image, it is wider than need be: what lies outside is a difference,
    and what lies inside may still be one.
    """
    below = math.hypot(b - b_interval[0], a_interval[1] - a)
    above = math.hypot(b_interval[1] - b, a - a_interval[0])
    return b - a - below, b - a + above


def beyond(ratio: float, percent: float, *, above: bool) -> bool:
    """Tell whether a ratio lies above, or below, that of a change by so many percent."""
    return ratio > 1 + percent / 100 if above else ratio < 1 + percent / 100


def _why_no_score(a: Manifest, one: ModelFile, b: Manifest, other: ModelFile) -> str | None:
    """Return why two scores cannot be compared; images are the same by their first, or by their source's name."""
    if a.data.synthetic or b.data.synthetic:
        return "synthetic images judged, which say nothing about it"
    facts = [
        ("metric", one.quality.metric, other.quality.metric),
        ("unit", one.quality.unit, other.quality.unit),
        ("kind", one.quality.kind, other.quality.kind),
    ]
    if _first_images(a) != _first_images(b):
        facts.append(("images", a.data.source, b.data.source))
    unlike = [f"{name} ({of_a} and {of_b})" for name, of_a, of_b in facts if of_a != of_b]
    return f"the two were not taken alike: they differ in {', '.join(unlike)}" if unlike else None


def _first_images(manifest: Manifest) -> str | None:
    """Return the hash of the first images that judged."""
    return next((entry.sha256 for entry in manifest.files if entry.path == GOLDEN_IMAGES), None)
