"""TFLite files of one operator, written through the format's own schema, without a converter.

TFLite pads SAME or VALID only. Where neither is the operator's padding, converters write a PAD before a VALID
convolution; such a probe is VALID on the padded input, and the PAD itself is not in it.
"""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgeslim.model.operator import Operator

INPUT_SCALE, WEIGHT_SCALE, OUTPUT_SCALE = 0.02, 0.01, 0.5
INPUT_ZERO_POINT, OUTPUT_ZERO_POINT = -3, -128  # a ReLU's range begins at zero
SCHEMA_VERSION = 3
# The first version of each operator that takes what the probes hold: int8 with a scale for each output channel.
_OPERATORS = {
    "conv": (schema.BuiltinOperator.CONV_2D, 3),
    "depthwise": (schema.BuiltinOperator.DEPTHWISE_CONV_2D, 3),
    "linear": (schema.BuiltinOperator.FULLY_CONNECTED, 12),
    "add": (schema.BuiltinOperator.ADD, 2),
    "mul": (schema.BuiltinOperator.MUL, 2),
}


def model_of(operator: Operator, precision: str) -> bytes:
    """Return the file, channels last; inputs and output are int8 with "int8", with "dynamic" the weight alone is."""
    integer = precision == "int8"
    buffers = [schema.BufferT()]
    height, width, _ = input_size(operator)
    source, written = [1, height, width, operator.channels_in], [1, *operator.output_size, operator.channels_out]
    if operator.kind == "linear":
        source, written = [source[0], source[-1]], [written[0], written[-1]]
    inputs = range(operator.inputs)
    tensors = [_tensor(f"input{i}", source, integer, (INPUT_SCALE, INPUT_ZERO_POINT)) for i in inputs]
    if operator.inputs == 1:
        tensors += _constants(operator, precision, buffers)
    tensors.append(_tensor("output", written, integer, (OUTPUT_SCALE, OUTPUT_ZERO_POINT)))
    code, version = _OPERATORS["depthwise" if operator.depthwise else operator.kind]
    options_type, options = _options(operator)
    node = schema.OperatorT(
        inputs=list(range(len(tensors) - 1)),
        outputs=[len(tensors) - 1],
        builtinOptionsType=options_type,
        builtinOptions=options,
    )
    codes = [schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=version)]
    return _file(tensors, list(inputs), node.outputs, [node], codes, buffers)


def empty_model() -> bytes:
    """Return a file without operators: its time is what a call costs by itself."""
    return _file([_tensor("input0", [1], False, (0.0, 0))], [0], [0], [], [], [schema.BufferT()])


def _file(
    tensors: list[Any], inputs: list[int], outputs: list[int], nodes: list[Any], codes: list[Any], buffers: list[Any]
) -> bytes:
    graph = schema.SubGraphT(tensors=tensors, inputs=inputs, outputs=outputs, operators=nodes, name="main")
    model = schema.ModelT(version=SCHEMA_VERSION, operatorCodes=codes, subgraphs=[graph], buffers=buffers)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def input_size(operator: Operator) -> tuple[int, int, int]:
    """Return height and width that the file of an operator reads, and the schema's padding."""
    sizes = (operator.height, operator.width)
    if not any(operator.padding):
        return *sizes, schema.Padding.VALID
    same = all(
        # SAME puts the odd one of its zeros at the end, and gives ceil(size / stride) outputs.
        padding * 2 == max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        for size, padding, stride, dilation, kernel in zip(
            sizes, operator.padding, operator.stride, operator.dilation, operator.kernel, strict=True
        )
    )
    if same:
        return *sizes, schema.Padding.SAME
    return sizes[0] + 2 * operator.padding[0], sizes[1] + 2 * operator.padding[1], schema.Padding.VALID


def _constants(operator: Operator, precision: str, buffers: list[Any]) -> list[Any]:
    """Return weight and bias tensors and append their contents to `buffers`."""
    rng = np.random.default_rng(0)
    outputs, per_group = operator.channels_out, operator.channels_in // operator.groups
    shape, axis = [outputs, *operator.kernel, per_group], 0
    if operator.depthwise:
        shape, axis = [1, *operator.kernel, outputs], 3
    elif operator.kind == "linear":
        shape = [outputs, operator.channels_in]
    weight = rng.integers(-127, 128, shape).astype(np.int8)
    bias: NDArray[Any] = rng.integers(-1000, 1000, outputs).astype(np.int32)
    held: NDArray[Any] = weight if precision != "fp32" else weight.astype(np.float32)
    bias = bias if precision == "int8" else bias.astype(np.float32)
    tensors = []
    for name, values, scale in (("weight", held, WEIGHT_SCALE), ("bias", bias, INPUT_SCALE * WEIGHT_SCALE)):
        tensor = _tensor(name, list(values.shape), values.dtype != np.float32, (scale, 0), outputs)
        tensor.quantization.quantizedDimension = axis if name == "weight" else 0
        tensor.type = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}.get(
            values.dtype.name, schema.TensorType.FLOAT32
        )
        tensor.buffer = len(buffers)
        buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        tensors.append(tensor)
    return tensors


def _tensor(name: str, shape: list[int], integer: bool, numbers: tuple[float, int], count: int = 1) -> Any:
    """Return a tensor with scale and zero point, each `count` times, where it is integer."""
    held = schema.QuantizationParametersT()
    if integer:
        held.scale, held.zeroPoint = [numbers[0]] * count, [numbers[1]] * count
    dtype = schema.TensorType.INT8 if integer else schema.TensorType.FLOAT32
    return schema.TensorT(shape=shape, type=dtype, name=name, quantization=held)


def _options(operator: Operator) -> tuple[int, Any]:
    kinds, activation = schema.BuiltinOptions, schema.ActivationFunctionType
    if operator.kind == "linear":
        return kinds.FullyConnectedOptions, schema.FullyConnectedOptionsT()
    if operator.kind == "add":
        return kinds.AddOptions, schema.AddOptionsT()
    if operator.kind == "mul":
        return kinds.MulOptions, schema.MulOptionsT()
    shared = {
        "padding": input_size(operator)[2],
        "strideH": operator.stride[0],
        "strideW": operator.stride[1],
        "dilationHFactor": operator.dilation[0],
        "dilationWFactor": operator.dilation[1],
        "fusedActivationFunction": activation.RELU,
    }
    if operator.depthwise:
        multiplier = operator.channels_out // operator.channels_in
        return kinds.DepthwiseConv2DOptions, schema.DepthwiseConv2DOptionsT(depthMultiplier=multiplier, **shared)
    return kinds.Conv2DOptions, schema.Conv2DOptionsT(**shared)
