"""The sensor of Jetson boards, in trees like those of JetPack 4, 5 and 6."""

import pytest

from edgeslim.deploy.targets.local import open_target
from edgeslim.measure.meters import Reading, Sampling, ina3221
from tests.support.fake_trees import AGX_ORIN_RAILS, ORIN_NANO_RAILS, write_intel_n100, write_jetson, write_old_jetson

NEW = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/"
OLD = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
APART = Sampling((NEW + "in1_input", NEW + "curr1_input"), None, 0.1)
TOGETHER = Sampling((OLD + "in_power0_input",), None, 0.1)


def seen(root):
    """What the device's small files hold, for this meter."""
    with open_target(root=root) as target:
        return target.look(ina3221.PATTERNS)


def metered(sampling, *values):
    readings = [Reading(5 + 0.1 * number, one) for number, one in enumerate(values)]
    return [(round(one.from_s, 3), round(one.to_s, 3), one.watts) for one in ina3221.watts(sampling, readings, {})]


def test_the_rail_of_the_whole_module_is_read_as_volts_and_amperes(tmp_path):
    assert ina3221.sampling(seen(write_jetson(tmp_path))) == APART, "not VDD_IN's volts and amperes"


def test_the_rail_is_found_by_its_label_on_any_channel(tmp_path):
    sampling = ina3221.sampling(seen(write_jetson(tmp_path, dict(reversed(ORIN_NANO_RAILS.items())))))
    assert sampling.files == (NEW + "in3_input", NEW + "curr3_input"), "the channel is not the label's"


def test_the_rail_of_the_whole_module_is_read_as_a_power_on_older_systems(tmp_path):
    assert ina3221.sampling(seen(write_old_jetson(tmp_path / "nano"))) == TOGETHER, "not POM_5V_IN's power"
    xavier = {"VDD_CPU_GPU_CV": 312, "VDD_SOC": 1023, "VDD_IN": 4110}
    sampling = ina3221.sampling(seen(write_old_jetson(tmp_path / "xavier-nx", xavier)))
    assert sampling.files == (OLD + "in_power2_input",), "the channel is not the rail's"


def test_the_power_is_millivolts_times_milliamperes():
    assert metered(APART, ("5064", "1208")) == [(5.0, 5.0, pytest.approx(6.117312))], "not 5.064 V x 1.208 A"


def test_the_power_of_older_systems_is_in_milliwatts():
    assert metered(TOGETHER, ("2063\n",)) == [(5.0, 5.0, pytest.approx(2.063))], "not 2063 mW"


@pytest.mark.parametrize("lost", [(None, "1208"), ("5064", None), (None, None), ("5064", ""), ("5064", "-8")])
def test_a_reading_that_was_lost_leaves_a_gap_and_no_zero(lost):
    found = metered(APART, ("5000", "1000"), lost, ("5000", "1000"))
    assert found == [(5.0, 5.0, 5.0), (5.2, 5.2, 5.0)], "a lost reading became a power"


def test_a_board_on_which_no_rail_feeds_the_whole_module_is_refused_with_its_rails(tmp_path):
    files = seen(write_jetson(tmp_path, AGX_ORIN_RAILS))
    assert ina3221.sampling(files) is None, "a part was taken for the whole"
    assert "VDD_CPU_CV, VDD_GPU_SOC, VIN_SYS_5V0" in ina3221.why_not(files), "the rails are not named"


def test_a_rail_whose_channel_is_switched_off_is_named(tmp_path):
    root = write_jetson(tmp_path)
    (root / NEW[1:] / "curr1_input").unlink()
    assert ina3221.sampling(seen(root)) is None, "volts alone are no power"
    reason = ina3221.why_not(seen(root))
    assert "VDD_IN cannot be read: is the channel switched off?" in reason, "another reason is given"


def test_a_machine_without_the_sensor_says_so(tmp_path):
    files = seen(write_intel_n100(tmp_path))
    assert ina3221.sampling(files) is None, "there is nothing to sample"
    assert "no /sys/bus/i2c/drivers/ina3221 can be read" in ina3221.why_not(files), "another reason is given"
