"""What the documents say is what the code does."""

import re
import subprocess
import sys

import edgeslim
from edgeslim.cli.main import commands
from tests.support import REPOSITORY


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "docs_tables.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_command() -> None:
    text = (REPOSITORY / "README.md").read_text()
    missing = [name for name in commands.commands if f"edgeslim {name}" not in text]
    assert not missing, missing


def test_every_file_that_a_document_links_to_exists() -> None:
    for document in REPOSITORY.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (REPOSITORY / target).exists(), f"{document.name} links to {target}"


def test_the_public_surface_is_pinned() -> None:
    assert edgeslim.__all__ == [
        "bench",
        "build",
        "calibrate",
        "check",
        "compare",
        "emulate",
        "fits",
        "inspect",
        "load_profile",
        "probe",
        "profile",
        "sensitivity",
        "verify",
    ]
    for name in edgeslim.__all__:
        assert callable(getattr(edgeslim, name)), name
        assert getattr(edgeslim, name).__doc__, name
