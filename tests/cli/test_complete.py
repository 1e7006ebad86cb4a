"""A shell completes what is typed: devices, formats, models, by the program itself and in bash, and loads no torch."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeslim.devices.profile import all_profiles
from edgeslim.formats import FORMATS
from edgeslim.kept import KINDS
from tests.support import REPOSITORY
from tests.support.installed import skip_without_torchvision

HEAVY = ("torch", "onnx", "openvino", "torchvision", "scipy")


def asked(
    *words: str, shell: str = "bash", wish: str = "complete", cwd: Path = REPOSITORY, python: tuple[str, ...] = ()
):
    """Ask the program as a shell's own function does, the last word being typed."""
    told = {
        "PYTHONPATH": str(REPOSITORY),
        "_EDGESLIM_COMPLETE": f"{shell}_{wish}",
        "COMP_WORDS": "\n".join(["edgeslim", *words]),
        "COMP_CWORD": words[-1] if shell == "fish" and words else str(len(words)),
    }
    command = [sys.executable, *python, "-m", "edgeslim"]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **told}, capture_output=True, text=True, check=False)


def completions(*words: str, cwd: Path = REPOSITORY) -> list[str]:
    done = asked(*words, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), "a shell would show that in the middle of the line"
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line.startswith("plain,")]


def test_commands_and_options_are_completed() -> None:
    assert completions("de") == ["devices"]
    assert "--device" in completions("build", "--")
    assert completions("bench", "--scenario", "s") == ["single-stream", "sustained"]


@pytest.mark.parametrize("words", [("--device", "rasp"), ("-d", "rasp"), ("--device", "=", "rasp")])
def test_devices_are_completed_by_name_and_alias(words: tuple[str, ...]) -> None:
    known = [name for one in all_profiles() for name in (one.name, *one.aliases) if name.startswith("rasp")]
    assert len(known) >= 4
    assert completions("build", *words) == known


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("build", "--format", ""), list(FORMATS)),
        (("build", "--weights", "ran"), ["random"]),
        (("build", "--data", "syn"), ["synthetic"]),
        (("build", "--prune", "lat"), ["latency="]),
        (("build", "--rewrite", "clip"), ["clip=yes", "clip=no"]),
        (("build", "--rewrite", "clip", "=", "y"), ["yes"]),
        (("bench", "artifact", "--fail-on", "golden,fall"), ["golden,fallback"]),
        (("bench", "artifact", "--on", "emulator", ":", "raspberry-pi-z"), ["raspberry-pi-zero-2w"]),
        (("probe", "ss"), ["ssh://"]),
        (("cache", "--clear", "--kind", ""), list(KINDS)),
    ],
)
def test_words_that_are_known_are_completed(words: tuple[str, ...], wanted: list[str]) -> None:
    assert completions(*words) == wanted


def test_a_file_is_left_to_the_shell_where_no_word_begins_so() -> None:
    assert asked("build", "--recipe", "re").stdout == "file,re\n"
    assert asked("build", "--device", "mine/bo").stdout == "file,mine/bo\n"


def test_a_model_is_completed_to_files_and_what_they_make(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text("raise RuntimeError('run')\ndef make(): ...\ndef _hidden(): ...\n")
    (tmp_path / "notes.txt").write_text("")
    assert completions("build", "", cwd=tmp_path) == ["torchvision:", "nets/"]
    assert completions("build", "nets/m", cwd=tmp_path) == ["nets/mine.py:"]
    assert completions("check", "nets/mine.py", ":", cwd=tmp_path) == ["make"]


def test_classifiers_of_torchvision_are_completed_without_loading_it() -> None:
    skip_without_torchvision()
    assert completions("build", "torchvision", ":", "mobilenet_v3") == ["mobilenet_v3_large", "mobilenet_v3_small"]


@pytest.mark.parametrize(
    "words", [("build", "torchvision", ":", "a"), ("build", "--device", ""), ("cache", "--kind", "")]
)
def test_nothing_heavy_is_loaded_for_it(words: tuple[str, ...]) -> None:
    done = asked(*words, python=("-X", "importtime"))
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "edgeslim.cli.words" in loaded, done.stderr[-500:]
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_that_is_known_gets_its_script(shell: str) -> None:
    done = asked(shell=shell, wish="source")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_EDGESLIM_COMPLETE={shell}_complete" in done.stdout


def test_zsh_and_fish_get_their_answers() -> None:
    assert asked("build", "--device", "n1", shell="zsh").stdout == "plain\nn100\n_\n"
    assert asked("build", "--device", "n1", shell="fish").stdout == "plain,n100\n"
    assert asked("build", "torchvision:squeezenet1_0", shell="fish").stdout == "plain,torchvision:squeezenet1_0\n"


@pytest.mark.parametrize(("shell", "wish"), [("tcsh", "source"), ("bash", "sauce"), ("", "source")])
def test_another_shell_is_told_so(shell: str, wish: str) -> None:
    done = asked(shell=shell, wish=wish)
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected bash_source, zsh_source or fish_source; other shells are not completed" in done.stderr


@pytest.fixture
def bash(tmp_path: Path) -> Path:
    """The bash of this machine; a folder with nothing but a program that is this edgeslim, and a file."""
    found = shutil.which("bash")
    if found is None:
        pytest.skip("bash is not installed; apt-get install bash")
    program = tmp_path / "bin" / "edgeslim"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m edgeslim "$@"\n')
    program.chmod(0o755)
    (tmp_path / "recipe one.yaml").write_text("")
    return Path(found)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("build --device raspberry-pi-z\t", "build --device raspberry-pi-zero-2w "),
        ("build --device=raspberry-pi-z\t", "build --device=raspberry-pi-zero-2w "),
        ("build torchv\talex\t", "build torchvision:alexnet "),
        ("build --rewrite cl\ty\t", "build --rewrite clip=yes "),
        ("build --recipe rec\t", r"build --recipe recipe\ one.yaml "),
    ],
)
def test_bash_completes_what_is_typed(bash: Path, tmp_path: Path, typed: str, line: str) -> None:
    if "torchv" in typed:
        skip_without_torchvision()
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
    environment.pop("PROMPT_COMMAND", None)
    ours, theirs = pty.openpty()
    command = [bash, "--norc", "--noprofile", "-i"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environment) as shell:
        os.close(theirs)
        try:
            os.write(
                ours, b'bind "set enable-bracketed-paste off"; eval "$(_EDGESLIM_COMPLETE=bash_source edgeslim)"\n'
            )
            os.write(ours, b"echo rea''dy\n")
            until(ours, "ready")
            os.write(ours, f"edgeslim {typed}".encode())
            os.write(ours, b"END\x01echo \n")  # ^A: to the start of the line
            assert f"edgeslim {line}END" in until(ours, "\nedgeslim").replace("\r", "")
        finally:
            shell.kill()
            os.close(ours)


def until(terminal: int, wanted: str, limit_s: float = 60.0) -> str:
    """Return what a terminal shows until something wanted is there, or so long."""
    shown, end = "", time.monotonic() + limit_s
    while wanted not in shown.replace("\r", "") and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown
