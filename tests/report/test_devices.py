"""What is said of a device first is short; all of it has its sources."""

import pytest

from edgeslim.devices.profile import DeviceProfile, all_profiles, describe, load_profile
from edgeslim.report.devices import brief_table, facts_table


@pytest.mark.parametrize("profile", all_profiles(), ids=lambda one: one.name)
def test_a_device_is_told_in_fifteen_lines_at_most_with_what_goes_wrong_there(profile: DeviceProfile) -> None:
    table = brief_table(profile)
    assert len(table.rows) <= 15
    told = " ".join(cell for row in table.rows for cell in row)
    assert all(one.name in told for one in profile.runtimes)
    assert all(failure.text in told for one in profile.runtimes for failure in one.known_failures)
    assert table.notes == (f"`edgeslim devices {profile.name} --all` shows every fact with its source",)
    assert len(facts_table(profile).rows) == len(describe(profile))


def test_what_is_said_is_what_the_profile_holds() -> None:
    rows = dict(brief_table(load_profile("rpi4")).rows)
    assert rows["cores"] == "4 x Cortex-A72, clock 1.8 GHz, neon"
    assert rows["memory"] == "RAM 1 GiB, bandwidth 5.5 GB/s"
    assert rows["device"] == "raspberry-pi-4, raspberry-pi, rpi4, pi4"
