"""What becomes of a skipped test, tried in a pytest of its own with this project's conftest."""

import os
import subprocess
import sys

import pytest

from tests.support import REPOSITORY

FILES = {
    "test_software.py": 'import pytest\ndef test_it(): pytest.skip("nncf is not installed; pip install nncf")\n',
    "test_module.py": 'import pytest\npytest.importorskip("nncf_x", reason="nncf_x is not installed; pip")\n',
    "test_hardware.py": 'import pytest\ndef test_it(): pytest.skip("hardware: needs a Raspberry Pi 4")\n',
    "test_expected.py": "import pytest\n@pytest.mark.xfail\ndef test_it(): raise ValueError\n",
}


@pytest.fixture(scope="module", params=["1", ""], ids=["all software required", "nothing required"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, str]:
    """Return whether all software was required, and what pytest printed."""
    folder = tmp_path_factory.mktemp("project")
    for name, source in FILES.items():
        (folder / name).write_text(source)
    options = ["-c", "/dev/null", "-ra", "-p", "no:anyio", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--continue-on-collection-errors", "--rootdir", folder, folder],
        env={
            **os.environ,
            "EDGESLIM_REQUIRE_SOFTWARE": request.param,
            "PYTHONPATH": str(REPOSITORY),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return request.param == "1", done.stdout


@pytest.mark.parametrize("reason", ["nncf is not installed; pip install nncf", "nncf_x is not installed"])
def test_missing_software_fails_only_where_all_of_it_is_required(run: tuple[bool, str], reason: str) -> None:
    required, printed = run
    assert (f"must run where all software is installed: {reason}" in printed) == required, printed
    assert reason in printed, "the reason of a skip must be shown"


def test_only_the_two_that_miss_software_fail(run: tuple[bool, str]) -> None:
    required, printed = run
    counts = "1 failed, 1 skipped, 1 xfailed, 1 error" if required else "3 skipped, 1 xfailed"
    assert counts in printed, printed


def test_missing_hardware_is_listed_with_the_test_and_its_need(run: tuple[bool, str]) -> None:
    assert "test_hardware.py::test_it: needs a Raspberry Pi 4" in run[1], run[1]
