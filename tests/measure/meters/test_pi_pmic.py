"""The power chip of the Raspberry Pi 5, by a transcript of `vcgencmd pmic_read_adc`."""

import pytest

from edgeslim.deploy.targets.local import open_target
from edgeslim.measure.meters import Reading, pi_pmic
from tests.support.fake_trees import PMIC_READ_ADC, write_raspberry_pi_4, write_raspberry_pi_5

IDLE_W = 1.98404017  # volts times amperes of the twelve rails of the transcript
COMMAND = pi_pmic.Sampling((), "vcgencmd pmic_read_adc", 0.2)


def seen(root):
    """What the device's small files hold, for this meter."""
    with open_target(root=root) as target:
        return target.look(pi_pmic.PATTERNS)


def metered(*texts):
    return pi_pmic.watts(COMMAND, [Reading(float(number), (text,)) for number, text in enumerate(texts)], {})


def test_a_raspberry_pi_5_is_asked_with_its_command(tmp_path):
    sampling = pi_pmic.sampling(seen(write_raspberry_pi_5(tmp_path)))
    assert sampling == COMMAND, "not the command that reads the chip"
    assert sampling.period_s >= 0.1, "read more often, the board slows down"


def test_a_board_without_the_chip_is_refused(tmp_path):
    files = seen(write_raspberry_pi_4(tmp_path))
    assert pi_pmic.sampling(files) is None, "a Raspberry Pi 4 has no such chip"
    assert "only the Raspberry Pi 5 and Compute Module 5" in pi_pmic.why_not(files), "the reason is missing"


def test_the_power_is_the_sum_over_the_rails_that_have_volts_and_amperes():
    (one,) = metered(PMIC_READ_ADC)
    assert one.watts == pytest.approx(IDLE_W, abs=1e-6), "a rail is missing, or an input without amperes is counted"
    assert one.from_s == one.to_s == 0.0, "a reading is an instant"


def test_more_current_on_one_rail_is_more_power():
    idle, busy = metered(PMIC_READ_ADC, PMIC_READ_ADC.replace("current(7)=0.81640000A", "current(7)=2.81640000A"))
    assert busy.watts - idle.watts == pytest.approx(2 * 0.7607861), "2 A more at the core's volts"


@pytest.mark.parametrize("lost", [None, "", 'error=1 error_msg="Command not registered"', PMIC_READ_ADC[:700]])
def test_a_reading_that_was_lost_or_cut_short_leaves_a_gap_and_no_smaller_power(lost):
    found = [one.from_s for one in metered(PMIC_READ_ADC, lost, PMIC_READ_ADC)]
    assert found == [0.0, 2.0], "a lost reading became a power"


def test_nothing_but_lost_readings_is_no_power():
    assert metered(None, None) == [], "a power was made of nothing"
