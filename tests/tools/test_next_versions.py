"""The tool that tries the newest versions: what it installs, which tests it says fall, and what it kept."""

import sys
import tomllib
from pathlib import Path

from tests.support import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
import next_versions as tool

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
TESTS_THAT_FALL = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("no fixture today")

def test_passes():
    pass

def test_falls():
    assert 1 == 2, "one is not two"

@pytest.mark.parametrize("case", ["a b"])
def test_of_a_broken_fixture(broken, case):
    pass

def test_waits():
    pytest.skip("hardware: none")
"""


def test_everything_is_wanted_without_a_bound_and_what_checks_need_apart() -> None:
    own, checks = tool.wanted(PROJECT)
    assert {"torch", "onnxruntime", "openvino", "ai-edge-litert", "torchvision", "ziglang"} <= set(own)
    assert {"pytest", "sphinx", "nbclient"} <= set(checks)
    assert not [name for name in (*own, *checks) if not name.replace("-", "").isalnum()], "a bound is left"
    assert not {"edgeslim"} & {*own, *checks}


def test_a_package_has_moved_where_its_version_is_another_but_for_the_build() -> None:
    pins = tool.pinned("# torch==9\ntorch==2.13.0\nPillow==13.0.0\n")
    newest = {"torch": "2.13.0+cpu", "pillow": "14.0.0", "triton": "3.8.0"}
    assert tool.moved(pins, newest) == {"pillow": ("13.0.0", "14.0.0")}


def test_tests_that_fall_are_named_as_pytest_takes_them(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS_THAT_FALL)
    report = tool.run_tests(sys.executable, [str(tmp_path / "test_some.py")], tmp_path / "report.xml")
    found = tool.fallen(report)
    assert [name.rpartition("::")[2] for name in found] == ["test_falls", "test_of_a_broken_fixture[a b]"]
    assert found[next(iter(found))] == "AssertionError: one is not two"
    assert list(tool.by_folder(report).values()) == [4]


def test_the_record_that_the_documents_show_can_be_read() -> None:
    one = tool.load()
    assert one.passed > 100, "what was tried are no tests to speak of"
    told = tool.page(one)
    assert told.startswith(f"{one.date}, Python {one.python}: {one.passed} tests passed")
    assert all(f"`{name}`" in told for name in (*one.moved, *one.fallen))
