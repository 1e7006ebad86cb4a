"""The rules for NPUs on both sides of every limit, and against the compiler that they speak for."""

import json
import subprocess
import sys
from pathlib import Path

import npu_cases
import pytest
from npu_cases import CASES, folded_case

from edgeslim.device_profile import load_profile
from edgeslim.npu_rules import RULES, sentence, violations

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


def test_vela_places_every_case_as_the_rules_say(tmp_path: Path) -> None:
    if not Path(sys.executable).with_name("vela").exists():
        pytest.skip("ethos-u-vela is not installed; pip install ethos-u-vela")
    done = subprocess.run(
        [sys.executable, npu_cases.__file__, tmp_path, *OPTIONS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    placed = json.loads((tmp_path / "placed.json").read_text())
    wrong = {name: placed[name] for name, (_, rule) in CASES.items() if bool(placed[name]) != (rule is not None)}
    assert not wrong, f"on the CPU, or not, against the rules: {wrong}"


def test_every_operator_of_the_profile_stands_in_a_case_that_vela_places() -> None:
    from edgeslim.graph import operator_name

    seen = set()
    for name, (_, rule) in CASES.items():
        if rule is None:
            seen |= {operator_name(n) for n in folded_case(name)[0].graph.nodes if n.op == "call_function"}
    assert IMX93.npu is not None
    assert not set(IMX93.npu.operators) - seen, f"no case has {set(IMX93.npu.operators) - seen}"


def test_every_rule_is_a_sentence() -> None:
    for rule in RULES:
        assert sentence(rule).endswith("."), f"{rule.__name__}: its docstring is no sentence"
