"""A profile laid over another one replaces whole sections, and whatever is wrong in it is named."""

import pytest

from edgeslim.devices.profile import load_profile, profile_sha256
from edgeslim.errors import BadProfile
from edgeslim.resources import bundled

POWER = "power:\n  idle: {value: '9 W', source: mine}\n  active: {value: null}\n  sensors: []\n"


def written(tmp_path, text, name="mine.yaml"):
    file = tmp_path / name
    file.write_text(text)
    return file


def test_a_section_replaces_the_base_s_and_everything_else_stays(tmp_path):
    mine, base = load_profile(written(tmp_path, f"base: raspberry-pi-4\n{POWER}")), load_profile("raspberry-pi-4")
    assert (mine.power.idle.value, mine.power.active.value) == (9.0, None), "sections are replaced whole"
    assert mine.model_copy(update={"power": base.power}) == base
    assert profile_sha256(mine) != profile_sha256(base)


def test_a_base_may_be_a_file_beside_the_overlay(tmp_path):
    (tmp_path / "base.yaml").write_text((bundled("device_profiles") / "raspberry-pi-5.yaml").read_text())
    assert load_profile(written(tmp_path, "base: base.yaml\n")) == load_profile("raspberry-pi-5")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("base: raspbery-pi-4\n", "mine.yaml:1: `base`: unknown device `raspbery-pi-4`; did you mean `raspberry-pi-4`"),
        ("base: gone.yaml\n", "gone.yaml: cannot be read"),
        ("base: mine.yaml\n", "mine.yaml:1: `base`: mine.yaml is no whole profile"),
        ("base: 4\n", "mine.yaml:1: `base`: expected text; got `4`"),
        ("base: raspberry-pi-4\npowr: {}\n", "mine.yaml:2: unknown key `powr`; did you mean `power`"),
        ("base: raspberry-pi-4\nbase: raspberry-pi-5\n", "mine.yaml:2: key `base` stands twice"),
        ("base: raspberry-pi-4\npower: {idle: 1}\n", r"mine.yaml:2 \[power"),
        ("base: raspberry-pi-4\ncalibrated: {board: me}\n", r"mine.yaml:2 \[calibrated\]: `board`: expected"),
        ("base: raspberry-pi-4\ncalibrated: {who: me}\n", r"mine.yaml:2 \[calibrated\]: unknown key `who`"),
        ("calibrated: {}\n", "mine.yaml:1: unknown key `calibrated`"),
    ],
)
def test_what_is_wrong_with_an_overlay_is_named(text, complaint, tmp_path):
    with pytest.raises(BadProfile, match=complaint):
        load_profile(written(tmp_path, text))


def test_every_fault_is_told_at_once_with_the_file_it_is_in(tmp_path):
    text = (bundled("device_profiles") / "raspberry-pi-5.yaml").read_text().replace('"2.4 GHz"', '"2.4 GB"', 1)
    (tmp_path / "base.yaml").write_text(text)
    mine = "base: base.yaml\ncalibrated: {board: me}\npowr: {}\nlimits: {max_model: {value: 5}, max_batch: 1}\n"
    with pytest.raises(BadProfile) as refused:
        load_profile(written(tmp_path, mine))
    told = str(refused.value).splitlines()
    assert [line.partition(" ")[0].rstrip(":") for line in told] == [
        *["mine.yaml:2"] * 9,  # eight keys are missing
        *["mine.yaml:3", "mine.yaml:4", "mine.yaml:4"],
        "base.yaml:16",
    ]
    assert "mine.yaml:2 [calibrated]: `board`: expected pattern" in "\n".join(told)


CORES = """cores:
  - name: {name}
    count: {{value: 4, source: mine}}
    max_clock: {{value: "1.6 GHz", source: mine}}
    cpu_part: "{part}"
    isa: [neon]
    source: mine
"""


def test_an_overlay_of_another_core_inherits_neither_estimator_nor_emulation(tmp_path):
    other = written(tmp_path, "base: raspberry-pi-4\n" + CORES.format(name="Cortex-A55", part="0xd05"))
    profile = load_profile(other)
    assert (profile.estimator, profile.emulation) == (None, None), "another core is taken for a Cortex-A72"
    same = written(tmp_path, "base: raspberry-pi-4\n" + CORES.format(name="Cortex-A72", part="0xd08"), "same.yaml")
    base = load_profile("raspberry-pi-4")
    assert (load_profile(same).estimator, load_profile(same).emulation) == (base.estimator, base.emulation)
