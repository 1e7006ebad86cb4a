"""What a machine's small files say against what ran between two looks at them."""

import pytest

from edgeslim.devices.machine import small_files
from edgeslim.measure.conditions import FIX_CLOCKS, LIFT_LIMIT, PATTERNS, Conditions, cautions

CPU, ZONE = "sys/devices/system/cpu/cpu", "sys/class/thermal/thermal_zone"
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.fixture
def look(tmp_path):
    """`look({path: text})` writes into a tree like a board's /sys and reads it as the harness does; None removes."""

    def written(files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        return Conditions.of(small_files(tmp_path, PATTERNS))

    return written


def clocks(cpu, khz, *, limit=2_400_000, fastest=2_400_000, governor="ondemand"):
    """One CPU's cpufreq files."""
    return {
        f"{CPU}{cpu}/cpufreq/scaling_governor": f"{governor}\n",
        f"{CPU}{cpu}/cpufreq/scaling_cur_freq": f"{khz}\n",
        f"{CPU}{cpu}/cpufreq/scaling_max_freq": f"{limit}\n",
        f"{CPU}{cpu}/cpufreq/cpuinfo_max_freq": f"{fastest}\n",
    }


def test_every_file_of_a_board_is_read_in_its_unit(look):
    counter = {f"{CPU}0/thermal_throttle/core_throttle_count": "7\n"}
    found = look(clocks(0, 600_000) | clocks(11, 1_500_000) | counter | {f"{ZONE}0/temp": "48312\n", THROTTLED: "0\n"})
    assert found.governors == {"cpu0": "ondemand", "cpu11": "ondemand"}, "the governors"
    assert found.clocks_khz == {"cpu0": 600_000, "cpu11": 1_500_000}, "the clocks"
    assert found.limits_khz == found.fastest_khz == {"cpu0": 2_400_000, "cpu11": 2_400_000}, "the limits"
    assert list(found.throttle_counts.values()) == [7], "the counters"
    assert found.temperatures_c == {"thermal_zone0": pytest.approx(48.312)}, "thousandths of a degree were not divided"
    assert found.throttled_bits == 0, "the firmware's bits"


def test_where_the_kernel_offers_nothing_there_is_no_caution(look):
    nothing = look({})
    assert cautions(nothing, nothing) == [], "a machine that says nothing was doubted"


def test_a_board_at_rest_gives_no_caution(look):
    tree = clocks(0, 2_400_000) | {f"{ZONE}0/temp": "90000\n", THROTTLED: "0\n"}
    assert cautions(look(tree), look({})) == [], "heat alone slows nothing"


@pytest.mark.parametrize("text", ["<unknown>\n", "\n", "a lot\n"])
def test_a_clock_that_is_no_number_is_not_known(look, text):
    found = look(clocks(0, 600_000) | {f"{CPU}0/cpufreq/scaling_cur_freq": text})
    assert found.clocks_khz == {}, "text was taken for a clock"


def test_a_throttle_counter_that_rose_names_the_core_the_heat_and_what_to_do(look):
    counters = {f"{CPU}{n}/thermal_throttle/core_throttle_count": "7\n" for n in (0, 1)}
    before = look(counters | {f"{ZONE}0/temp": "50000\n", f"{ZONE}1/temp": "40000\n"})
    after = look({f"{CPU}1/thermal_throttle/core_throttle_count": "9\n", f"{ZONE}1/temp": "97400\n"})
    (found,) = cautions(before, after)
    assert found.kind == "throttled", "another kind of doubt"
    assert "counted throttling of cpu1/thermal_throttle/core; " in found.text, "not the core that was throttled"
    assert found.text.endswith("the hottest zone is at 97 °C"), "not the hottest zone"
    assert "cool the device" in found.advice, "no advice"


def test_throttling_before_the_run_is_no_doubt_about_it(look):
    look_at = {f"{CPU}0/thermal_throttle/package_throttle_count": "1234\n"}
    assert cautions(look(look_at), look({})) == [], "what was counted long ago was held against the run"


def test_a_counter_that_was_not_there_before_says_nothing_about_the_run(look):
    before = look({})
    after = look({f"{CPU}3/thermal_throttle/core_throttle_count": "1234\n"})
    assert cautions(before, after) == [], "a CPU that came online brought its history with it"


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("1", "under-voltage"),
        ("2", "frequency capped"),
        ("4", "throttled"),
        ("8", "soft temperature limit"),
        ("50005", "under-voltage, throttled"),
    ],
)
def test_what_a_raspberry_pi_reports_of_now_is_throttling(look, bits, words):
    (found,) = cautions(look({THROTTLED: "0\n"}), look({THROTTLED: f"{bits}\n"}))
    assert (found.kind, found.text) == ("throttled", f"the firmware reports {words}"), "other bits, or said twice"


