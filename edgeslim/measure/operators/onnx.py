"""ONNX models of one operator: bare for ONNX Runtime, many side by side for OpenVINO. No torch.

Layers stand in QDQ form as in exported files: activations uint8 per tensor, weights int8 per output channel, biases
int32. The ReLU behind an INT8 convolution is its output's zero point of 0, in fp32 it is a node.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeslim.model.operator import Operator

OPSET, IR_VERSION = 20, 9
LAYOUT_OPERATORS = ("Transpose", "ReorderInput", "ReorderOutput")
INPUT_SCALE, WEIGHT_SCALE, OUTPUT_SCALE = np.float32(0.02), np.float32(0.01), np.float32(0.5)


class _Graph:
    """Nodes, inputs, outputs and constants as they come together."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node, which is named after its only output, and return that name."""
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Add a constant and return its name."""
        self.constants[name] = np.asarray(value)
        return name

    def quantized(self, name: str, scale: np.float32) -> str:
        """Send a float tensor through uint8 codes and return the tensor behind them."""
        return self.dequantized(self.node("QuantizeLinear", [name, *self._numbers(name, scale)], f"{name}_q"), scale)

    def codes(self, name: str, scale: np.float32, output: str) -> str:
        """End in the uint8 codes of a float tensor."""
        return self.node("QuantizeLinear", [name, *self._numbers(name, scale)], output)

    def dequantized(self, name: str, scale: np.float32) -> str:
        """Return the float tensor of uint8 codes."""
        return self.node("DequantizeLinear", [name, *self._numbers(name, scale)], f"{name}_d")

    def _numbers(self, name: str, scale: np.float32) -> tuple[str, str]:
        return self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero", np.uint8(0))

    def model(self) -> onnx.ModelProto:
        """Return the finished model."""
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "probe", self.inputs, self.outputs, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def input_shapes(operator: Operator) -> list[tuple[int, ...]]:
    """Return the shape of each input, channels first."""
    if operator.kind == "linear":
        return [(1, operator.channels_in)]
    return [(1, operator.channels_in, operator.height, operator.width)] * operator.inputs


def model_of(operator: Operator, precision: str) -> onnx.ModelProto:
    """Return the operator between its own inputs `x0`.. and its output `y`, uint8 codes with "int8".

    "w8": floats, but for the codes of the weight.
    """
    graph = _Graph()
    integer = precision == "int8"
    dtype = TensorProto.UINT8 if integer else TensorProto.FLOAT
    sources = []
    for index, shape in enumerate(input_shapes(operator)):
        graph.inputs.append(helper.make_tensor_value_info(f"x{index}", dtype, shape))
        sources.append(graph.dequantized(f"x{index}", INPUT_SCALE) if integer else f"x{index}")
    written = _add_operator(graph, operator, sources, "" if integer else "y", precision)
    if integer:
        graph.codes(written, OUTPUT_SCALE, "y")
    graph.outputs.append(helper.make_tensor_value_info("y", dtype, None))
    return graph.model()


def empty_model() -> onnx.ModelProto:
    """Return a model that computes nothing: its time is what a call costs by itself."""
    graph = _Graph()
    graph.inputs.append(helper.make_tensor_value_info("x0", TensorProto.FLOAT, (1,)))
    graph.outputs.append(helper.make_tensor_value_info(graph.node("Identity", ["x0"], "y"), TensorProto.FLOAT, None))
    return graph.model()


def bare(optimized: onnx.ModelProto) -> tuple[onnx.ModelProto, list[tuple[int, ...]]]:
    """Drop the changes of layout at both ends of a model that ONNX Runtime optimized; return it and its input shapes.

    Inside a network the neighbours speak the same layout (channels last for integers, blocks of channels for floats),
    so that these nodes cost nothing there and half of a small operator here.
    """
    graph = optimized.graph
    shapes = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in graph.input}
    kernels = [node for node in graph.node if node.op_type not in LAYOUT_OPERATORS]
    renamed = {node.output[0]: node.input[0] for node in graph.node if node.op_type in LAYOUT_OPERATORS}
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in shapes:
            shapes[node.input[0]] = tuple(shapes[node.input[0]][axis] for axis in node.attribute[0].ints)
        elif node.op_type == "ReorderInput":
            batch, _, *size = shapes[node.input[0]]
            shapes[node.input[0]] = (batch, _blocked_channels(graph, node.output[0]), *size)
    for node in kernels:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for value in graph.output:
        value.CopyFrom(helper.make_tensor_value_info(renamed.get(value.name, value.name), _dtype(value), None))
    for value in graph.input:
        value.CopyFrom(helper.make_tensor_value_info(value.name, _dtype(value), shapes[value.name]))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kernels)
    return optimized, [shapes[value.name] for value in graph.input]


def _blocked_channels(graph: onnx.GraphProto, tensor: str) -> int:
    """Return the channels of a blocked tensor, filled up to whole blocks, as the filter that reads it tells."""
    consumer = next(node for node in graph.node if tensor in node.input)
    filters = next(value for value in graph.initializer if value.name == consumer.input[1])
    groups = next((a.i for a in consumer.attribute if a.name == "group"), 1)
    return int(filters.dims[1]) * int(groups)


def _dtype(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def marker(index: int) -> str:
    """Return what the names of an operator's nodes begin with in a model of several."""
    return f"op{index}."


