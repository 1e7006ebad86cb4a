"""Whether zeros among the weights, without any order, make a runtime faster: what the step `sparsify` would need.

`python tools/bench_sparse.py` times, interleaved in one process and on one thread, a stack of 1x1 convolutions behind a
strided 3x3 one in LiteRT: dense in fp32, as INT8, and with the smallest share of each layer's weights zero, stored
sparsely (compressed rows behind a DENSIFY, which XNNPACK reads; the form of Elsen et al. 2020, Fast Sparse ConvNets,
section 3, whose kernels XNNPACK has). Then an INT8 linear layer in OpenVINO whose weights are nearly all zero, with and
without CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE. ONNX Runtime has no sparse kernel of a layer. Prints Markdown tables.
"""

import gzip
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgeslim.devices.machine import this_machine
from edgeslim.table import markdown_rows as table

SIZES = ((56, 256), (28, 128), (28, 512))  # height and width of the image, channels of each layer
SHARES = (0.7, 0.8, 0.9, 0.95)
LAYERS, ROUNDS = 6, 25
SCALE = 0.05  # of INT8 activations, whose values do not matter here
FEATURES = 2048
Floats = NDArray[np.float32]


class _File:
    """A TFLite file as it comes together."""

    def __init__(self) -> None:
        self.buffers, self.tensors, self.operators = [schema.BufferT()], [], []  # type: ignore[var-annotated]
        self.codes: list[Any] = []

    def tensor(self, shape: tuple[int, ...], kind: int, values: NDArray[Any] | None = None, **more: Any) -> int:
        """Add a tensor, a constant where it has values, and return its number."""
        if values is not None:
            self.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        place = 0 if values is None else len(self.buffers) - 1
        name = f"t{len(self.tensors)}"
        self.tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=place, name=name, **more))
        return len(self.tensors) - 1

    def operator(self, code: int, version: int, inputs: list[int], output: int, kind: int, options: Any) -> None:
        """Add an operator with one output."""
        known = [one.builtinCode for one in self.codes]
        if code not in known:
            own = schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
            self.codes.append(own)
            known.append(code)
        place = known.index(code)
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=place, inputs=inputs, outputs=[output], builtinOptionsType=kind, builtinOptions=options
            )
        )

    def content(self, source: int, output: int) -> bytes:
        """Return the finished file."""
        graph = schema.SubGraphT(
            tensors=self.tensors, inputs=[source], outputs=[output], operators=self.operators, name="main"
        )
        model = schema.ModelT(version=3, operatorCodes=self.codes, subgraphs=[graph], buffers=self.buffers)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def stack(side: int, channels: int, share: float, *, int8: bool = False) -> bytes:
    """Return a file of LAYERS 1x1 convolutions of so many channels, a share of each one's weights zero."""
    file, generator = _File(), np.random.default_rng(0)
    kind = schema.TensorType.INT8 if int8 else schema.TensorType.FLOAT32
    source = file.tensor((1, side, side, 3), kind, **_grid(int8))
    read, height, channels_in = source, side, 3
    for number in range(LAYERS + 1):
        kernel, stride, channels_out = (3, 2, 32) if number == 0 else (1, 1, channels)
        shape = (channels_out, kernel, kernel, channels_in)
        weight = generator.standard_normal(shape).astype(np.float32)
        weight *= np.float32(np.sqrt(2 / weight[0].size))
        if share and number:
            weight[np.abs(weight) < np.quantile(np.abs(weight), share)] = 0
        height = -(-height // stride)
        written = file.tensor((1, height, height, channels_out), kind, **_grid(int8))
        _convolve(file, read, written, weight, stride, int8=int8, sparse=bool(share and number))
        read, channels_in = written, channels_out
    mean = file.tensor((1, 1, 1, channels), kind, **_grid(int8))
    axes = file.tensor((2,), schema.TensorType.INT32, np.array([1, 2], np.int32))
    options = schema.ReducerOptionsT(keepDims=True)
    file.operator(schema.BuiltinOperator.MEAN, 2, [read, axes], mean, schema.BuiltinOptions.ReducerOptions, options)
    return file.content(source, mean)


def _convolve(file: _File, read: int, written: int, weight: Floats, stride: int, *, int8: bool, sparse: bool) -> None:
    types, count = schema.TensorType, len(weight)
    if int8:
        scales = np.abs(weight).max((1, 2, 3)) / 127
        codes = np.round(weight / scales[:, None, None, None]).astype(np.int8)
        held = file.tensor(weight.shape, types.INT8, codes, quantization=_quantization(scales))
        more = {"quantization": _quantization(scales * SCALE)}
        bias = file.tensor((count,), types.INT32, np.zeros(count, np.int32), **more)
    else:
        held = _sparse(file, weight) if sparse else file.tensor(weight.shape, types.FLOAT32, weight)
        bias = file.tensor((count,), types.FLOAT32, np.zeros(count, np.float32))
    options = schema.Conv2DOptionsT(
        padding=schema.Padding.SAME, strideW=stride, strideH=stride, dilationWFactor=1, dilationHFactor=1,
        fusedActivationFunction=schema.ActivationFunctionType.RELU,
    )  # fmt: skip
    kind = schema.BuiltinOptions.Conv2DOptions
    file.operator(schema.BuiltinOperator.CONV_2D, 3, [read, held, bias], written, kind, options)


def _sparse(file: _File, weight: Floats) -> int:
    """Add a weight as compressed rows and the DENSIFY that reads it; return the tensor behind."""
    rows = weight.reshape(len(weight), -1)
    ends = np.concatenate([[0], np.cumsum((rows != 0).sum(1))])
    dense = [schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=size) for size in weight.shape[:3]]
    compressed = schema.DimensionMetadataT(
        format=schema.DimensionType.SPARSE_CSR,
        arraySegmentsType=schema.SparseIndexVector.Int32Vector,
        arraySegments=schema.Int32VectorT(values=ends.tolist()),
        arrayIndicesType=schema.SparseIndexVector.Uint16Vector,
        arrayIndices=schema.Uint16VectorT(values=np.nonzero(rows)[1].tolist()),
    )
    how = schema.SparsityParametersT(traversalOrder=[0, 1, 2, 3], dimMetadata=[*dense, compressed])
    held = file.tensor(weight.shape, schema.TensorType.FLOAT32, rows[rows != 0], sparsity=how)
    behind = file.tensor(weight.shape, schema.TensorType.FLOAT32)
    kind = schema.BuiltinOptions.DensifyOptions
    file.operator(schema.BuiltinOperator.DENSIFY, 1, [held], behind, kind, schema.DensifyOptionsT())
    return behind


