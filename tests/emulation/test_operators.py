"""Operators are counted once on the emulated core, kept, and their times follow from what the estimator says."""

import json

import pytest

from edgeslim.devices.profile import load_profile
from edgeslim.emulation.core import Emulator
from edgeslim.emulation.operators import NEXT_TO_NOTHING, estimated_operator_times_s
from edgeslim.errors import Refused, ToolFailed
from edgeslim.model.operator import Operator
from tests.support.emulated_core import skip_without_emulator

PI = load_profile("raspberry-pi-4")
NARROW = Operator("conv", 14, 14, 32, 32, (3, 3), (1, 1), (1, 1))
WIDE = Operator("conv", 14, 14, 32, 64, (3, 3), (1, 1), (1, 1))
SUM = Operator("add", 14, 14, 32, 32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    skip_without_emulator()
    return tmp_path_factory.mktemp("counts")


@pytest.fixture(scope="module")
def times(cache):
    return estimated_operator_times_s("litert", "int8", [NARROW, WIDE, SUM, NEXT_TO_NOTHING], PI, cache=cache)


def test_twice_the_channels_take_about_twice_as_long(times):
    assert 1.5 < times[WIDE] / times[NARROW] < 2.5
    assert times[SUM] < times[NARROW]
    assert times[NEXT_TO_NOTHING] == 0, "calling the runtime is taken off"


def test_what_was_counted_once_is_not_counted_again(times, cache, monkeypatch):
    monkeypatch.setattr(Emulator, "count", lambda *_, **__: pytest.fail("it was counted again"))
    assert estimated_operator_times_s("litert", "int8", [WIDE, NARROW], PI, cache=cache) == {
        one: times[one] for one in (WIDE, NARROW)
    }


def test_other_costs_give_other_times_from_the_same_counts(times, cache):
    costs = tuple(one.model_copy(update={"cycles": 2 * one.cycles}) for one in PI.estimator.costs)
    slower = PI.model_copy(update={"estimator": PI.estimator.model_copy(update={"costs": costs})})
    found = estimated_operator_times_s("litert", "int8", [WIDE], slower, cache=cache)
    assert found[WIDE] == pytest.approx(2 * times[WIDE])


def test_a_damaged_table_is_named_and_left_alone(times, cache, tmp_path):
    (file,) = cache.iterdir()
    damaged = tmp_path / file.name
    damaged.write_text(file.read_text()[:-40])
    with pytest.raises(ToolFailed, match=r"no table of operator counts .*it can be deleted"):
        estimated_operator_times_s("litert", "int8", [WIDE], PI, cache=tmp_path)
    assert damaged.read_text() == file.read_text()[:-40]
    assert json.loads(file.read_text())["core"] == "cortex-a72"


def test_counts_of_other_conditions_than_the_name_says_are_refused(times, cache, tmp_path):
    (file,) = cache.iterdir()
    (tmp_path / file.name).write_text(file.read_text().replace('"cortex-a72"', '"cortex-a76"'))
    with pytest.raises(ToolFailed, match="its counts were taken under other conditions than its name says"):
        estimated_operator_times_s("litert", "int8", [WIDE], PI, cache=tmp_path)


def test_a_device_without_an_estimator_is_refused(tmp_path):
    bare = PI.model_copy(update={"estimator": None})
    with pytest.raises(Refused, match="its profile has no `estimator`"):
        estimated_operator_times_s("litert", "int8", [WIDE], bare, cache=tmp_path)
