"""Every message that docs/troubleshooting.md quotes is one that the code prints."""

import ast
import re
from functools import cache

import pytest

from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
QUOTED = re.compile(r"^\*\*(`+) ?(.+?) ?\1\*\* — ", re.MULTILINE | re.DOTALL)
HOLE = "…"
LEAST_FIXED = 11  # letters in a row that no other message has


def quoted() -> list[str]:
    """Return the messages of the page, without line breaks."""
    return [" ".join(found[1].split()) for found in QUOTED.findall(PAGE)]


@cache
def said() -> tuple[str, ...]:
    """Return every text in the code, with a hole for each value that is put into it, but for docstrings."""
    found = []
    for file in sorted((REPOSITORY / "edgeslim").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        found += [text for node in nodes if id(node) not in docstrings and (text := _text(node)) is not None]
    return tuple(found)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one) or HOLE for one in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def is_said(message: str) -> bool:
    """Tell whether some text of the code has all fixed parts of a message, in their order."""
    pattern = re.compile(".*".join(map(re.escape, message.split(HOLE))), re.DOTALL)
    return any(pattern.search(text) for text in said())


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_one_that_the_code_prints(message: str) -> None:
    assert is_said(message), f"no text in edgeslim/ reads so: {message}"
    assert max(map(len, message.split(HOLE))) >= LEAST_FIXED, "too little of it is fixed to be found by"


def test_every_paragraph_that_begins_bold_quotes_a_message() -> None:
    assert len(quoted()) == len(re.findall(r"^\*\*", PAGE, re.MULTILINE)) > 25


def test_a_message_that_nobody_prints_is_found_out() -> None:
    assert not is_said("… is neither a folder of images nor a .zip file")
    assert not is_said("expected its folder or its .tar.gz: no such artifact")
