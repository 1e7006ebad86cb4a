"""OpenVINO IR, made from the ONNX file of the same precision, so that both hold the same numbers."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeslim.export.job import Held, Job, Spelling, load_spelling
from edgeslim.export.onnx_fp16 import HALF

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # OpenVINO falls back to a stub that sends nothing
import openvino  # noqa: E402 - after the line above


def write(job: Job) -> Spelling:
    """Convert job.source (ONNX) to job.target (.xml, with .bin beside it) without touching its precision."""
    model = openvino.convert_model(job.source)
    if job.precision == "int8":
        _hold_in_half(model, onnx.load(job.source).graph)
    openvino.save_model(model, job.target, compress_to_fp16=False)
    return load_spelling(job.spelling) if job.spelling else Spelling()


def _hold_in_half(model: openvino.Model, source: onnx.GraphProto) -> None:
    """Store as float16 what the ONNX file does, which the converter has made float32: a Convert stands behind each."""
    halves = {one.name.removesuffix(HALF) for one in source.initializer if one.data_type == onnx.TensorProto.FLOAT16}
    operations = {op.get_friendly_name(): op for op in model.get_ordered_ops()}
    for node in [one for one in source.node if halves.intersection(one.input[1:2])]:
        names = (f"{node.name}/WithoutBiases", node.name, node.output[0])  # the last one is called as what it gives
        layer = next(operations[name] for name in names if name in operations)
        weight = _source(layer, 1).get_data().astype(np.float16)
        narrow = openvino.opset13.constant(weight, name=f"{node.input[1]}{HALF}")
        layer.input(1).replace_source_output(openvino.opset13.convert(narrow, "f32").output(0))


def read_back(path: Path, spelling: Spelling) -> tuple[dict[str, Held], dict[str, Held]]:
    """Return what the file holds for every spelled edge and for every layer's weight, read from the file itself."""
    operations = {op.get_friendly_name(): op for op in openvino.Core().read_model(path).get_ordered_ops()}
    edges, weights = {}, {}
    for edge, tensor in spelling.edges.items():
        # OpenVINO names the last operation after the output it produces.
        operation = operations.get(f"{tensor}_dequantize", operations.get(tensor.removesuffix("_float")))
        if operation is not None and operation.get_type_name() == "FakeQuantize":
            edges[edge] = _activation(operation)
    for layer, tensor in spelling.weights.items():
        operation = operations.get(f"{tensor}_dequantize")
        if operation is not None and operation.get_type_name() == "Multiply":
            weights[layer] = _weight(operation, operations[f"{tensor}_quantized"])
        elif f"{tensor}{HALF}" in operations:
            dtype = operations[f"{tensor}{HALF}"].get_output_element_type(0)
            weights[layer] = Held("weight", np.dtype(dtype.to_dtype()).name, (), 0)
    return edges, weights


def float_values(path: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return every float activation of a float file for images (n, C, H, W), by operation, stacked on axis 0."""
    core = openvino.Core()
    model = core.read_model(path)
    watched = [
        op
        for op in model.get_ordered_ops()
        if op.get_type_name() not in ("Constant", "Result") and op.get_output_element_type(0) == openvino.Type.f32
    ]
    outputs = openvino.Model([op.output(0) for op in watched], model.get_parameters())
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = core.compile_model(outputs, "CPU", options).create_infer_request()
    runs = [[value.copy() for value in request.infer([row[None]]).values()] for row in images]
    return {op.get_friendly_name(): np.stack(values) for op, *values in zip(watched, *runs, strict=True)}


def _activation(operation: Any) -> Held:
    """Read scale and zero point off a FakeQuantize: levels equal steps from output_low to output_high."""
    low, high = _limits(operation, (3, 4))
    levels = operation.get_attributes()["levels"]
    scale = (high - low) / (levels - 1)
    dtype = "uint8" if levels == 256 and np.allclose(_limits(operation, (1, 2)), (low, high)) else f"{levels} levels"
    return Held(_source(operation, 0).get_type_name(), dtype, (scale,), round(-low / scale))


def _limits(operation: Any, positions: tuple[int, int]) -> list[float]:
    return [float(_source(operation, i).get_data().reshape(-1)[0]) for i in positions]


def _weight(multiply: Any, codes: Any) -> Held:
    """Read the scales behind integer codes; a Subtract between them would be a zero point."""
    scales = np.asarray(_source(multiply, 1).get_data()).reshape(-1)
    before = _source(multiply, 0)
    zero = int(_source(before, 1).get_data().reshape(-1)[0]) if before.get_type_name() == "Subtract" else 0
    return Held("weight", codes.get_output_element_type(0).to_string(), tuple(float(s) for s in scales), zero)


def _source(operation: Any, position: int) -> Any:
    return operation.input(position).get_source_output().get_node()
