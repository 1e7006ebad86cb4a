"""What the documents say is what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import edgeslim
from edgeslim import errors
from edgeslim.cli.help import ENDINGS
from edgeslim.cli.main import INTERRUPTED, commands
from tests.support import REPOSITORY

LONGEST_README = 220


def links_of(document: Path) -> list[str]:
    """Return the files that a document links to, relative to it."""
    return re.findall(r"\]\(([^)#:]+)\)", document.read_text())


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "docs_tables.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_one_page() -> None:
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    assert len(lines) <= LONGEST_README, f"{len(lines)} lines; move what has a page of its own to docs/"


def test_every_page_is_found_from_the_readme() -> None:
    found, waiting = set(), [REPOSITORY / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in found or not page.is_file():
            continue
        found.add(page)
        waiting += [(page.parent / target).resolve() for target in links_of(page) if target.endswith(".md")]
    orphans = sorted(page.name for page in (REPOSITORY / "docs").glob("*.md") if page not in found)
    assert not orphans, f"no page links to {', '.join(orphans)}"


def test_the_readme_names_every_command() -> None:
    text = (REPOSITORY / "README.md").read_text()
    missing = [name for name in commands.commands if f"edgeslim {name}" not in text]
    assert not missing, missing


def test_every_file_that_a_document_links_to_exists() -> None:
    for document in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")):
        for target in links_of(document):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_help_names_every_exit_code() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.EdgeslimError)]
    named = {int(code) for code in re.findall(r"^  (\d+)  ", ENDINGS, re.MULTILINE)}
    assert named == {0, INTERRUPTED, *(one.exit_code for one in kinds)}


def test_the_public_surface_is_pinned() -> None:
    assert edgeslim.__all__ == [
        "BadData",
        "BadInput",
        "BadModel",
        "BadProfile",
        "DeviceFailed",
        "EdgeslimError",
        "IntegrityFailed",
        "InvalidMeasurement",
        "MissingPackage",
        "Preprocessing",
        "Progress",
        "Recipe",
        "Refused",
        "ToolFailed",
        "__version__",
        "bench",
        "build",
        "calibrate",
        "check",
        "compare",
        "emulate",
        "fits",
        "inspect",
        "load_data",
        "load_model",
        "load_profile",
        "load_recipe",
        "probe",
        "profile",
        "sensitivity",
        "show",
        "verify",
    ]
    for name in [one for one in edgeslim.__all__ if one != "__version__"]:
        assert callable(getattr(edgeslim, name)), name
        assert getattr(edgeslim, name).__doc__, name