def test_what_still_is_throttled_was_throttled_before_the_run_too(look):
    same = look({THROTTLED: "50005\n"})
    assert [one.kind for one in cautions(same, same)] == ["throttled"], (
        "a slow run between two equal looks was believed"
    )


@pytest.mark.parametrize(
    ("before", "after", "words"), [("0", "20000", "frequency capped"), ("10000", "50000", "throttled")]
)
def test_a_sticky_bit_that_came_with_the_run_is_throttling(look, before, after, words):
    (found,) = cautions(look({THROTTLED: f"{before}\n"}), look({THROTTLED: f"{after}\n"}))
    assert found.text == f"the firmware reports {words}", "not what is new"


def test_a_sticky_bit_from_before_the_run_is_no_doubt_about_it(look):
    same = look({THROTTLED: "50000\n"})
    assert cautions(same, same) == [], "what happened since the boot was held against the run"


@pytest.mark.parametrize(
    ("text", "bits"), [("50005\n", 0x50005), ("throttled=0x50005\n", 0x50005), ("0x0", 0), ("", 0), ("failed\n", 0)]
)
def test_the_firmwares_bits_are_hexadecimal_with_or_without_a_prefix(look, text, bits):
    assert look({THROTTLED: text}).throttled_bits == bits, f"`{text}` was read as something else"


def test_a_capped_clock_is_named_with_both_limits_and_how_to_lift_it(look):
    after = look(clocks(0, 1_500_000) | clocks(1, 1_500_000, limit=1_500_000))
    (found,) = cautions(after, after)
    assert (found.kind, found.text) == ("clocks", "cpu1 is capped at 1.50 of 2.40 GHz"), "not what caps it"
    assert found.advice == LIFT_LIMIT, "the governor `performance` does not lift a limit"


def test_a_limit_a_little_below_the_fastest_clock_is_no_cap(look):
    after = look(clocks(0, 2_400_000, limit=2_300_000))
    assert cautions(after, after) == [], "4 % below was called capped"


def test_a_cap_is_doubted_under_the_governor_performance_too(look):
    after = look(clocks(0, 1_500_000, limit=1_500_000, governor="performance"))
    assert [one.kind for one in cautions(after, after)] == ["clocks"], "a limited clock was believed"


def test_clocks_that_moved_under_a_governor_are_named_with_both_and_how_to_fix_them(look):
    before = look(clocks(0, 2_400_000) | clocks(1, 2_400_000))
    (found,) = cautions(before, look(clocks(1, 600_000)))
    assert found.kind == "clocks", "another kind of doubt"
    assert found.text == "cpu1 went from 2.40 to 0.60 GHz under the governor ondemand", "not what moved"
    assert found.advice == FIX_CLOCKS, "no advice"
    assert "echo performance" in FIX_CLOCKS, "the advice does not fix clocks"


@pytest.mark.parametrize(("khz", "moved"), [(2_300_000, False), (2_250_000, True)])
def test_a_clock_has_moved_from_a_twentieth_on(look, khz, moved):
    found = cautions(look(clocks(0, 2_400_000)), look(clocks(0, khz)))
    assert bool(found) == moved, f"2.4 GHz and {khz / 1e6} GHz"


def test_the_governor_performance_answers_for_its_clocks(look):
    before = look(clocks(0, 2_400_000, governor="performance"))
    assert cautions(before, look(clocks(0, 1_800_000, governor="performance"))) == [], "turbo steps were doubted"


def test_a_cpu_that_was_not_there_before_has_not_moved(look):
    before = look(clocks(0, 2_400_000))
    assert cautions(before, look(clocks(1, 600_000))) == [], "a clock was compared with nothing"


def test_throttling_and_clocks_are_two_cautions(look):
    before = look(clocks(0, 2_400_000) | {THROTTLED: "0\n"})
    found = cautions(before, look(clocks(0, 600_000) | {THROTTLED: "4\n"}))
    assert [one.kind for one in found] == ["throttled", "clocks"], "one hid the other"
