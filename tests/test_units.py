"""Quantities as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeslim import units

RATES = [
    "hertz",
    "watts",
    "bytes per second",
    "floating-point operations per second",
    "operations per second",
]


@pytest.mark.parametrize(
    ("text", "kind", "number"),
    [
        ("4 GiB", "bytes", 4 * 2**30),
        ("1.5 MB", "bytes", 1.5e6),
        ("1.8 GHz", "hertz", 1.8e9),
        ("93 ms", "seconds", 0.093),
        ("317 us", "seconds", 317e-6),
        ("317 µs", "seconds", 317e-6),
        ("317 \u03bcs", "seconds", 317e-6),
        ("2 min", "seconds", 120),
        ("7.2 W", "watts", 7.2),
        ("5.5 GB/s", "bytes per second", 5.5e9),
        ("11.9 GFLOPS", "floating-point operations per second", 11.9e9),
        ("67 TOPS", "operations per second", 67e12),
        (" 40ms ", "seconds", 0.04),
    ],
)
def test_a_quantity_becomes_a_number_in_base_units(text: str, kind: str, number: float) -> None:
    assert units.parse(text, kind) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "4", "GiB", "4 Gib", "4 GHz", "-4 GiB", "4,5 GiB", "4 GiB each", "1e3 B"])
def test_what_is_no_size_is_refused_and_the_units_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity of bytes; write a number and one of B, KiB"):
        units.parse(text, "bytes")


def test_floating_point_and_integer_rates_are_different_kinds() -> None:
    with pytest.raises(ValueError, match="GOPS, TOPS"):
        units.parse("1 GFLOPS", "operations per second")


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (1.8e9, "hertz", "1.8 GHz"),
        (600e6, "hertz", "600 MHz"),
        (0.37e9, "floating-point operations per second", "0.37 GFLOPS"),
        (67e12, "operations per second", "67 TOPS"),
        (0.5, "watts", "500 mW"),
        (4 * 2**30, "bytes", "4 GiB"),
        (0.093, "seconds", "93 ms"),
    ],
)
def test_a_number_is_shown_in_its_largest_fitting_unit(number: float, kind: str, text: str) -> None:
    assert units.show(number, kind) == text


@given(st.sampled_from(RATES), st.floats(min_value=1e6, max_value=1e14))
def test_what_is_shown_reads_back_as_the_same_number(kind: str, number: float) -> None:
    if kind == "watts":
        number /= 1e9
    assert units.parse(units.show(number, kind), kind) == pytest.approx(number, rel=1e-5)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_shown_size_reads_back_within_its_digits(count: int) -> None:
    assert units.parse(units.show_bytes(count), "bytes") == pytest.approx(count, rel=6e-3)


@given(st.floats(min_value=1e-6, max_value=900))
def test_a_shown_duration_reads_back_within_its_digits(seconds: float) -> None:
    assert units.parse(units.show_seconds(seconds), "seconds") == pytest.approx(seconds, rel=6e-3)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_shown_amount_of_memory_reads_back_within_its_digits(count: int) -> None:
    assert units.parse(units.show_memory(count), "bytes") == pytest.approx(count, rel=6e-3)


@pytest.mark.parametrize(
    ("count", "size", "memory"),
    [
        (512, "512 B", "512 B"),
        (1_400_000, "1.4 MB", "1.34 MiB"),
        (2**20, "1.05 MB", "1 MiB"),
        (8e9, "8 GB", "7.45 GiB"),
    ],
)
def test_what_is_stored_is_shown_in_decimal_units_and_memory_in_binary_ones(
    count: float, size: str, memory: str
) -> None:
    assert (units.show_bytes(count), units.show_memory(count)) == (size, memory)


@pytest.mark.parametrize(
    ("count", "text"), [(384 * 2**10, "384 KiB"), (1.5 * 2**30, "1.5 GiB"), (16e9, "16 GB"), (250e6, "250 MB")]
)
def test_a_fact_is_shown_in_the_units_it_was_written_in(count: float, text: str) -> None:
    assert units.show(count, "bytes") == text


@pytest.mark.parametrize(
    ("rate", "text"), [(22_169.6, "22,170/s"), (838.4, "838/s"), (99.84, "99.8/s"), (0.5213, "0.521/s")]
)
def test_a_rate_has_no_exponent(rate: float, text: str) -> None:
    assert units.show_rate(rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(317e-6, "317 µs"), (1.24e-3, "1.24 ms"), (2.5, "2.5 s")])
def test_a_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert units.show_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "400 ms"),
        (40.2, "40.2 s"),
        (89.0, "89 s"),
        (90.0, "1.5 min"),
        (552.0, "9.2 min"),
        (5399.0, "90 min"),
        (9000.0, "2.5 h"),
    ],
)
def test_what_takes_a_while_is_told_in_its_own_unit(seconds: float, words: str) -> None:
    assert units.show_duration(seconds) == words
