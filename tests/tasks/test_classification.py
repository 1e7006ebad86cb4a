"""Scores held against published intervals and arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeslim.grid import SQNR_MOST_DB, sqnr_db
from edgeslim.tasks.classification import agreement_pct, drop, score, wilson_pct

RANDOM = np.random.default_rng(5)


def logits(images: int, classes: int) -> np.ndarray:
    return RANDOM.normal(size=(images, classes)).astype(np.float32)


@pytest.mark.parametrize(
    ("hits", "count", "interval"),
    [
        (0, 10, (0.0, 27.75)),  # Newcombe 1998 and the usual tables
        (10, 10, (72.25, 100.0)),
        (50, 100, (40.38, 59.62)),
        (81, 263, (25.53, 36.62)),  # Newcombe 1998, table I, method 3
        (15, 148, (6.24, 16.05)),
        (1, 29, (0.61, 17.18)),
    ],
)
def test_the_interval_of_a_share_is_the_published_one(hits, count, interval):
    assert wilson_pct(hits, count) == interval


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 10**6), share=st.floats(0, 1))
def test_an_interval_holds_its_share_and_stays_between_none_and_all(count, share):
    hits = round(share * count)
    low, high = wilson_pct(hits, count)
    assert 0 <= low <= round(100 * hits / count, 2) <= high <= 100


def test_with_labels_a_score_is_accuracy_whatever_the_float_model_says():
    answers = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    result = score([answers], np.array([0, 1, 2, 0]), [-answers])
    assert (result.kind, result.value, result.images) == ("accuracy", 75.0, 4)
    assert result.interval == wilson_pct(3, 4)
    assert not result.more, "among three classes the best five say nothing"


def test_without_labels_a_score_is_agreement_with_the_float_model():
    answers = logits(50, 8)
    result = score([answers], None, [answers])
    assert (result.kind, result.value, result.more["top-5"]) == ("agreement", 100.0, 100.0)
    assert score([-answers], None, [answers]).value == agreement_pct([-answers], [answers])


def test_top_5_counts_labels_among_the_five_largest_and_no_further():
    one = np.array([[9, 8, 7, 6, 5, 4, 3]], np.float32)
    assert [score([one], np.array([label]), [one]).more["top-5"] for label in range(7)] == [100.0] * 5 + [0.0] * 2
    assert score([one[:, :6]], np.array([5]), [one]).more["top-5"] == 0.0, "of six classes the sixth is not among five"
    assert score([one[:, :5]], np.array([4]), [one]).more == {}


@settings(max_examples=20, deadline=None)
@given(decibels=st.integers(-60, 100))
def test_noise_of_a_known_power_gives_its_ratio(decibels):
    signal = RANDOM.normal(size=1000)
    noise = RANDOM.normal(size=1000)
    noise *= np.sqrt((signal**2).sum() / (noise**2).sum() / 10 ** (decibels / 10))
    assert sqnr_db(signal, signal + noise) == pytest.approx(decibels, abs=0.06)


def test_equal_values_give_the_most_there_is_and_nearly_equal_ones_no_more():
    values = np.array([1.0, -2.0], np.float32)
    assert sqnr_db(values, values) == SQNR_MOST_DB
    assert sqnr_db(np.array([1e30], np.float64), np.array([1e30 * (1 + 1e-12)])) <= SQNR_MOST_DB


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_as_bad_as_can_be(bad):
    good, spoilt = np.ones(3, np.float32), np.array([1, bad, 1], np.float32)
    assert sqnr_db(good, spoilt) == -SQNR_MOST_DB, "a gate would let it pass"
    assert sqnr_db(spoilt, good) == -SQNR_MOST_DB, "a gate would let it pass"


def test_a_reference_of_zeros_has_no_signal():
    assert sqnr_db(np.zeros(3, np.float32), np.ones(3, np.float32)) == -SQNR_MOST_DB


def test_an_answer_that_is_no_number_is_no_hit():
    answers = np.full((4, 6), np.nan, np.float32)
    result = score([answers], np.zeros(4, np.int64), [np.zeros((4, 6), np.float32)])
    assert (result.value, result.more["top-5"]) == (0.0, 0.0), "NaN counts as the first class"
    assert agreement_pct([answers], [answers]) == 0.0, "two files that answer nothing agree"


def changed(lost: int, gained: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    before, after = np.ones(images, bool), np.ones(images, bool)
    after[:lost] = False
    before[lost : lost + gained] = False
    return before, after


def test_a_drop_counts_only_images_whose_answer_changed() -> None:
    lost = drop(*changed(30, 10, 1000))
    assert lost.points == pytest.approx(2.0)
    p, q = 31 / 1002, 11 / 1002
    wanted = 100 * (p - q + 1.6449 * ((p + q - (p - q) ** 2) / 1002) ** 0.5)
    assert lost.at_most == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(("images", "least", "most"), [(20, 9.0, 11.0), (500, 0.4, 0.5), (5000, 0.04, 0.05)])
def test_no_changed_answer_is_no_certainty(images: int, least: float, most: float) -> None:
    lost = drop(*changed(0, 0, images))
    assert lost.points == 0
    assert least < lost.at_most < most


def test_the_upper_end_of_a_drop_holds_nineteen_times_of_twenty() -> None:
    chance = np.random.default_rng(5)
    for lost, gained, images in [(0.002, 0.001, 400), (0.03, 0.02, 400), (0.01, 0.0, 200)]:
        held = 0
        for _ in range(1000):
            draw = chance.random(images)
            after = draw >= lost
            before = ~((draw >= lost) & (draw < lost + gained))
            held += drop(before, after).at_most >= 100 * (lost - gained)
        assert held >= 930, (lost, gained, images)
