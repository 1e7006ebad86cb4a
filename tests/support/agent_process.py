"""Runs the Python agent as the harness does, with a real runtime or with one that a test writes."""

import importlib
import json
import subprocess
import sys

import numpy as np

from tests.support import REPOSITORY

AGENT_FOLDER = REPOSITORY / "runtimes" / "python"

# A runtime of one input and one output; what a test wants else it appends.
FAKE_RUNTIME = """
import os, sys, threading, time
import numpy as np
PACKAGE, VERSION = "fake", "1"
def load(options, fit):
    fit([("x", (1, 2), "float32")])
    return lambda sample: [sample[0] * 2]
def too_old(model, text):
    return None
def graph(options, fit, sample):
    return []
"""


def command(*arguments, agent=AGENT_FOLDER):
    """Return the words that run the agent of a folder."""
    return [sys.executable, "-B", str(agent / "agent.py"), *map(str, arguments)]


def run_agent(*arguments, agent=AGENT_FOLDER, **settings):
    """Return the exit code, the messages and stderr of one session."""
    done = subprocess.run(
        command(*arguments, agent=agent), capture_output=True, text=True, check=False, timeout=60, **settings
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def copy_agent(folder, runtime=None):
    """Copy the agent into `folder`, with one of its runtimes or none, as it travels to a device, and return it."""
    for file in AGENT_FOLDER.glob("*.py"):
        if not file.name.startswith("runtime_") or file.name == f"runtime_{runtime}.py":
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def fake_agent(folder, more=""):
    """Copy the agent with a runtime that the test itself writes; return it and the arguments of a session."""
    copy_agent(folder)
    (folder / "runtime_litert.py").write_text(FAKE_RUNTIME + more)
    (folder / "model").touch()
    np.save(folder / "x.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    return folder, ["--runtime", "litert", "--model", folder / "model", "--inputs", folder / "x.npy"]


def part_of_agent(name):
    """Import one of the agent's own files."""
    if str(AGENT_FOLDER) not in sys.path:
        sys.path.append(str(AGENT_FOLDER))
    return importlib.import_module(name)


def options(runtime, models, folder, precision="fp32", inputs=None):
    """Return the arguments of a session with one of the tiny models, after saving its inputs in `folder`."""
    np.save(folder / "x.npy", models.inputs[precision] if inputs is None else inputs)
    model = models.models[precision]
    return ["--runtime", runtime, "--model", model, "--inputs", folder / "x.npy", "--precision", precision]


def only(messages, kind):
    """Return the one message of a kind."""
    (message,) = [message for message in messages if message["type"] == kind]
    return message


def failure(result):
    """Return the exit code, the reason and the message of a session that failed."""
    code, messages, _ = result
    return code, messages[-1]["reason"], messages[-1]["message"]


def times(messages):
    """Return every raw time."""
    return [second for message in messages if message["type"] == "time" for second in message["seconds"]]
