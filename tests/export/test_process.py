"""Workers: forked by a warm server, alike a fresh interpreter, and gone with whoever asked for them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeslim.errors import ToolFailed
from edgeslim.export import export
from edgeslim.export.job import Job, program_path
from edgeslim.export.process import run_worker, side_by_side, stop_workers, workers
from edgeslim.formats import FORMATS
from edgeslim.model.graph import program_of, trace
from tests.support.installed import skip_without
from tests.support.processes import alive
from tests.support.small_models import headed

SLEEPER = """
import sys, threading, time
from pathlib import Path
from edgeslim.export.process import workers, run_worker
with workers(()):
    run_worker("tests.support.sleeping_worker", [sys.argv[1]], Path(sys.argv[1] + ".log"), "the sleeper", "sleeper")
"""


def written(path: Path) -> str:
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path.name} was not written")


@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
def test_two_jobs_of_one_server_write_the_bytes_of_two_fresh_processes(name, tmp_path):
    skip_without(FORMATS[name].runtime)
    network = headed(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU())
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))

    def write(folder: Path) -> bytes:
        folder.mkdir()
        np.save(folder / "probe.npy", images.numpy())
        torch.export.save(program_of(trace(network, (1, 3, 12, 12)), images[:1]), program_path(folder, "fp32"))
        source = program_path(folder, "fp32")
        if name == "openvino":
            source = folder / "source.onnx"
            export(
                Job("onnx", "fp32", program_path(folder, "fp32"), source, folder / "probe.npy", outputs=("logits",)),
                folder / "o.log",
            )
        target = folder / f"model{FORMATS[name].suffix}"
        job = Job(name, "fp32", source, target, folder / "probe.npy", outputs=("logits",))
        export(job, folder / "export.log")
        return b"".join(file.read_bytes() for file in job.files)

    fresh = [write(tmp_path / "one"), write(tmp_path / "two")]
    with workers((name,)):
        warm = [write(tmp_path / "three"), write(tmp_path / "four")]
    assert fresh[0] == fresh[1] == warm[0] == warm[1]


def test_a_worker_starts_from_no_folder_of_the_user(tmp_path, monkeypatch):
    for name in ("json.py", "numpy.py", "edgeslim.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the user ran')")
    monkeypatch.chdir(tmp_path)
    with workers(("onnx",)):
        run_worker("tests.support.writing_worker", [tmp_path / "answer"], tmp_path / "log", "the writer", "writer")
    assert (tmp_path / "answer").read_text() == "written"


def test_what_ends_a_worker_is_told_with_its_log(tmp_path):
    with workers(()) as server:
        for _ in range(2):
            with pytest.raises(ToolFailed, match=r"it failed: FileNotFoundError: .*gone.json.*; its log: .*failed.log"):
                run_worker("edgeslim.export.worker", [tmp_path / "gone.json", ""], tmp_path / "failed.log", "it", "it")
        os.killpg(server._process.pid, signal.SIGKILL)
        with pytest.raises(ToolFailed, match=r"was killed by SIGKILL|the process that starts workers ended"):
            run_worker("edgeslim.export.worker", [tmp_path / "gone.json", ""], tmp_path / "failed.log", "it", "it")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_worker_ends_with_whoever_asked_for_it(number, tmp_path):
    script = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{SLEEPER}"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pid")], stderr=subprocess.DEVNULL) as asking:
        worker = int(written(tmp_path / "pid"))
        asking.send_signal(number)
        asking.wait(30)
    for _ in range(100):
        if not alive(worker):
            return
        time.sleep(0.05)
    raise AssertionError("the worker lives on")


def test_one_error_ends_what_runs_beside_it(tmp_path):
    def work(job: str) -> None:
        if job == "fails":
            written(tmp_path / "pid")
            raise ValueError("no")
        run_worker("tests.support.sleeping_worker", [tmp_path / "pid"], tmp_path / "log", "the sleeper", "sleeper")

    began_s = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        side_by_side(work, ["fails", "sleeps"], 2, stop_workers)
    assert time.monotonic() - began_s < 60, "it waited for the other"
    pid = int((tmp_path / "pid").read_text())
    while alive(pid) and time.monotonic() - began_s < 60:
        time.sleep(0.05)  # what was killed is gone a moment later
    assert not alive(pid)
