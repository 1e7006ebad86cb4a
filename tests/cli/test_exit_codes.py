"""Every command ends with the exit code of what happened, and with --json in one document that says so."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeslim.cli.main import commands
from edgeslim.errors import DeviceFailed, EdgeslimError, MissingPackage
from edgeslim.resources import bundled
from tests.support.in_process import PI, run

# A call of every command that gets as far as its work, and the function that does it.
CALLS = {
    "build": (("model.py:make", *PI, "--out", "artifact"), "edgeslim.build"),
    "bench": (("artifact",), "edgeslim.bench"),
    "compare": (("a", "b"), "edgeslim.compare"),
    "show": (("artifact",), "edgeslim.show"),
    "inspect": (("artifact",), "edgeslim.inspect"),
    "verify": (("artifact",), "edgeslim.verify"),
    "check": (("model.py:make", *PI), "edgeslim.check"),
    "init": (("net.py:Net", *PI), "edgeslim.model.sources.starter.starter"),
    "sensitivity": (("model.py:make", *PI), "edgeslim.sensitivity"),
    "devices": ((), "edgeslim.cli.commands.inspect.all_profiles"),
    "probe": (("ssh://board", *PI), "edgeslim.probe"),
    "profile": (("artifact",), "edgeslim.profile"),
    "calibrate": (("--on", "ssh://board", *PI, "--out", "profile.yaml"), "edgeslim.calibrate"),
    "cache": ((), "edgeslim.cli.commands.cache.kept"),
    "doctor": ((), "edgeslim.report.doctor.diagnose"),
}
WORDS = "it did not go well"


def kinds(of: type[EdgeslimError] = EdgeslimError) -> Iterator[type[EdgeslimError]]:
    for kind in of.__subclasses__():
        if kind.__module__ == EdgeslimError.__module__:
            yield kind
            yield from kinds(kind)


def test_no_command_is_left_out():
    assert set(CALLS) == set(commands.commands)


@pytest.mark.parametrize("kind", [*kinds(), ValueError, KeyboardInterrupt], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("command", CALLS)
def test_what_happens_has_its_exit_code_and_its_document(monkeypatch, capsys, tmp_path, command, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words, function = CALLS[command]
    error = kind("pytest", "dev") if kind is MissingPackage else kind(WORDS)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(function, fail)
    code, out, err = run(monkeypatch, capsys, command, *words, "--json")
    wanted = {ValueError: 1, KeyboardInterrupt: 130}.get(kind, getattr(kind, "exit_code", None))
    assert code == wanted, err
    document = json.loads(out)
    assert set(document) == {"kind", "exit_code", "message", "reasons", "next"}
    assert document["exit_code"] == wanted
    assert document["kind"].replace("-", "") == ("interrupted" if kind is KeyboardInterrupt else kind.__name__.lower())
    if issubclass(kind, EdgeslimError):
        assert error.message in document["message"]
        assert error.message in err
    assert (document["next"] is not None) == issubclass(kind, DeviceFailed | MissingPackage)
    assert f"help: {document['next']}" in err or document["next"] is None


@pytest.mark.parametrize("command", CALLS)
def test_words_that_no_command_knows_are_a_usage_error(monkeypatch, capsys, command):
    code, out, err = run(monkeypatch, capsys, command, "--nosuch", "--json")
    assert code == 2
    assert json.loads(out)["kind"] == "no-such-option"
    assert "No such option" in err


def test_an_interrupt_inside_an_exec_of_text_has_our_exit_code_too(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "import edgeslim.cli.main as cli\n"
        "cli.commands.main = lambda **named: exec('raise KeyboardInterrupt')\n"  # as in the making of a dataclass
        "cli.run()\n"
    )
    command = [sys.executable, "-m", "module"]  # only then does Python remember it
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted; nothing half-written was left\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("build", "--devize", "x"), r"No such option .* help: `.*edgeslim build --help` shows every option"),
        (("compare", "a"), r"Missing argument 'B'\. help: `.*edgeslim compare --help` shows every option"),
        (
            ("check", "--device", "raspbery-pi"),
            r"did you mean `raspberry-pi`.* help: `edgeslim devices` lists them all",
        ),
        (("verify", "nosuch"), r"nosuch: no such artifact help: name its folder or its \.tar\.gz"),
        (("check", *PI, "--data", "nosuch"), r"neither a folder .* help: name a folder of images"),
    ],
)
def test_the_errors_of_the_first_minutes_say_what_to_do(monkeypatch, capsys, words, told):
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert re.search(f"error: .*{told}", err), err


def test_no_command_at_all_is_answered_with_the_help(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys)
    assert (code, "Commands:" in err, "error:" in err) == (2, True, False), err


def test_a_device_that_nothing_is_built_for_is_refused_with_where_the_others_are(monkeypatch, capsys, tmp_path):
    profile = (bundled("device_profiles") / "raspberry-pi-4.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(profile.replace("device_class: cpu", "device_class: gpu"))
    code, _, err = run(monkeypatch, capsys, "check", "--device", str(tmp_path / "mine.yaml"))
    assert (code, err.endswith("help: `edgeslim devices` lists the others, with their class")) == (3, True), err
