"""The help of every command: whole sentences at 80 columns, options under headings, examples that are commands."""

import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from edgeslim.cli.help import ENDINGS, MOST_WITHOUT_HEADINGS, Command
from edgeslim.cli.main import commands

NARROW = 80


def help_of(*words: str, width: int = NARROW) -> str:
    context = click.Context(commands, info_name="edgeslim", terminal_width=width, max_content_width=110)
    command: click.Command = commands
    for word in words:
        command = commands.commands[word]
        context = click.Context(command, parent=context, info_name=word)
    return command.get_help(context)


def headings(text: str) -> list[str]:
    return [line.removesuffix(":") for line in text.splitlines() if re.fullmatch(r"\S.*:", line)]


@pytest.mark.parametrize("words", [(), *((name,) for name in commands.commands)], ids=" ".join)
@pytest.mark.parametrize("width", [NARROW, 110])
def test_no_line_is_too_wide_and_none_is_cut(words: tuple[str, ...], width: int):
    text = help_of(*words, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "..." not in text.replace("[ARGS]...", "")
    assert ENDINGS in text + "\n"


@pytest.mark.parametrize("name", commands.commands)
def test_many_options_stand_under_headings_and_few_do_not(name: str):
    command = commands.commands[name]
    assert isinstance(command, Command)
    found = headings(help_of(name))
    options = [one for one in command.get_params(click.Context(command)) if isinstance(one, click.Option)]
    if len(options) <= MOST_WITHOUT_HEADINGS:
        assert found == ["Options", "Examples", "Exit codes"]
    else:
        assert "Options" not in found, "an option stands under no heading"
        assert len(found) >= 4


def test_the_headings_of_a_build_follow_its_story():
    assert headings(help_of("build")) == [
        "Model and data", "What to build", "Demands", "Pruning and quantization", "Output", "Examples", "Exit codes",
    ]  # fmt: skip


@pytest.mark.parametrize("name", commands.commands)
def test_every_option_says_what_it_is_for_and_stands_there_once(name: str):
    command, text = commands.commands[name], help_of(name)
    for one in command.params:
        if isinstance(one, click.Option):
            assert one.help, f"{one.opts[0]} says nothing"
            assert len(re.findall(rf"^  (?:-\w, )?{one.opts[0]}\b(?!-)", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", commands.commands)
def test_examples_are_words_that_the_command_takes(name: str):
    command = commands.commands[name]
    assert isinstance(command, Command)
    assert command.examples
    for line in command.examples:
        program, named, *words = shlex.split(line)
        assert (program, named) == ("edgeslim", name)
        command.make_context(name, words)


def test_the_program_prints_that_help():
    done = subprocess.run(
        [sys.executable, "-m", "edgeslim", "sensitivity", "-h"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": str(NARROW + 2)},
    )  # fmt: skip
    assert headings(done.stdout) == headings(help_of("sensitivity"))
