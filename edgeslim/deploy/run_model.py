"""Run a model on this machine, in the Python agent: all its outputs, or the graph it executes."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgeslim.deploy.agent_session import GraphNode, Session, read_session
from edgeslim.deploy.deployment import python_agent
from edgeslim.deploy.device import Candidate, files_of
from edgeslim.deploy.installed import require_runtime
from edgeslim.deploy.targets import Target
from edgeslim.deploy.targets.local import open_target
from edgeslim.work_folders import work_folder

START_TIMEOUT_S = 300.0  # loading a runtime and compiling a large model on a slow board
SAMPLE_TIMEOUT_S = 5.0


def run_model(
    runtime: str, model: Path, inputs: np.ndarray | Path, *, precision: str, threads: int = 1, outputs: int = 1
) -> tuple[np.ndarray, ...]:
    """Run every sample of `inputs` (axis 0, each as a batch of one) here; return the model's first `outputs` outputs.

    A fresh process of the Python agent runs them, in the runtime as Python users have it. `inputs` may be an .npy file,
    which is read row by row and may exceed the memory. Each result has the samples on axis 0 and the model's own
    dtype. Raises MissingPackage when the runtime is not installed and DeviceFailed with the agent's reason.
    """
    with open_target() as target, work_folder() as folder:
        file = inputs if isinstance(inputs, Path) else saved_as_npy(inputs, folder, "inputs")
        files = [folder / f"output_{place}.npy" for place in range(outputs)]
        count = len(np.load(file, mmap_mode="r"))
        wishes = ["--inputs", target.push(file), "--threads", str(threads), *saving(files)]
        candidate = Candidate(model.name, runtime, model, precision)
        _python_session(target, candidate, wishes, START_TIMEOUT_S + SAMPLE_TIMEOUT_S * count)
        return tuple(np.asarray(np.load(file, allow_pickle=False)) for file in files)


def saving(files: Iterable[Path | str]) -> list[str]:
    """Return the agent's options by which it saves a model's outputs, in the model's order, as .npy files."""
    return [word for file in files for word in ("--outputs", str(file))]


def execution_graph(runtime: str, model: Path, inputs: np.ndarray, precision: str) -> list[GraphNode]:
    """Return the nodes that `runtime` executes here for the first sample of `inputs` (batch on axis 0).

    It is the runtime's own record, taken with the Python agent. Raises as `run_model` does.
    """
    with open_target() as target, work_folder() as folder:
        wishes = ["--inputs", target.push(saved_as_npy(inputs[:1], folder, "inputs")), "--graph"]
        session = _python_session(target, Candidate(model.name, runtime, model, precision), wishes, START_TIMEOUT_S)
        return list(session.graph or ())


def _python_session(target: Target, candidate: Candidate, wishes: Sequence[str], timeout_s: float) -> Session:
    """Run one process of the Python agent on this machine."""
    require_runtime(candidate.runtime)
    model = target.push(*files_of(candidate.model))
    what = ["--runtime", candidate.runtime, "--model", model, "--precision", candidate.precision]
    return read_session(target.run([*python_agent(target), *what, *wishes], timeout_s))


def saved_as_npy(inputs: np.ndarray, folder: Path, name: str) -> Path:
    """Write an array where an agent can read it row by row; return the file."""
    file = folder / f"{name}.npy"
    np.save(file, np.ascontiguousarray(inputs))
    return file


def sha256_of(model: Path) -> str:
    """Return the SHA-256 of a model's files, one after the other."""
    digest = hashlib.sha256()
    for file in files_of(model):
        digest.update(file.read_bytes())
    return digest.hexdigest()
