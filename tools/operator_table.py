"""Build and run a small network for each operator in every format, and keep what was found as data.

`python tools/operator_table.py [OPERATOR ...]` writes edgeslim/export/operators.json: for each operator and format
whether its INT8 file computes it on integers, in float between quantize pairs, or why there is none, and by how many
steps of the output the INT8 files of ONNX Runtime and LiteRT differ at most; and what the runtimes' kernels of a
convolution and a linear layer read in each precision. What a file must compute is asked by build_checks.py.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from build_checks import Checked, check_format, write_images
from operator_cases import CASES, SIDE, network_of

from edgeslim.compress import fold
from edgeslim.compress.quantize import step as quantize
from edgeslim.deploy.agent_session import GraphNode
from edgeslim.devices.machine import this_machine
from edgeslim.devices.profile import load_profile
from edgeslim.export.evaluation.integer_layers import LAYER_OPERATORS
from edgeslim.export.export_all import write_networks
from edgeslim.export.operator_facts import FILE, PACKAGES, fact_name
from edgeslim.export.process import workers
from edgeslim.formats import FORMATS, FormatName
from edgeslim.model.context import Context
from edgeslim.model.equivalence import require_traced
from edgeslim.model.graph import output_nodes
from edgeslim.model.model import Model
from edgeslim.progress import silent
from edgeslim.tasks.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(SIDE, SIDE, 3, SIDE, (0.5,) * 3, (0.25,) * 3, "RGB")
# The precisions of layers by the setting of `quantize` that asks for them everywhere.
PRECISIONS: dict[str, str] = {
    "int8": "",
    "dynamic": "dynamic",
    "w8": "weights_only",
    "fp16": "half_weights",
    "fp32": "keep_float",
}
MOVING = ("quantize", "transpose", "reorder", "reshape", "subgraph", "broadcast")
INTEGERS = ("int8", "uint8", "bool")


def examine(
    operator: str, images: Path, plain: dict[FormatName, Counter[str]]
) -> tuple[dict[FormatName, str], int | None]:
    """Return what each format makes of an operator, "integer", "float", or "no: REASON", and the steps apart.

    Those are None where one of the two files is not built.
    """
    quantized, checked = _built(operator, images, quantize.Settings())
    return {name: _told(name, one, plain) for name, one in checked.items()}, _steps_apart(checked, quantized)


def layers_read(precision: str, images: Path) -> dict[FormatName, dict[str, str]]:
    """Return by format what the kernels of a convolution and a linear layer read: "fp32 x int8", activation x weight.

    In ONNX Runtime with a word on weights that it makes floats of at every inference.
    """
    every: dict[str, Any] = {PRECISIONS[precision]: (".",)} if PRECISIONS[precision] else {}
    _, checked = _built("linear", images, quantize.Settings(promote=False, **every))
    return {name: _layers_read(one) for name, one in checked.items()}


def _layers_read(checked: Checked) -> dict[str, str]:
    if checked.fault is not None:
        raise SystemExit(checked.fault)
    found = {}
    anew = any(one.op == "DequantizeLinear" and "weight" in one.name for one in checked.executed)
    for node in [one for one in checked.executed if LAYER_OPERATORS.search(one.op)]:
        others = node.inputs[3:] if node.op.startswith("Q") else node.inputs[1:]  # behind a scale and a zero point
        weight = next((one for one in others if one in INTEGERS), others[0])
        kind = "conv2d" if "conv" in node.op.lower() else "linear"
        found[kind] = f"{node.inputs[0]} x {weight}{', unpacked at every inference' if anew else ''}"
    return found


def _built(operator: str, images: Path, settings: quantize.Settings) -> tuple[Model, dict[FormatName, Checked]]:
    """Return the quantized network of an operator, and what was found of its files by format."""
    with tempfile.TemporaryDirectory() as folder:
        network = network_of(operator)
        model = Model(operator, "random", network, PREPROCESSING, None)
        present = {fact_name(node) for node in model.graph.graph.nodes if node.op == "call_function"}
        if operator not in present:
            raise SystemExit(f"the case of {operator} has none: {', '.join(sorted(present))}")
        data = model.task.read(str(images), model.facts)
        context = Context(load_profile("raspberry-pi"), data, 0, Path(folder), silent)
        require_traced(network, model.graph, operator, context.images)
        dense = fold.apply(model, fold.Settings(), context)
        quantized = quantize.apply(dense, settings, context)
        write_networks(dense, quantized, None, context)
        return quantized, {name: check_format(name, model, quantized, context) for name in FORMATS}


def _steps_apart(checked: Mapping[FormatName, Checked], quantized: Model) -> int | None:
    one, other = checked["onnx"], checked["tflite"]
    if one.fault is not None or other.fault is not None or quantized.numerics is None:
        return None
    scale = quantized.numerics.edges[output_nodes(quantized.graph)[0].name].scale
    return round(float(np.abs(one.outputs[0] - other.outputs[0]).max()) / scale)


def _told(name: FormatName, checked: Checked, plain: dict[FormatName, Counter[str]]) -> str:
    if checked.fault is not None:
        return f"no: {checked.fault}"
    known = plain.setdefault(name, _kinds(checked.executed))
    return "float" if _in_float(checked.executed, known) else "integer"


def _kinds(executed: Sequence[GraphNode]) -> Counter[str]:
    """Return how many operators of each kind and precision were executed, those that only move values left out."""
    return Counter(
        f"{one.op} {one.precision}" for one in executed if not any(word in one.op.lower() for word in MOVING)
    )


def _in_float(executed: Sequence[GraphNode], plain: Counter[str]) -> bool:
    """Tell whether anything runs in float that does not in the network without the operator."""
    more = _kinds(executed) - plain
    return any(not kind.startswith("QLinear") and kind.split()[1] not in INTEGERS for kind in more)


def main(operators: Sequence[str]) -> None:
    """Examine some operators, or all, and write the table."""
    if this_machine().sums_saturate:
        raise SystemExit("the table is made on a CPU with VNNI: without it OpenVINO's INT8 sums saturate")
    table = json.loads(FILE.read_text("utf-8")) if operators and FILE.exists() else {}
    for part in ("operators", "steps_apart"):
        table[part] = {name: found for name, found in table.get(part, {}).items() if name in CASES}
    table["versions"] = {package: version(package) for package in PACKAGES}
    with tempfile.TemporaryDirectory() as folder, workers(tuple(FORMATS)):
        images = Path(folder) / "images.npz"
        write_images(images, SIDE, SIDE, 3, seed=3)
        plain: dict[FormatName, Counter[str]] = {}
        examine("linear", images, plain)
        for operator in operators or CASES:
            found, apart = examine(operator, images, plain)
            print(operator, found, apart, flush=True)
            table["operators"] = dict(sorted({**table["operators"], operator: found}.items()))
            table["steps_apart"] = dict(sorted({**table["steps_apart"], operator: apart}.items()))
            FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        table["precisions"] = {one: layers_read(one, images) for one in PRECISIONS}
        FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