def _quantization(scales: NDArray[Any], zero: int = 0) -> Any:
    zeros = np.full(len(scales), zero, np.int64)
    return schema.QuantizationParametersT(scale=scales.astype(np.float32), zeroPoint=zeros, quantizedDimension=0)


def _grid(int8: bool) -> dict[str, Any]:
    return {"quantization": _quantization(np.array([SCALE]), -128)} if int8 else {}


def medians_s(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median seconds of some calls, made in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number:  # the first warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(one) for name, one in times.items()}


def in_litert(side: int, channels: int) -> list[list[str]]:
    """Return a row for each form of the stack."""
    files = {"fp32, dense": stack(side, channels, 0.0), "INT8, dense": stack(side, channels, 0.0, int8=True)}
    files |= {f"fp32, {share:.0%} zero": stack(side, channels, share) for share in SHARES}
    calls = {}
    for name, content in files.items():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        fed = interpreter.get_input_details()[0]
        interpreter.set_tensor(fed["index"], np.ones(fed["shape"], fed["dtype"]))
        calls[name] = interpreter.invoke
    times = medians_s(calls)
    dense = times["fp32, dense"]
    return [
        [f"{channels} channels, {side}x{side}", name, f"{times[name] / dense:.2f}", *_sizes(files[name])]
        for name in files
    ]


def _sizes(content: bytes) -> list[str]:
    return [f"{len(content) / 1e3:.0f}", f"{len(gzip.compress(content)) / 1e3:.0f}"]


def in_openvino() -> list[list[str]]:
    """Return a row for each share of zeros of a linear INT8 layer, as it is and read as sparse."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it falls back to a stub
    import openvino
    from openvino import opset8 as op

    core, rows, generator = openvino.Core(), [], np.random.default_rng(0)
    for share in SHARES:
        codes = generator.integers(-127, 128, (FEATURES, FEATURES)).astype(np.int8)
        codes[generator.random(codes.shape) < share] = 0
        read = op.parameter([1, FEATURES], np.float32)
        rounded = op.fake_quantize(read, *(np.float32(one) for one in (-1, 1, -1, 1)), 256)
        weight = op.multiply(op.convert(op.constant(codes), np.float32), np.full((FEATURES, 1), 0.01, np.float32))
        model = openvino.Model([op.matmul(rounded, weight, False, True)], [read])
        calls = {}
        for name, more in (("dense", {}), ("sparse", {"CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 0.5})):
            options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, **more}
            request = core.compile_model(model, "CPU", options).create_infer_request()
            calls[name] = lambda request=request: request.infer([np.ones((1, FEATURES), np.float32)])
        times = medians_s(calls)
        rows.append([f"{FEATURES} by {FEATURES}", f"{share:.0%}", f"{times['sparse'] / times['dense']:.2f}"])
    return rows


def main() -> None:
    """Print both tables."""
    machine = this_machine()
    print(f"{machine.cpu_model}, 1 thread; AMX: {'yes' if 'amx_int8' in machine.cpu_flags else 'no'}\n")
    rows = [row for side, channels in SIZES for row in in_litert(side, channels)]
    print(table(["LiteRT", "weights", "time beside dense fp32", "KB", "KB, gzip"], rows))
    print()
    print(table(["OpenVINO, INT8 linear layer", "zero", "time read as sparse beside dense"], in_openvino()))


if __name__ == "__main__":
    main()
