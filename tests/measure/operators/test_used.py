"""Operator times that travel in an artifact: read back as written, refused where they are none or of another one."""

import json

import pytest

from edgeslim.devices.profile import load_profile
from edgeslim.errors import BadInput
from edgeslim.measure.operators.used import FILE, load_used, save_used, used_times
from edgeslim.model.operator import Operator
from edgeslim.pipeline.latency import Noted, operator_latency
from tests.support.packed_artifact import pack_small

WIDE, NARROW = Operator("conv", 8, 8, 16, 16), Operator("conv", 8, 8, 16, 8)
USED = used_times("litert", 1, {"int8": {WIDE: 2e-3, NARROW: 1e-3}, "fp32": {WIDE: 5e-3}}, estimated=False)
PI = load_profile("raspberry-pi")


def latency(profile=PI, threads=1, given=USED, store=None):
    return operator_latency(profile, threads, store, None, given)


def test_they_are_read_back_as_they_were_written(tmp_path):
    save_used(USED, tmp_path / FILE)
    assert load_used(tmp_path / FILE) == USED
    assert USED.seconds([NARROW, WIDE, NARROW]) == {NARROW: 1e-3, WIDE: 2e-3}
    assert USED.seconds([WIDE], "fp32") == {WIDE: 5e-3}


def test_a_build_that_is_given_them_measures_nothing_and_notes_what_it_used():
    noted = Noted(PI, 1, None, None, USED)
    assert noted.used is None
    assert noted.unused == ["the operator times that were given were not used: nothing was chosen by times"]
    assert noted().seconds([WIDE]) == {WIDE: 2e-3}
    assert noted("fp32").seconds([WIDE]) == {WIDE: 5e-3}
    assert noted.used == used_times("litert", 1, {"int8": {WIDE: 2e-3}, "fp32": {WIDE: 5e-3}}, estimated=False)
    with pytest.raises(BadInput, match="lack 1 of 1 operators"):
        noted("dynamic").seconds([WIDE])
    assert noted.unused == []


def test_an_operator_that_they_lack_is_named():
    with pytest.raises(BadInput, match=r"lack 1 of 2 operators of this network \(first: Operator\(kind='add'"):
        latency().seconds([WIDE, Operator("add", 8, 8, 16, 16)])


@pytest.mark.parametrize(
    ("device", "threads"), [("nxp-imx93", 1), ("raspberry-pi", 4)], ids=["another runtime", "more threads"]
)
def test_times_of_another_runtime_or_more_threads_are_refused(device, threads):
    given = used_times("openvino", 1, {"int8": {WIDE: 1.0}}, estimated=False) if threads == 1 else USED
    with pytest.raises(BadInput, match=r"the operator times are of \w+ with 1 threads"):
        latency(load_profile(device), threads, given)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "holds no operator times"),
        (json.dumps({"runtime": "litert"}), "holds no operator times"),
        (
            json.dumps({"runtime": "litert", "threads": 1, "estimated": False, "times": [], "more": 1}),
            "holds no operator",
        ),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_holds_none_is_refused_by_name(tmp_path, content, complaint):
    file = tmp_path / "times.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadInput, match=complaint) as refused:
        load_used(file)
    assert "times.json" in str(refused.value)


def test_a_negative_time_is_refused(tmp_path):
    save_used(used_times("litert", 1, {"int8": {WIDE: -1.0}}, estimated=False), tmp_path / FILE)
    with pytest.raises(BadInput, match="one is negative"):
        load_used(tmp_path / FILE)


def test_an_artifact_without_them_and_a_path_that_is_no_artifact_are_refused(tmp_path):
    with pytest.raises(BadInput, match=f"carries no {FILE}: nothing was pruned by times"):
        load_used(pack_small(tmp_path))
    (tmp_path / "text.txt").write_text("no")
    with pytest.raises(BadInput, match=r"expected a file of operator times \(.json\) or an artifact"):
        load_used(tmp_path / "text.txt")
