"""stdout holds results alone: whatever a user's code prints, and however it ends, `--json` is one document."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = """
import atexit, os, sys
from torch import nn
{loading}
PREPROCESSING = {{"width": 8, "height": 8, "channels": 3, "resize": 8, "mean": [0.0] * 3, "std": [1.0] * 3,
                 "color_order": "RGB", "interpolation": "bilinear"}}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 4)
    def forward(self, x):
        {running}
        return self.layer(x.flatten(1))

class Own(BaseException):
    pass

def make():
    {making}
    return Net()
"""
LOUD = "print('loud'); os.write(1, b'louder'); sys.stdout.flush(); atexit.register(print, 'loudest')"


def model(folder: Path, **places: str) -> str:
    text = {name: places.get(name, "pass") for name in ("loading", "making", "running")}
    (folder / "model.py").write_text(MODEL.format(**text))
    return f"{folder / 'model.py'}:make"


def check(source: str, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edgeslim", "check", source, "--device", "raspberry-pi", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("place", ["loading", "making", "running"])
def test_what_a_models_code_prints_is_no_result(tmp_path: Path, place: str) -> None:
    done = check(model(tmp_path, **{place: LOUD}), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["possible"] is True
    assert "loud" in done.stderr


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "raise Own('mine')", "raise SystemExit"])
@pytest.mark.parametrize("place", ["making", "running"])
def test_however_a_models_code_ends_it_is_a_bad_model(tmp_path: Path, place: str, end: str) -> None:
    done = check(model(tmp_path, **{place: end}), "--json")
    assert done.returncode == 2, (done.stdout, done.stderr)
    told = json.loads(done.stdout)
    assert (told["kind"], told["exit_code"]) == ("bad-model", 2)
    assert "model.py:make raised" in told["message"]
    assert "error: " in done.stderr


def test_help_and_tables_are_on_stdout_as_ever() -> None:
    for words in (["--help"], ["build", "--help"], ["devices"], ["--version"]):
        done = subprocess.run([sys.executable, "-m", "edgeslim", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert not done.stderr


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["check", "gone.py:make", "--device", "raspberry-pi"], 2, "bad-model"),
        (["check", "--device", "rasberry-pi"], 2, "bad-profile"),
        (["verify", "nowhere"], 2, "bad-input"),
        (["build", "--device", "raspberry-pi", "--nonsense"], 2, "no-such-option"),
    ],
)
def test_an_error_with_json_is_one_document_too(words: list[str], code: int, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeslim", *words, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    told = json.loads(done.stdout)
    assert (told["kind"], told["exit_code"]) == (kind, code)
    assert set(told) == {"kind", "exit_code", "message", "reasons", "next"}
