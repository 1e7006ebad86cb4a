"""What the doctor says of packages, formats and machines; of this machine it is asked once, in full."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeslim.deploy.agent_program import ARCHITECTURES
from edgeslim.devices.machine import this_machine
from edgeslim.export import FORMATS
from edgeslim.report.doctor import (
    Diagnosis,
    Package,
    diagnose,
    examine,
    fault_of,
    of_agent,
    of_cpu,
    of_format,
    of_machine,
    of_packages,
    of_ram,
)
from tests.support.fake_trees import write_intel_n100, write_raspberry_pi_4

INSTALL = "pip install 'edgeslim[onnx]'"
GOOD, ABSENT = Package("onnx", "1.23.2"), Package("onnxscript", None)
BROKEN = Package("onnxruntime", "1.32.0", "ImportError: libgomp.so.1: cannot open shared object file")


@pytest.fixture(scope="module")
def findings() -> dict[str, Diagnosis]:
    """Return what is found here, by subject; of the two disks the last."""
    return {finding.what: finding for finding in diagnose()}


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert examine("no_such_package") == Package("no_such_package", None), "an absent package has no version or fault"


def test_a_package_that_imports_has_no_fault() -> None:
    assert examine("numpy").fault is None, "numpy imports here: these tests do"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_broken_import_is_told_by_its_last_words(code: str, fault: str) -> None:
    assert fault_of(code) == fault, "the reason must be the one line that says it"


def test_an_import_that_hangs_is_ended() -> None:
    assert fault_of("import time; time.sleep(600)", timeout_s=0.2) == "not finished after 0.2 s", (
        "it must not be waited for"
    )


def test_an_absent_package_is_named_with_the_command_that_installs_it() -> None:
    finding = of_packages("extra onnx", [GOOD, ABSENT], INSTALL)
    assert (finding.state, finding.cure) == ("missing", INSTALL), "the cure is the extra's install command"
    assert finding.detail == "not installed: onnxscript (onnx 1.23.2 is there)", "it must say which one is absent"


def test_a_broken_package_shows_its_fault_and_is_reinstalled_alone() -> None:
    finding = of_packages("extra onnx", [GOOD, BROKEN], INSTALL)
    assert finding.state == "missing", "what cannot be imported is as good as absent"
    assert finding.detail == f"broken: onnxruntime 1.32.0: {BROKEN.fault}", "the fault must be shown"
    assert finding.cure == "pip install --force-reinstall --no-deps onnxruntime==1.32.0", "nothing else is replaced"


def test_a_format_whose_runtime_alone_is_there_can_be_run_but_not_written() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install 'edgeslim[onnx]'")
    finding = of_format("onnx", [GOOD, ABSENT])
    assert (finding.state, finding.cure) == ("limited", INSTALL), "existing files can still be run"
    assert "not written; not installed: onnxscript" in finding.detail, finding.detail


def test_a_format_with_a_broken_package_can_be_neither_written_nor_run() -> None:
    finding = of_format("onnx", [GOOD, BROKEN])
    assert finding.state == "missing", "a runtime that cannot be imported runs nothing"
    assert "neither written nor run; broken: onnxruntime" in finding.detail, finding.detail


def test_an_agent_that_cannot_be_compiled_is_limited_with_the_command_that_brings_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ziglang", None)  # how Python marks a module as absent
    finding = of_agent(ARCHITECTURES[0])
    assert (finding.state, finding.cure) == ("limited", "pip install ziglang"), "the agent in Python takes over"
    assert "no C compiler" in finding.detail, finding.detail


def test_an_x86_without_vnni_is_limited_and_says_what_saturates(tmp_path: Path) -> None:
    machine = this_machine(write_intel_n100(tmp_path), "x86_64")
    assert of_cpu(machine).state == "ok", "the N100 has AVX-VNNI"
    without = of_cpu(replace(machine, cpu_flags=("avx2",)))
    assert without.state == "limited", "INT8 is slower without VNNI, and saturates in others' sessions"
    assert "session.x64quantprecision" in without.detail, without.detail


def test_an_arm_core_is_not_blamed_for_lacking_an_x86_instruction(tmp_path: Path) -> None:
    assert of_cpu(this_machine(write_raspberry_pi_4(tmp_path), "aarch64")).state == "ok", "VNNI is an x86 matter"


@pytest.mark.parametrize(("ram_bytes", "state"), [(2_999_999_999, "limited"), (3_000_000_000, "ok")])
def test_less_memory_than_a_build_takes_is_limited(ram_bytes: int, state: str, tmp_path: Path) -> None:
    machine = replace(this_machine(write_intel_n100(tmp_path), "x86_64"), ram_bytes=ram_bytes)
    assert of_ram(machine).state == state, "a build takes 3 GB"


def test_where_there_is_no_linux_the_machine_is_one_limited_finding(tmp_path: Path) -> None:
    (finding,) = of_machine(tmp_path)
    assert (finding.what, finding.state) == ("machine", "limited"), "what cannot be read must not stop the diagnosis"
    assert "proc/cpuinfo cannot be read" in finding.detail, finding.detail


def test_here_every_extra_and_every_format_is_diagnosed(findings: dict[str, Diagnosis]) -> None:
    others = ("torchvision", "timm", "huggingface", "ethos-u", "micro")
    extras = {f"extra {name}" for name in (*(form.extra for form in FORMATS.values()), *others)}
    agents = {f"agent for {name}" for name in ARCHITECTURES}
    expected = extras | agents | {f"format {name}" for name in FORMATS}
    expected |= {"Python", "torch", "ssh", "emulated core", "emulated machine", "CPU", "RAM", "disk"}
    assert set(findings) == expected, "a subject is missing or unknown"


def test_whatever_is_missing_here_has_a_cure(findings: dict[str, Diagnosis]) -> None:
    without = [finding for finding in findings.values() if finding.state == "missing" and not finding.cure]
    assert not without, f"no command for {without}"


def test_torchvision_works_wherever_it_is_installed(findings: dict[str, Diagnosis]) -> None:
    if "not installed" in findings["extra torchvision"].detail:
        pytest.skip("torchvision is not installed; pip install 'edgeslim[torchvision]'")
    assert findings["extra torchvision"].state == "ok", findings["extra torchvision"].detail
