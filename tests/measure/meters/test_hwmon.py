"""A board's own power sensor: one is taken, several are not guessed among."""

import pytest

from edgeslim.deploy.targets.local import open_target
from edgeslim.measure.meters import Reading, Sampling, hwmon
from tests.support.fake_trees import write_hwmon

ONE = Sampling(("/sys/class/hwmon/hwmon1/power1_input",), None, 0.1)


def seen(root):
    """What the device's small files hold, for this meter."""
    with open_target(root=root) as target:
        return target.look(hwmon.PATTERNS)


def test_the_one_power_sensor_is_read(tmp_path):
    assert hwmon.sampling(seen(write_hwmon(tmp_path, {"ina226": 3_412_500}))) == ONE, "not the board's sensor"


def test_the_power_is_in_microwatts():
    (one,) = hwmon.watts(ONE, [Reading(5.0, ("3412500\n",))], {})
    assert (one.from_s, one.to_s, one.watts) == (5.0, 5.0, pytest.approx(3.4125)), "not 3 412 500 µW"


@pytest.mark.parametrize("lost", [None, "", "damaged", "-1"])
def test_a_reading_that_was_lost_leaves_a_gap_and_no_zero(lost):
    readings = [Reading(float(number), (value,)) for number, value in enumerate(("1000000", lost, "2000000"))]
    found = [(one.from_s, one.watts) for one in hwmon.watts(ONE, readings, {})]
    assert found == [(0.0, 1.0), (2.0, 2.0)], "a lost reading became a power"


def test_several_sensors_are_refused_and_named(tmp_path):
    files = seen(write_hwmon(tmp_path, {"ina226": 3_412_500, "amdgpu": 9_000_000}))
    assert hwmon.sampling(files) is None, "one of two was guessed"
    reason = hwmon.why_not(files)
    assert "hwmon1/power1_input (ina226)" in reason, "the first sensor is not named"
    assert "hwmon2/power1_input (amdgpu)" in reason, "the second sensor is not named"


def test_a_board_without_a_power_sensor_says_so(tmp_path):
    files = seen(write_hwmon(tmp_path, {}))
    assert hwmon.sampling(files) is None, "a temperature is no power"
    assert "no /sys/class/hwmon/hwmon*/power*_input can be read" in hwmon.why_not(files), "another reason is given"
