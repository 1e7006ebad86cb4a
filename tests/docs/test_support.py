"""What docs/support.md says of installing and of versions is what pyproject.toml and the wheel say."""

import re
import tomllib
from importlib.metadata import version

from tests.support import REPOSITORY, TESTS

PAGE = (REPOSITORY / "docs" / "support.md").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def test_every_extra_is_named() -> None:
    said = re.search(r"The extras are (.+?)\.", PAGE, re.DOTALL)
    assert said is not None
    assert set(re.findall(r"`([a-z-]+)`", said[1])) == set(PROJECT["optional-dependencies"])


def test_the_oldest_python_and_the_wheel_are_those_of_the_project() -> None:
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer" in PAGE
    assert f"edgeslim-{PROJECT['version']}-py3-none-any.whl" in PAGE


def test_every_pin_that_the_page_shows_is_what_runs_here() -> None:
    rows = re.findall(r"^\| ([a-z-]+) \| (?:`[a-z-]+`|always) \| .+ \| (\S+) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 8, "the table has another shape"
    apart = {name: version(name) for name, pin in rows if version(name).partition("+")[0] != pin}
    assert not apart, f"docs/support.md says that the checks run with other versions than {apart}"


def test_an_artifact_of_every_older_format_is_held_by_a_test() -> None:
    (older,) = re.findall(r"^\| an artifact's manifest \| \S+ \| (\S+) \|$", PAGE, re.MULTILINE)
    assert older == "edgeslim-manifest/1"
    assert (TESTS / "golden" / "artifact-format-1.tar.gz").is_file()
