"""Install the newest of every package in place of the pins, run the quick tests there, and say which fall.

    python tools/next_versions.py FOLDER [TESTS ...]

FOLDER gets a fresh environment; one that is there already, whole, is used as it is. Names come from pyproject.toml
without their bounds; pip takes the newest versions that its index answers and that go together. Tests that fall are run
again with the pins, by the Python that runs this. The record, next_versions.json beside this file, is what
docs/support.md shows. Plain torch brings CUDA on x86-64, some 8 GB in all; where another index has builds for the CPU,
pip is told of it by PIP_EXTRA_INDEX_URL. The exit code is 1 where a test falls with the newest versions alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgeslim.table import markdown_rows as table

REPOSITORY = Path(__file__).resolve().parent.parent
RECORD = Path(__file__).with_suffix(".json")
CHECKS = ("docs", "test")  # extras that edgeslim itself does not need
# What meets the libraries: files written, read back and run, models traced and loaded, a build from end to end.
QUICK = ("artifact", "export", "model", "runtimes", "tasks", "end_to_end/test_module.py")


@dataclass(frozen=True)
class Tried:
    """The newest versions, and what the tests say of them.

    `tests`: how many ran of each folder; `moved`: pinned and newest version of each package whose two differ.
    `fallen`: the last line of each test that falls with the newest versions alone; `fallen_anyway`: names of those that
    fall with the pins too.
    """

    date: str
    python: str
    tests: Mapping[str, int]
    moved: Mapping[str, tuple[str, str]]
    passed: int
    skipped: int
    fallen: Mapping[str, str]
    fallen_anyway: tuple[str, ...]


def wanted(project: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what pyproject.toml's `project` needs here without any bound: edgeslim's own needs, its checks'."""
    extras: dict[str, list[str]] = project["optional-dependencies"]
    own = [one for extra, listed in extras.items() if extra not in CHECKS for one in listed]
    return _names([*project["dependencies"], *own]), _names([one for extra in CHECKS for one in extras[extra]])


def _names(listed: Sequence[str]) -> list[str]:
    """Return the packages of some requirements that hold here, edgeslim's own extras left out."""
    needed = [one for one in map(Requirement, listed) if one.name != "edgeslim"]
    return sorted({one.name for one in needed if one.marker is None or one.marker.evaluate()})


def pinned(text: str) -> dict[str, str]:
    """Return the version of each package in the lines of constraints.txt."""
    lines = [line.split("==") for line in text.splitlines() if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in lines}


def moved(pins: Mapping[str, str], newest: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return pinned and newest version where they differ; a build's own suffix ("+cpu") is no difference."""
    return {
        name: (pins[name], version)
        for name, version in sorted(newest.items())
        if name in pins and pins[name].partition("+")[0] != version.partition("+")[0]
    }


def install(folder: Path, own: Sequence[str], checks: Sequence[str]) -> None:
    """Make an environment with the newest of edgeslim's needs, then what its checks need to fit."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)  # that of a new environment is as old as its Python
    subprocess.run([*pip, *own], check=True)
    kept = folder / "constraints.txt"
    kept.write_text("\n".join(f"{name}=={version}" for name, version in installed(python).items()))
    subprocess.run([*pip, "--constraint", kept, *checks], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", str(REPOSITORY)], check=True)


def installed(python: Path) -> dict[str, str]:
    """Return the version of each package of an environment."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True,
        check=True,
    )
    return {canonicalize_name(one["name"]): one["version"] for one in json.loads(listed.stdout)}


def run_tests(python: str | Path, tests: Sequence[str], report: Path) -> ElementTree.Element:
    """Run tests with a Python, one thread each; return pytest's report, RuntimeError where it made none."""
    command = [python, "-m", "pytest", "-q", "-p", "no:randomly", "--tb=short", f"--junit-xml={report}", *tests]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, check=False)
    if not report.is_file():
        raise RuntimeError(f"pytest ended with {done.returncode} and wrote no report")
    return ElementTree.parse(report).getroot()  # noqa: S314 - written just now by pytest


def fallen(report: ElementTree.Element) -> dict[str, str]:
    """Return the tests that fell, as pytest takes their names, with the last line of why."""
    found = {}
    for case in report.iter("testcase"):
        for fault in (*case.iter("failure"), *case.iter("error")):
            lines = (fault.get("message") or fault.text or "").strip().splitlines()
            found[_name(case)] = lines[0] if lines else "no reason given"
    return found


def by_folder(report: ElementTree.Element) -> dict[str, int]:
    """Return how many tests of each folder ran: what was interrupted is told as far as it came."""
    return dict(Counter(_name(case).partition("::")[0].rpartition("/")[0] for case in report.iter("testcase")))


def _name(case: ElementTree.Element) -> str:
    """Return a test's name as pytest takes it: the classname of a report is its file with dots."""
    file, name = str(case.get("classname")).replace(".", "/"), str(case.get("name"))
    return f"{file}.py::{name}" if file else f"{name.replace('.', '/')}.py"


def tried(folder: Path, tests: Sequence[str]) -> Tried:
    """Install the newest versions into `folder` and run tests there; those that fall, with the pins too."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    whole = folder / "whole"  # a mark: the environment was made to its end
    if not whole.exists():
        install(folder / "environment", *wanted(project))
        whole.touch()
    python = folder / "environment" / "bin" / "python"
    return judged(run_tests(python, tests, folder / "newest.xml"), installed(python), folder)


def judged(report: ElementTree.Element, newest: Mapping[str, str], folder: Path) -> Tried:
    """Return what a report says of the newest versions; tests that fell are run with the pins, in `folder`."""
    fell = fallen(report)
    anyway = fallen(run_tests(sys.executable, list(fell), folder / "pins.xml")) if fell else {}
    outcomes = report.find("testsuite")
    counts = {} if outcomes is None else {name: int(outcomes.get(name, 0)) for name in ("tests", "skipped")}
    return Tried(
        date=datetime.now(UTC).date().isoformat(),
        python=platform.python_version(),
        tests=by_folder(report),
        moved=moved(pinned((REPOSITORY / "constraints.txt").read_text()), newest),
        passed=counts["tests"] - counts["skipped"] - len(fell),
        skipped=counts["skipped"],
        fallen={name: why for name, why in fell.items() if name not in anyway},
        fallen_anyway=tuple(name for name in fell if name in anyway),
    )


def load() -> Tried:
    """Return what the last run recorded."""
    return Tried(**json.loads(RECORD.read_text()))


def page(one: Tried) -> str:
    """Return a record as docs/support.md shows it."""
    also = f", {len(one.fallen_anyway)} fell with the pins too" if one.fallen_anyway else ""
    counts = f"{one.passed} tests passed, {one.skipped} were skipped, {len(one.fallen)} fell{also}"
    rows = [[f"`{name}`", before, after] for name, (before, after) in one.moved.items()]
    ran = ", ".join(f"{count} of `{folder}`" for folder, count in one.tests.items())
    parts = [f"{one.date}, Python {one.python}: {counts} ({ran}).", table(["package", "pinned", "newest"], rows)]
    if one.fallen:
        parts.append(table(["fell", "why"], [[f"`{name}`", why] for name, why in one.fallen.items()]))
    return "\n\n".join(parts)


def main() -> int:
    """Try the newest versions, keep the record, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tests", nargs="*", default=[f"tests/{one}" for one in QUICK])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    one = tried(arguments.folder.resolve(), arguments.tests)
    RECORD.write_text(json.dumps(asdict(one), indent=2) + "\n")
    print(page(one))
    return 1 if one.fallen else 0


if __name__ == "__main__":
    sys.exit(main())
