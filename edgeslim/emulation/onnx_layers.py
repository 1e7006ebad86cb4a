"""What each layer of an ONNX file is, read from the file: its arithmetic, channels and whether it is depthwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgeslim.errors import MissingPackage

LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Layer:
    """One convolution or matrix product: multiply-adds for a batch of one, channels read and written."""

    macs: int
    inputs: int
    outputs: int
    depthwise: bool


def layers_of(file: Path) -> dict[str, Layer]:
    """Return the layers of an ONNX file by the name of their node; those whose shapes the file leaves open are absent.

    Raises MissingPackage without onnx.
    """
    try:
        import onnx
        import onnx.shape_inference
    except ImportError as error:
        raise MissingPackage("onnx", "onnx") from error
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(file))).graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(one.dim_value for one in value.type.tensor_type.shape.dim)
    found = {node.name: _layer(node, shapes) for node in graph.node if node.name and node.op_type in LAYERS}
    return {name: layer for name, layer in found.items() if layer is not None}


def _layer(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> Layer | None:
    weight, output = shapes.get(node.input[1], ()), shapes.get(node.output[0], ())
    if len(weight) < 2 or not output or 0 in (*weight, *output):  # a vector, or a shape that the file leaves open
        return None
    if node.op_type == "Conv":
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        depthwise = groups > 1 and weight[1] == 1
        return Layer(prod(output[1:]) * prod(weight[1:]), weight[1] * groups, weight[0], depthwise)
    transposed = any(one.name == "transB" and one.i for one in node.attribute)
    outputs, inputs = weight[-2:] if transposed else weight[-2:][::-1]
    return Layer(prod(output[1:]) * inputs, inputs, outputs, depthwise=False)
