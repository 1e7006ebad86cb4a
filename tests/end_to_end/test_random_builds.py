"""A dozen random networks of ordinary operators, always the same, are built in all formats, and every file is held."""

import sys

import pytest

from edgeslim.formats import FORMATS
from edgeslim.model.graph import operator_name, trace
from tests.support import REPOSITORY
from tests.support.installed import skip_where_openvino_saturates, skip_without

sys.path.insert(0, str(REPOSITORY / "tools"))
import fuzz_builds

NUMBERS = range(12)


@pytest.fixture(scope="module")
def outcomes() -> dict[int, fuzz_builds.Outcome]:
    for one in FORMATS.values():
        skip_without(one.runtime)
    skip_where_openvino_saturates()
    found: dict[int, fuzz_builds.Outcome] = {}
    fuzz_builds.explore(lambda one: found.update({one.number: one}), NUMBERS, chosen=7)
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_a_random_network_is_built_as_its_module_and_plan_say(
    outcomes: dict[int, fuzz_builds.Outcome], number: int
) -> None:
    assert outcomes[number].ending == "built", str(outcomes[number])


@pytest.mark.usefixtures("outcomes")  # and its skips
def test_one_in_several_precisions_whose_relu_moves_into_a_layer_is_built_as_its_module_and_plan_say() -> None:
    found: list[fuzz_builds.Outcome] = []
    fuzz_builds.explore(found.append, [7], chosen=31, mixed=True)
    assert found[0].ending == "built", str(found[0])


def test_a_number_and_a_seed_name_one_network() -> None:
    (one, size), (again, same_size) = (fuzz_builds.network_number(3, 7) for _ in range(2))
    state, same = one.state_dict(), again.state_dict()
    assert (size, str(one)) == (same_size, str(again))
    assert all(bool((state[name] == same[name]).all()) for name in state)
    assert str(fuzz_builds.network_number(4, 7)[0]) != str(one)


def test_the_operators_of_random_networks_are_many() -> None:
    seen: set[str] = set()
    for number in range(30):
        network, size = fuzz_builds.network_number(number, 7)
        seen.update({operator_name(n) for n in trace(network, (1, *size)).graph.nodes if n.op == "call_function"})
    assert len(seen) > 40, seen
