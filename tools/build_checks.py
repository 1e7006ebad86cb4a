"""What files must be, asked of networks that tools make: what the module computes, and what was planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeslim.deploy.agent_session import GraphNode
from edgeslim.deploy.run_model import execution_graph, run_model
from edgeslim.errors import EdgeslimError
from edgeslim.export.export_all import export_job
from edgeslim.formats import FORMATS, FormatName
from edgeslim.grid import sqnr_db
from edgeslim.model.context import Context
from edgeslim.model.equivalence import LEAST_DB, outputs_of
from edgeslim.model.fake_quant import simulate
from edgeslim.model.graph import output_nodes
from edgeslim.model.model import Model
from edgeslim.model.numerics import LEVELS

STEPS = 4  # of an output's grid; of 255 to its largest value, where it is float
# How far a file's outputs may be from the exact ones (rms): so many times as far as the plan's, and steps more.
TIMES, MORE = 1.5, 0.5
IMAGES = 8


@dataclass(frozen=True)
class Checked:
    """What a format's two files were found to be; `outputs` and `executed` are those of the INT8 file."""

    fault: str | None
    steps: float = 0.0  # by which an output of the INT8 file is off the plan at most
    outputs: Sequence[NDArray[np.float32]] = ()
    executed: Sequence[GraphNode] = ()


def write_images(path: Path, height: int, width: int, channels: int, seed: int) -> None:
    """Write 128 images of coarse noise, as .npz that an edgeslim command reads: what calibrates and what judges."""
    size = (128, -(-height // 4), -(-width // 4), channels)
    coarse = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    np.savez(path, images=coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width])


def check_format(name: FormatName, reference: Model, quantized: Model, context: Context) -> Checked:
    """Write and run both files of a format: within 60 dB of what `reference` computes, within STEPS of the plan.

    A runtime that computes in float what the plan rounds may be off the plan by more, where it is no worse for it.
    `write_networks` has put the networks into the context's work folder.
    """
    numerics = quantized.numerics
    if numerics is None:
        raise TypeError("the network was not quantized")
    evaluation = next(iter(context.data.evaluation.tensors()))[:IMAGES]
    fed = evaluation.numpy()
    fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1)) if name == "tflite" else fed
    names, runtime = [one.name for one in reference.outputs], FORMATS[name].runtime
    try:
        job, _ = export_job(name, "fp32", context.work, names)
        floats = run_model(runtime, job.target, fed, precision="fp32", outputs=len(names))
        job, spelling = export_job(name, "int8", context.work, names)
        found = run_model(runtime, job.target, fed, precision="int8", outputs=len(names))
        executed = execution_graph(runtime, job.target, fed, "int8")
    except EdgeslimError as error:
        return Checked(" ".join(str(error).split())[:160])
    wanted = outputs_of(reference.network, evaluation)
    parity = min(sqnr_db(*pair) for pair in zip(wanted, floats, strict=True))
    if parity < LEAST_DB:
        return Checked(f"its fp32 file computes something else ({parity:.0f} dB)")
    simulated = simulate(quantized.graph, numerics, [evaluation])
    most, fault = 0.0, None
    for node, one, exact in zip(output_nodes(quantized.graph), found, wanted, strict=True):
        plan, edge = simulated[node.name].numpy(), numerics.edges.get(node.name)
        scale = max(float(np.abs(plan).max()), 1e-30) / LEVELS if edge is None else edge.scale
        steps = float(np.abs(one - plan).max()) / scale
        worse = _rms(one - exact) > TIMES * _rms(plan - exact) + MORE * scale
        most = max(most, steps)
        if steps > STEPS and worse:
            fault = f"its INT8 file is {steps:.0f} steps of its output off the plan, and no better for it"
    if fault is not None:
        return Checked(fault, most)
    if len(spelling.weights) < len(numerics.rounded_layers):
        missing = len(numerics.rounded_layers) - len(spelling.weights)
        return Checked(f"{missing} of {len(numerics.rounded_layers)} layers are not found in its INT8 file", most)
    return Checked(None, most, found, executed)


def _rms(error: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(error, dtype=np.float64).mean()))