def side_by_side(operators: Sequence[Operator], precision: str) -> onnx.ModelProto:
    """Return one model with every operator on inputs of its own; its node is named marker + "probe".

    An output is reduced to one pixel by a pooling, so that the probe hands on its codes in its own layout, as to a
    neighbour. The inputs of an addition come from a pooling: else the runtime would fuse their quantization with it.
    What a strided 1x1 convolution reads has a second reader, as before a shortcut: else the runtime would move the
    stride to before the input's quantization, and the convolution to float. A product of two tensors stays float, as
    in the files exported for OpenVINO.
    """
    graph = _Graph()
    for index, operator in enumerate(operators):
        name = marker(index)
        integer = precision == "int8" and operator.kind != "mul"
        sources = []
        for number, shape in enumerate(input_shapes(operator)):
            source = f"{name}x{number}"
            graph.inputs.append(helper.make_tensor_value_info(source, TensorProto.FLOAT, shape))
            source = graph.quantized(source, INPUT_SCALE) if integer else source
            if operator.kind in ("add", "mul"):
                attributes = {"kernel_shape": [3, 3], "pads": [1] * 4}
                source = graph.node("MaxPool", [source], f"{source}_pooled", **attributes)
                source = graph.quantized(source, INPUT_SCALE) if integer else source
            sources.append(source)
        if operator.kind == "conv" and operator.kernel == (1, 1) != operator.stride:
            _end(graph, sources[0], f"{name}x0_pixel", (operator.height, operator.width))
        written = _add_operator(graph, operator, sources, f"{name}probe", "int8" if integer else "fp32")
        written = graph.quantized(written, OUTPUT_SCALE) if integer else written
        _end(graph, written, f"{name}pixel", operator.output_size if operator.kind != "linear" else None)
    return graph.model()


def _end(graph: _Graph, tensor: str, output: str, size: tuple[int, int] | None) -> None:
    """Make a tensor an output of the model, if it has a size only one pixel of it."""
    if size is not None:
        tensor = graph.node("MaxPool", [tensor], output, kernel_shape=[1, 1], strides=size)
    graph.outputs.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))


def _add_operator(graph: _Graph, operator: Operator, sources: Sequence[str], output: str, precision: str) -> str:
    """Add the operator with its constants and return its output, which is float in every precision."""
    name = output or "probe"
    if operator.kind in ("add", "mul"):
        return graph.node(operator.kind.capitalize(), sources, name)
    weight, bias = _constants(graph, operator, name, precision)
    if operator.kind == "linear":
        return graph.node("Gemm", [*sources, weight, bias], name, transB=1)
    attributes = {
        "kernel_shape": operator.kernel,
        "strides": operator.stride,
        "pads": operator.padding * 2,
        "dilations": operator.dilation,
        "group": operator.groups,
    }
    if precision == "int8":
        return graph.node("Conv", [*sources, weight, bias], name, **attributes)
    return graph.node("Relu", [graph.node("Conv", [*sources, weight, bias], f"{name}_sums", **attributes)], name)


def _constants(graph: _Graph, operator: Operator, name: str, precision: str) -> tuple[str, str]:
    """Add weight and bias and return the names of their float tensors."""
    rng = np.random.default_rng(0)
    outputs = operator.channels_out
    kernel = () if operator.kind == "linear" else operator.kernel
    codes = rng.integers(-127, 128, (outputs, operator.channels_in // operator.groups, *kernel)).astype(np.int8)
    sums = rng.integers(-1000, 1000, outputs).astype(np.int32)
    found = []
    for part, values, scale in (("weight", codes, WEIGHT_SCALE), ("bias", sums, INPUT_SCALE * WEIGHT_SCALE)):
        held = f"{name}_{part}"
        if precision == "fp32" or (precision == "w8" and part == "bias"):
            found.append(graph.constant(held, values.astype(np.float32) * scale))
            continue
        numbers = [
            graph.constant(f"{held}_codes", values),
            graph.constant(f"{held}_scale", np.full(outputs, scale, np.float32)),
            graph.constant(f"{held}_zero", np.zeros(outputs, values.dtype)),
        ]
        found.append(graph.node("DequantizeLinear", numbers, held, axis=0))
    return found[0], found[1]
