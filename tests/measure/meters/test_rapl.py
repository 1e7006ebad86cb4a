"""RAPL's counters: which of them are counted, and what becomes of their differences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeslim.deploy.targets.local import open_target
from edgeslim.measure.meters import Reading, rapl
from tests.support.fake_trees import N100_ZONES, TWO_SOCKETS, write_intel_n100, write_rapl

RANGE_UJ = 262143328850
PACKAGE = "/sys/class/powercap/intel-rapl:{}/energy_uj"


def seen(root):
    """What the device's small files hold, for this meter."""
    with open_target(root=root) as target:
        return target.look(rapl.PATTERNS)


def metered(root, *values, period_s=0.1):
    """The power over time, of a machine's counters read at these values, one tuple a reading."""
    files = seen(root)
    readings = [Reading(7 + number * period_s, one) for number, one in enumerate(values)]
    return rapl.watts(rapl.sampling(files), readings, files)


def test_the_package_is_counted_and_neither_its_parts_nor_its_copies(tmp_path):
    sampling = rapl.sampling(seen(write_rapl(tmp_path, N100_ZONES)))
    assert sampling.files == (PACKAGE.format(0),), "core, uncore, psys or the mmio copy would be counted twice"
    assert sampling.command is None, "counters are files"


def test_every_package_is_counted_once(tmp_path):
    sampling = rapl.sampling(seen(write_rapl(tmp_path, TWO_SOCKETS)))
    assert sampling.files == (PACKAGE.format(0), PACKAGE.format(1)), "a package is missing, or memory is counted"


def test_the_power_is_the_sum_over_all_packages(tmp_path):
    first, later = ("1000000", "7000000"), ("3000000", "8500000")
    (one,) = metered(write_rapl(tmp_path, TWO_SOCKETS), first, later, period_s=0.5)
    assert one.watts == pytest.approx(7.0), "2 J and 1.5 J in half a second are 7 W"
    assert (one.from_s, one.to_s) == (7.0, 7.5), "the power does not cover the time between the readings"


def test_a_counter_that_starts_again_at_its_range_goes_on(tmp_path):
    root = write_rapl(tmp_path)
    (one,) = metered(root, (str(RANGE_UJ - 400_000),), ("600000",), period_s=0.1)
    assert one.watts == pytest.approx(10.0), "1 J in 0.1 s is 10 W, whether the counter starts again or not"


def test_each_package_starts_again_at_its_own_range(tmp_path):
    zones = {"intel-rapl:0": ("package-0", 1_000_000), "intel-rapl:1": ("package-1", 65532610987)}
    (one,) = metered(write_rapl(tmp_path, zones), ("900000", "65532610887"), ("100000", "100"), period_s=1.0)
    assert one.watts == pytest.approx(0.2002), "0.2 J of one and 0.0002 J of the other"


@pytest.mark.parametrize("lost", [None, "", "damaged", "-5"])
def test_a_reading_that_was_lost_leaves_a_gap_and_no_zero(lost, tmp_path):
    values = [("1000000",), ("2000000",), (lost,), ("4000000",), ("5000000",)]
    found = metered(write_rapl(tmp_path), *values)
    assert [round(one.watts, 6) for one in found] == [10.0, 10.0], "a lost reading became a power"
    assert found[0].to_s < found[1].from_s, "there is no gap"


def test_one_package_that_was_not_read_leaves_a_gap_for_the_sum(tmp_path):
    values = [("0", "0"), ("1000000", None), ("2000000", "2000000"), ("3000000", "3000000")]
    (one,) = metered(write_rapl(tmp_path, TWO_SOCKETS), *values)
    assert one.watts == pytest.approx(20.0), "half a sum was taken for a sum"


def test_a_counter_that_was_set_back_leaves_a_gap(tmp_path):
    found = metered(write_rapl(tmp_path), ("5000000",), ("0",), ("1000000",))
    assert [round(one.watts, 6) for one in found] == [10.0], "a counter set back was taken for a full turn"


def test_two_readings_of_one_moment_give_no_power(tmp_path):
    assert metered(write_rapl(tmp_path), ("1000000",), ("2000000",), period_s=0.0) == [], "divided by no time"


@given(
    counts=st.lists(st.integers(0, 10_000_000), min_size=2, max_size=30),
    begin=st.integers(0, RANGE_UJ - 1),
    period_s=st.floats(0.05, 1.0),
)
def test_the_energy_is_the_difference_of_the_counter_modulo_its_range(counts, begin, period_s):
    files = {PACKAGE.format(0): "0\n", "/sys/class/powercap/intel-rapl:0/name": "package-0\n"}
    files["/sys/class/powercap/intel-rapl:0/max_energy_range_uj"] = f"{RANGE_UJ}\n"
    values = [(begin + sum(counts[:number])) % RANGE_UJ for number in range(len(counts))]
    readings = [Reading(3 + number * period_s, (str(value),)) for number, value in enumerate(values)]
    found = rapl.watts(rapl.sampling(files), readings, files)
    joules = sum(one.watts * (one.to_s - one.from_s) for one in found)
    assert joules == pytest.approx((values[-1] - values[0]) % RANGE_UJ / 1e6), "energy was lost or made"


@pytest.mark.parametrize("unreadable", ["all", "intel-rapl:1"])
def test_counters_that_only_root_may_read_are_refused_with_the_cure(unreadable, tmp_path):
    files = seen(write_rapl(tmp_path, TWO_SOCKETS, unreadable))
    assert rapl.sampling(files) is None, "half the packages were taken for all"
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in rapl.why_not(files), "the cure is missing"


def test_a_machine_without_packages_says_so(tmp_path):
    files = seen(write_intel_n100(tmp_path / "virtual"))
    assert rapl.sampling(files) is None, "there is nothing to sample"
    assert "the kernel offers no package" in rapl.why_not(files), "a virtual machine is told to be root"
    only_psys = seen(write_rapl(tmp_path / "psys", {"intel-rapl:0": ("psys", RANGE_UJ)}))
    assert rapl.sampling(only_psys) is None, "the platform was taken for a package"
    assert "the kernel offers no package" in rapl.why_not(only_psys), "chmod would not make a package"
