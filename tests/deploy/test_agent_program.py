"""The native agent is built with the compiler that is there, kept, and never half written."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

from edgeslim.deploy.agent_program import agent_program
from edgeslim.errors import BadInput, Recomputed, ToolFailed
from edgeslim.sealed import SEAL

OWN = platform.machine()
FOREIGN = {"x86_64": "aarch64", "aarch64": "x86_64"}.get(OWN, "aarch64")
# The first two bytes of an ELF file's `e_machine`.
ELF_MACHINES = {"x86_64": 62, "aarch64": 183}

# Stands for a compiler: counts its calls, and writes what it was called with where `-o` says.
FAKE_COMPILER = """#!/bin/sh
echo "$@" >> "{folder}/calls"
case "$*" in *--version*) echo "fake {version}"; exit 0;; esac
{before}
while [ "$1" != -o ]; do shift; done
echo program > "$2"
"""

FAKE_ZIGLANG = """
import sys
from pathlib import Path
words = sys.argv[1:]
if "--version" not in words:
    Path(words[words.index("-o") + 1]).write_text("zig " + " ".join(words[:3]))
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Return a function that puts a fake compiler on the search path, on which nothing else is."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path / "cache"))

    def add(name, version="1", before=""):
        script = folder / name
        script.write_text(FAKE_COMPILER.format(folder=folder, version=version, before=before))
        script.chmod(0o755)
        return folder / "calls"

    return add


@pytest.fixture
def no_ziglang(monkeypatch):
    """Let `ziglang` look absent, whether it is installed or not: this is how Python marks a module as absent."""
    monkeypatch.setitem(sys.modules, "ziglang", None)


def compilations(calls):
    return [line for line in calls.read_text().splitlines() if "--version" not in line]


def test_the_agent_for_this_machine_runs_here(tmp_path, monkeypatch):
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler is installed; apt-get install gcc")
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path))
    done = subprocess.run([agent_program(OWN)], capture_output=True, text=True, check=False)
    assert (done.returncode, '"reason":"usage"' in done.stdout) == (2, True), done.stdout + done.stderr


def test_the_agent_for_another_architecture_is_built_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESLIM_CACHE", str(tmp_path))
    try:
        program = agent_program(FOREIGN)
    except ToolFailed as failure:
        pytest.skip(str(failure))
    header = program.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == ELF_MACHINES[FOREIGN], "it is built for another machine"


def test_what_was_built_once_is_not_built_again(tools):
    calls = tools("cc")
    first = agent_program(OWN)
    assert agent_program(OWN) == first
    assert len(compilations(calls)) == 1, "it was compiled a second time"
    assert os.access(first.parent, os.W_OK)
    kept = sorted(file.name for file in first.parent.iterdir())
    assert kept == sorted([first.name, SEAL]), "something beside the program and its hash was left"


def test_a_program_that_is_not_the_one_that_was_made_is_made_anew(tools):
    calls = tools("cc")
    program = agent_program(OWN)
    good = program.read_bytes()
    program.write_bytes(good + b"more")
    with pytest.warns(Recomputed, match="does not hold what was made there; it is made anew"):
        assert agent_program(OWN).read_bytes() == good
    assert len(compilations(calls)) == 2


def test_another_version_of_the_compiler_builds_anew(tools):
    tools("cc", version="1")
    first = agent_program(OWN)
    calls = tools("cc", version="2")
    assert agent_program(OWN) != first
    assert len(compilations(calls)) == 2


def test_a_compile_error_is_told_in_the_compilers_words_and_leaves_nothing(tools, tmp_path):
    tools("cc", before='echo "main.c:1: no such thing" >&2; exit 1')
    with pytest.raises(ToolFailed, match=r"main\.c:1: no such thing"):
        agent_program(OWN)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()], "a half-written program was left"


def test_without_a_compiler_the_commands_that_bring_one_are_named(tools, no_ziglang):
    with pytest.raises(ToolFailed, match=r"pip install ziglang.*apt-get install gcc"):
        agent_program(OWN)
    with pytest.raises(ToolFailed, match=rf"apt-get install gcc-{FOREIGN.replace('_', '-')}-linux-gnu"):
        agent_program(FOREIGN)


def test_the_own_compiler_is_no_compiler_for_another_architecture(tools, no_ziglang):
    tools("cc")
    with pytest.raises(ToolFailed, match=f"no C compiler for {FOREIGN}"):
        agent_program(FOREIGN)


def test_a_cross_compiler_builds_for_the_other_architecture(tools, no_ziglang):
    calls = tools(f"{FOREIGN}-linux-gnu-gcc")
    assert agent_program(FOREIGN).parent.name.startswith(f"{FOREIGN}-")
    assert "main.c" in compilations(calls)[0]


def test_ziglang_comes_first_for_another_architecture_and_last_for_this_one(tools, tmp_path, monkeypatch):
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE_ZIGLANG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    built_with_zig = f"zig cc -target {FOREIGN}-linux-gnu.2.28"
    tools("cc")
    tools(f"{FOREIGN}-linux-gnu-gcc")
    assert agent_program(FOREIGN).read_text() == built_with_zig, "a cross compiler's libc may be newer than the board's"
    assert agent_program(OWN).read_text() == "program\n", "this machine's own compiler fits its libc"


def test_an_architecture_nobody_has_is_refused():
    with pytest.raises(BadInput, match="architecture vax: x86_64 or aarch64 was expected"):
        agent_program("vax")


def test_a_folder_that_cannot_be_written_is_named_with_the_variable_that_changes_it(tools, tmp_path):
    tools("cc")
    (tmp_path / "cache").write_text("a file, no folder")
    with pytest.raises(ToolFailed, match=r"cannot keep agents in .*EDGESLIM_CACHE"):
        agent_program(OWN)
