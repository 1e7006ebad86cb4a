"""The recorded Raspberry Pi 4 of `fake_devices/`, copied so that a test can change it: throttled, killed, too old."""

import json
import shutil
import sys

from tests.support import TESTS

PI_4 = TESTS / "fake_devices" / "raspberry-pi-4"
UNAME = {"argv": "^uname -m$"}
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
# Stands for a compiler: the fake device only looks whether a program is there.
COMPILER = """#!/bin/sh
case "$*" in *--version*) echo stand-in; exit 0;; esac
while [ "$1" != -o ]; do shift; done
echo program >"$2"
"""


class RecordedDevice:
    """A copy of a recorded device in `folder`, to be changed."""

    def __init__(self, folder, source=PI_4):
        shutil.copytree(source, folder, symlinks=True)
        self.folder = folder
        self.address = f"fake:{folder}"

    def write(self, path, text):
        """Let a small file of the device hold `text`; None removes it."""
        file = self.folder / "root" / path
        if text is None:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def session(self, name):
        """The lines of a recorded session, such as "onnx_int8_timed_1"."""
        return (self.folder / "sessions" / f"{name}.jsonl").read_text().splitlines()

    def answer(self, *replies):
        """Let these replies come before the recorded ones."""
        file = self.folder / "replies.jsonl"
        file.write_text("".join(f"{json.dumps(one)}\n" for one in replies) + file.read_text())


def process(kind, runtime="onnxruntime", precision="int8"):
    """The `argv` of the replies for one kind of process: "outputs", "graph" or, timed, "iterations"."""
    return {"argv": f"--runtime {runtime} .*--precision {precision} .*--{kind}"}


def recorded(name):
    """The part of a reply that says a recorded session."""
    return {"stdout": f"sessions/{name}.jsonl"}


def put_compilers(folder, monkeypatch):
    """Let the agent be built at once and for any architecture, by stand-ins for the compilers."""
    tools = folder / "compilers"
    tools.mkdir()
    for name in ("cc", "aarch64-linux-gnu-gcc", "x86_64-linux-gnu-gcc"):
        (tools / name).write_text(COMPILER)
        (tools / name).chmod(0o755)
    only(tools, folder, monkeypatch)


def take_compilers(folder, monkeypatch):
    """Let no compiler be there."""
    tools = folder / "nothing"
    tools.mkdir()
    only(tools, folder, monkeypatch)


def only(tools, folder, monkeypatch):
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("EDGESLIM_CACHE", str(folder / "cache"))
    monkeypatch.setitem(sys.modules, "ziglang", None)  # this is how Python marks a module as absent
