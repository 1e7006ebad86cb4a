"""The rules for NPUs on both sides of every limit, and against the compiler that they speak for."""

import importlib.util
import json
import subprocess
import sys

import pytest

from edgeslim.compress.fold import folded
from edgeslim.compress.legalize.rules import RULES, sentence, violations
from edgeslim.devices.profile import load_profile
from tests.support import REPOSITORY
from tests.support.npu_cases import CASES, folded_case
from tests.support.small_models import Passing

IMX93 = load_profile("nxp-imx93")
OPTIONS = [
    "--accelerator-config", "ethos-u65-256", "--system-config", "Ethos_U65_High_End", "--memory-mode", "Dedicated_Sram",
    "--config", "Arm/vela.ini",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_case_breaks_the_one_rule_it_is_said_to_break(name: str) -> None:
    graph, _ = folded_case(name)
    broken = {one.rule for one in violations(graph, IMX93)}
    assert broken == ({CASES[name][1]} - {None}), [str(one) for one in violations(graph, IMX93)]


def test_every_rule_stands_on_both_sides_of_its_limit() -> None:
    broken = {rule for _, rule in CASES.values()}
    missing = {rule.__name__ for rule in RULES} - broken - {"dtypes"}
    assert not missing, f"no case breaks {missing}"


@pytest.fixture(scope="module")
def vela(tmp_path_factory) -> dict[str, dict[str, list[str]]]:
    """What Vela keeps off the NPU: of every case, and of every case that a rewrite cures, rewritten."""
    if importlib.util.find_spec("ethosu") is None:
        pytest.skip("ethos-u-vela is not installed; pip install ethos-u-vela==5.2.0")
    folder = tmp_path_factory.mktemp("vela")
    command = [sys.executable, "-m", "tests.support.npu_cases", IMX93.name, str(folder), *OPTIONS]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, list[str]]] = json.loads((folder / "placed.json").read_text())
    return found


def test_vela_places_every_case_as_the_rules_say(vela) -> None:
    placed = vela["placed"]
    wrong = {name: placed[name] for name, (_, rule) in CASES.items() if bool(placed[name]) != (rule is not None)}
    assert not wrong, f"on the CPU, or not, against the rules: {wrong}"


def test_vela_places_on_the_npu_what_a_rewrite_cured(vela) -> None:
    rules = {CASES[name][1] for name in vela["rewritten"]}
    assert {"convolution_strides", "pooling_strides", "windows", "padded_averages", "means", "clips"} <= rules
    left = {name: found for name, found in vela["rewritten"].items() if found}
    assert not left, f"still off the NPU: {left}"


def test_every_operator_of_the_profile_stands_in_a_case_that_vela_places() -> None:
    from edgeslim.model.graph import operator_name

    seen = set()
    for name, (_, rule) in CASES.items():
        if rule is None:
            seen |= {operator_name(n) for n in folded_case(name)[0].graph.nodes if n.op == "call_function"}
    assert IMX93.npu is not None
    assert not set(IMX93.npu.operators) - seen, f"no case has {set(IMX93.npu.operators) - seen}"


def test_an_npu_without_a_largest_stride_takes_every_stride() -> None:
    assert IMX93.npu is not None
    free = IMX93.model_copy(update={"npu": IMX93.npu.model_copy(update={"max_stride": None})})
    for name, (_, rule) in CASES.items():
        if rule in ("convolution_strides", "pooling_strides"):
            assert violations(folded_case(name)[0], free) == [], name


def test_whole_numbers_and_doubles_are_refused() -> None:
    for network in (Passing(lambda self, x: x.argmax(1)), Passing(lambda self, x: x.double().relu())):
        graph, _ = folded(network, (1, 3, 4, 4))
        found = [str(one) for one in violations(graph, IMX93) if one.rule == "dtypes"]
        assert found, graph
        assert "only float32 becomes int8; no rewrite cures it" in found[0]


def test_a_layout_is_found_at_once_in_a_deep_network() -> None:
    def deep(self, x):
        for _ in range(60):
            x = x + x.relu()
        return x.mean((2, 3), keepdim=True)

    graph, _ = folded(Passing(deep), (1, 3, 4, 4))
    assert [one.rule for one in violations(graph, IMX93)] == ["means"]


def test_every_rule_is_a_sentence() -> None:
    for rule in RULES:
        assert sentence(rule).endswith("."), f"{rule.__name__}: its docstring is no sentence"
