"""The tool that fits the Raspberry Pis: its data, what its fits must reach, and the profiles that hold them."""

import subprocess
import sys

import pytest

from edgeslim.devices.emulation import CLASSES
from edgeslim.devices.profile import load_profile
from edgeslim.emulation.estimator import TRANSFER_BAND, estimate, estimator_of
from tests.support import REPOSITORY

TOOLS = REPOSITORY / "tools"
sys.path.insert(0, str(TOOLS))
import fit_estimator as tool  # noqa: E402

# Mean error with one time left out, of a reference fitted to the same rows; ours must be no larger.
REFERENCES = {"raspberry-pi-4": 0.098, "raspberry-pi-5": 0.067, "raspberry-pi-zero-2w": 0.096}
DEVICES = list(REFERENCES)


def test_the_profiles_hold_what_the_fit_gives():
    done = subprocess.run(
        [sys.executable, TOOLS / "fit_estimator.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "a check that finds nothing says nothing"


@pytest.mark.parametrize("device", DEVICES)
def test_a_changed_cost_in_a_profile_is_seen(device):
    text = tool.section(tool.fitted(device))
    written = f"limits:\n{text.replace('cycles: ', 'cycles: 9')}limits:\n".removeprefix("limits:\n")
    assert tool.rewritten(written, tool.fitted(device)) == f"{text}limits:\n", "the section is not written anew"


@pytest.mark.parametrize("device", DEVICES)
def test_the_error_is_no_larger_than_the_references(device):
    assert estimator_of(load_profile(device)).each_left_out.mean <= REFERENCES[device], "worse than the reference"


@pytest.mark.parametrize("device", DEVICES)
def test_counting_misses_beats_counting_instructions_alone(device):
    seen = tool.observations(device)
    alone = abs(tool.relative_errors(seen, tool.left_out(device, tool.ALONE))).mean()
    assert estimator_of(load_profile(device)).networks_left_out.mean < 0.7 * alone, "the misses explain nothing"


@pytest.mark.parametrize("device", DEVICES)
def test_choosing_the_groups_without_the_network_costs_little(device):
    seen = tool.observations(device)
    nested = abs(tool.relative_errors(seen, tool.left_out_of_all(device))).mean()
    held_out = estimator_of(load_profile(device)).networks_left_out.mean
    assert nested <= held_out + 0.01, "the groups were chosen to fit these networks"


@pytest.mark.parametrize("device", DEVICES)
def test_nine_of_ten_left_out_times_lie_within_the_band(device):
    seen, estimator = tool.observations(device), estimator_of(load_profile(device))
    predicted = tool.left_out(device, tool.groups_of(estimator))
    inside = [abs(one.cycles / told - 1) <= estimator.band + 5e-4 for one, told in zip(seen, predicted, strict=True)]
    assert sum(inside) / len(inside) >= 0.9, f"only {sum(inside)} of {len(inside)} lie within the band"


def test_what_ran_as_fp16_is_called_fp16():
    for row in tool._rows():
        halves, floats = float(row["fma_vec_fp16"] or 0), float(row["fma_vec"] or 0)
        ran = "int8" if row["precision"] == "int8" else "fp16" if halves > floats else "fp32"
        assert row["precision"] == ran, (
            f"{row['device']} {row['net']}: {halves:.0f} fp16 and {floats:.0f} fp32 products"
        )
    assert {one.precision for one in tool.observations("raspberry-pi-5")} == {"fp16", "int8"}, "nothing ran in fp32"


def test_the_classes_of_each_row_add_up_to_its_instructions():
    for row in tool._rows():
        counts = {name: float(row.get(name) or 0) for name in tool.COUNTS}
        assert sum(counts[name] for name in CLASSES) == counts["insns"], f"{row['device']} {row['net']}"


def test_an_fp32_estimate_for_the_device_that_was_fitted_on_fp16_says_so():
    counts = tool.observations("raspberry-pi-5")[0].counts
    told = estimate(counts, estimator_of(load_profile("raspberry-pi-5")), "litert", "fp32")
    assert told.note is not None, "nothing is said of the other precision"
    assert "carried over from ncnn in fp16 and int8" in told.note, told.note


@pytest.mark.parametrize("device", DEVICES)
def test_int8_times_by_costs_of_float_times_alone_stay_within_the_band_of_a_transfer(device):
    assert tool.int8_by_float(device)[1] < TRANSFER_BAND, "code that the fit has not seen lies outside its band"


def test_the_decisions_are_those_of_the_pairs_that_are_no_ties():
    verdicts = {
        device: tool.decisions(device, tool.left_out(device, tool.groups_of(tool.fitted(device)))) for device in DEVICES
    }
    assert sum(one.pairs for one in verdicts.values()) == 21, "a published pair is missing"
    assert verdicts["raspberry-pi-5"].ties == 2, "pairs within 3 % of each other decide nothing"
    for device, one in verdicts.items():
        assert one.always_int8 <= one.right <= one.pairs - one.ties, f"{device}: always answering INT8 does better"


@pytest.mark.parametrize("device", DEVICES)
def test_the_speed_ups_are_those_of_the_published_times(device):
    four = tool.speedup(device)
    assert 1.1 < four.lowest < four.median < four.highest < 3.6, f"{four} is not what ncnn publishes"
