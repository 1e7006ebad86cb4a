"""What two manifests say of their primary files: a difference counts where it is larger than the intervals allow."""

import numpy as np
import pytest

from edgeslim.artifact.manifest import GOLDEN_IMAGES, Manifest, Quality, read_manifest
from edgeslim.errors import BadInput
from edgeslim.measure.artifact_changes import compare_manifests, difference_interval
from edgeslim.measure.comparison import METRICS, Comparison, Condition, violated
from edgeslim.tasks.classification import wilson_pct
from tests.support.packed_artifact import pack_small


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """One judged by real images, as far as it says."""
    packed = read_manifest(pack_small(tmp_path_factory.mktemp("small")))
    return packed.model_copy(update={"data": packed.data.model_copy(update={"synthetic": False})})


def scored(manifest: Manifest, value: float, half: float, **changes: object) -> Manifest:
    """The same with another score, and an interval so wide on both sides."""
    facts = manifest.models[0].quality.model_dump() | {"value": value, "ci95": (value - half, value + half), **changes}
    models = tuple(one.model_copy(update={"quality": Quality(**facts)}) for one in manifest.models)
    return manifest.model_copy(update={"models": models})


def test_the_interval_of_a_difference_is_newcombes() -> None:
    """His example: 56 of 70 against 48 of 80 differ by 0.0524 to 0.3339 (Newcombe 1998, table II, method 10)."""
    low, high = difference_interval(60.0, wilson_pct(48, 80), 80.0, wilson_pct(56, 70))
    assert (low, high) == pytest.approx((5.24, 33.39), abs=0.01)


def test_swapped_it_is_the_same_with_another_sign() -> None:
    low, high = difference_interval(90.0, (88.0, 91.0), 92.0, (91.5, 93.0))
    assert difference_interval(92.0, (91.5, 93.0), 90.0, (88.0, 91.0)) == (-high, -low)


def test_two_networks_that_are_equally_good_are_told_apart_once_in_twenty_times_at_most() -> None:
    generator, images = np.random.default_rng(5), 500
    alarms = 0
    for _ in range(400):
        a, b = generator.binomial(images, 0.9, 2)
        low, high = difference_interval(
            100 * a / images, wilson_pct(a, images), 100 * b / images, wilson_pct(b, images)
        )
        alarms += not low <= 0 <= high
    assert alarms <= 30, f"{alarms} of 400"


def test_a_score_differs_where_the_difference_is_larger_than_the_intervals_allow(manifest: Manifest) -> None:
    near = compare_manifests(scored(manifest, 90.0, 0.5), scored(manifest, 89.5, 0.5)).score
    far = compare_manifests(scored(manifest, 90.0, 0.5), scored(manifest, 89.0, 0.5)).score
    assert near is not None
    assert far is not None
    assert (near.different, far.different) == (False, True)
    assert str(near) == "-0.50 points (95 % interval -1.21 to +0.21 points), no difference"
    assert str(far) == "-1.00 points (95 % interval -1.71 to -0.29 points)"
    assert (far.metric, far.a, far.b, far.b_interval) == ("top-1 accuracy", 90.0, 89.0, (88.5, 89.5))


def test_sizes_differ_by_any_byte(manifest: Manifest) -> None:
    same = compare_manifests(manifest, manifest)
    assert (same.size.a, same.size.different) == (manifest.models[0].bytes, False)
    larger = manifest.models[0].model_copy(update={"bytes": manifest.models[0].bytes + 1})
    size = compare_manifests(manifest, manifest.model_copy(update={"models": (larger, *manifest.models[1:])})).size
    assert (size.b - size.a, size.different) == (1, True)
    assert str(size).startswith("+0.")


def test_verdicts_come_with_their_reasons(manifest: Manifest) -> None:
    rejected = manifest.model_copy(update={"status": "rejected", "reasons": ("it errs", "it is large")})
    found = compare_manifests(manifest, rejected)
    assert found.verdicts == ("accepted", "rejected")
    assert found.reasons == ("after: rejected: it errs", "after: rejected: it is large")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metric": "mAP"}, "they differ in metric (top-1 and mAP)"),
        ({"kind": "agreement"}, "they differ in kind (accuracy and agreement)"),
    ],
)
def test_scores_of_other_kinds_are_not_compared(manifest: Manifest, changes: dict[str, object], reason: str) -> None:
    found = compare_manifests(manifest, scored(manifest, 90.0, 0.5, **changes))
    assert found.score is None
    assert found.no_score == f"the two were not taken alike: {reason}"


def test_scores_of_other_images_are_not_compared(manifest: Manifest) -> None:
    renamed = manifest.model_copy(update={"data": manifest.data.model_copy(update={"source": "others.npz"})})
    assert compare_manifests(manifest, renamed).score is not None, "the same images under another name"
    entries = tuple(
        one.model_copy(update={"sha256": "0" * 64}) if one.path == GOLDEN_IMAGES else one for one in renamed.files
    )
    others = renamed.model_copy(update={"files": entries})
    assert compare_manifests(manifest, others).no_score == (
        "the two were not taken alike: they differ in images (random pixels and others.npz)"
    )


def test_scores_on_synthetic_images_are_not_compared(manifest: Manifest) -> None:
    synthetic = manifest.model_copy(update={"data": manifest.data.model_copy(update={"synthetic": True})})
    assert compare_manifests(manifest, synthetic).no_score == "synthetic images judged, which say nothing about it"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("score<-0.5", "score: -1.00 points (95 % interval -1.71 to -0.29 points); the limit is -0.50 points"),
        ("score<-2", None),
        ("score>+0.5", None),
        ("size>+0%", None),
    ],
)
def test_a_condition_on_a_score_is_in_points(manifest: Manifest, text: str, sentence: str | None) -> None:
    said = compare_manifests(scored(manifest, 90.0, 0.5), scored(manifest, 89.0, 0.5))
    found = Comparison("a", "b", True, {}, dict.fromkeys(METRICS, "not timed"), (), said)
    assert violated([Condition.parse(text)], found) == ([] if sentence is None else [sentence])


def test_a_condition_on_a_score_is_broken_only_by_a_difference_that_counts(manifest: Manifest) -> None:
    said = compare_manifests(scored(manifest, 90.0, 2.0), scored(manifest, 89.0, 2.0))
    found = Comparison("a", "b", True, {}, {}, (), said)
    assert violated([Condition.parse("score<-0.5")], found) == []


def test_a_condition_on_a_score_that_is_not_there_says_why(manifest: Manifest) -> None:
    found = Comparison("a", "b", True, {}, {}, (), compare_manifests(manifest, scored(manifest, 90, 1, metric="mAP")))
    with pytest.raises(BadInput, match=r"there is no score to judge: the two were not taken alike: they differ in met"):
        violated([Condition.parse("score<-0.5")], found)
