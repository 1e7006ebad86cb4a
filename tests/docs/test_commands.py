"""What the documents tell to type is what the command line and the library take."""

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest

import edgeslim
from edgeslim.cli.main import commands
from tests.support import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    """Return the blocks of a kind, each with the name of its page."""
    found = [(page.name, match) for page in PAGES for match in BLOCK.finditer(page.read_text())]
    return [(page, match[2]) for page, match in found if match[1] == kind]


def typed() -> list[tuple[str, str]]:
    """Return every line that calls edgeslim, joined where it goes on, with the name of its page."""
    lines = [(page, line) for page, block in blocks("console") for line in block.replace("\\\n", "").splitlines()]
    words = [(page, line.removeprefix("$ ")) for page, line in lines]
    return [(page, line) for page, line in words if line.startswith("edgeslim ")]


def called() -> list[tuple[str, ast.Call]]:
    """Return the name of each function of the library that a block of Python calls, and the call."""
    calls = [node for _, block in blocks("python") for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    named = [(call, ast.unparse(call.func).removeprefix("edgeslim.")) for call in calls]
    return [(name, call) for call, name in named if name in edgeslim.__all__]


@pytest.mark.parametrize(("page", "line"), typed())
def test_a_command_of_the_documents_is_one_that_the_command_line_takes(page: str, line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    assert name in commands.commands, f"{page}: no command `{name}`"
    commands.commands[name].make_context(name, words)  # raises for an option or an argument that is not known


@pytest.mark.parametrize(("name", "call"), called(), ids=lambda one: one if isinstance(one, str) else "")
def test_a_function_of_the_documents_is_called_as_it_can_be(name: str, call: ast.Call) -> None:
    told = {str(keyword.arg): keyword.value for keyword in call.keywords}
    inspect.signature(getattr(edgeslim, name)).bind(*call.args, **told)


def test_commands_and_calls_were_found() -> None:
    assert len(typed()) > 50
    assert len(called()) > 2
    assert {Path(page).stem for page, _ in typed()} >= {"README", "command_line", "tutorial", "measuring", "emulation"}
