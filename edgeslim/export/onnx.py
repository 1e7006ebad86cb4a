"""ONNX: fp32 by torch's exporter; INT8 as QDQ with the planned scales, and fp16 (onnx_fp16.py), written by us.

Around every integer operator stand QuantizeLinear / DequantizeLinear pairs: activations uint8 per tensor,
weights int8 per output channel, biases int32 with the product of both scales. An activation that clips
(ReLU, ReLU6) is left out where the quantized range ends where it does: saturation is the same function. Of a symmetric
plan all zero points are 0 and biases float: activations are int8 then, and ReLUs stay.

The scales are the plan's for every runtime; where the pairs stand differs. ONNX Runtime runs a layer on integers
only if its output is quantized too, and gates faster on integers. OpenVINO fuses a layer with the float operators
behind it, so there only what an integer operator reads is quantized, and the outputs.
"""

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeslim.export.job import INPUT, Held, Job, Spelling
from edgeslim.export.onnx_fp16 import HALF, hold_in_half, spell_half
from edgeslim.export.onnx_rewrites import (
    count_no_padding,
    give_layers_their_own,
    merge_zeros,
    pad_by_joining,
    pad_codes,
    pool_means,
    quantize_numbers,
)
from edgeslim.formats import RuntimeName
from edgeslim.model.graph import graph_of, values_of
from edgeslim.model.numerics import (
    MATCHED_IMAGES,
    MIDDLE,
    WEIGHT_LIMIT,
    EdgeNumerics,
    Numerics,
    absences,
    match_values,
)

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
import onnxruntime

OPSET = 20
LAYER_OPERATORS = ("Conv", "Gemm", "MatMul")
# What the runtimes run on integers between a DequantizeLinear and a QuantizeLinear.
_BOTH = (
    *LAYER_OPERATORS,
    "Add",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Concat",
    "Reshape",
    "Flatten",
    "Transpose",
    "Slice",
    "Split",
    "Pad",
    "Squeeze",
    "Unsqueeze",
)
INTEGER_OPERATORS = {
    "onnxruntime": (*_BOTH, "Sigmoid", "Mul", "LeakyRelu", "Softmax", "Resize", "Expand", "Gather"),
    "openvino": (*_BOTH, "Resize", "Expand"),
}
PROBABILITIES = ("Sigmoid", "Softmax")  # they stay float where they make the network's answers
CLIPPING_OPERATORS = ("Relu", "Clip")


def write(job: Job) -> Spelling:
    """Write job.target from a torch.export program; return where the plan went."""
    program = torch.export.load(job.source)
    exported = torch.onnx.export(
        program,
        (),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(job.outputs),
        verbose=False,
    )
    if exported is None:
        raise ValueError("torch.onnx returned no program")
    model = exported.model_proto
    spelling = Spelling()
    if job.precision == "int8":
        numerics = job.plan()
        merge_zeros(model.graph)
        if job.runtime == "onnxruntime":
            pool_means(model.graph)
        else:
            count_no_padding(model.graph)
            pad_by_joining(model.graph)
        give_layers_their_own(model.graph, LAYER_OPERATORS, numerics, program.state_dict)
        probe = job.images(MATCHED_IMAGES)
        wanted = {k: v.numpy() for k, v in values_of(graph_of(program), torch.from_numpy(probe)).items()}
        wanted = {k: v for k, v in wanted.items() if k in numerics.edges}
        matched = match_values(wanted, _values(model, probe))
        spelling = _spell(model, numerics, matched, job.runtime)
        unused = f"no operator that {job.runtime} runs on integers needs it"
        spelling.absent.update(absences(wanted, matched, spelling.edges, unused) | spelling.absent)
    if job.precision == "fp16":
        plan, probe = job.half_plan(), job.images(MATCHED_IMAGES)
        wanted = {k: v.numpy() for k, v in values_of(graph_of(program), torch.from_numpy(probe)).items()}
        names = {one.name for one in plan.operators}
        matched = match_values({k: v for k, v in wanted.items() if k in names}, _values(model, probe))
        spelling = Spelling(weights=spell_half(model, plan, matched))
    _strip(model)
    onnx.checker.check_model(model)
    onnx.save(model, job.target)
    return spelling


def _strip(model: onnx.ModelProto) -> None:
    """Remove numbers that nothing reads, and what differs between two folders: the exporter notes absolute paths."""
    read = {name for node in model.graph.node for name in node.input} | {one.name for one in model.graph.output}
    for unused in [one for one in model.graph.initializer if one.name not in read]:
        model.graph.initializer.remove(unused)
    for message in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del message.metadata_props[:]
    for named in (*model.graph.input, *model.graph.output):
        del named.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""


def float_values(path: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return every float activation of a float file for images (n, C, H, W), by tensor name, stacked on axis 0."""
    return _values(onnx.load(path), images)


def _values(model: onnx.ModelProto, probe: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return every float activation of the model for some images, by tensor name, stacked on axis 0."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {o.name for o in watched.graph.output}
    for node in watched.graph.node:
        for name in node.output:
            if name and name not in present:
                watched.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    runs = [session.run(names, {INPUT: row[None]}) for row in probe]
    values = {name: np.stack(parts) for name, *parts in zip(names, *runs, strict=True) if parts[0].dtype == np.float32}
    return {**values, INPUT: probe}


def _spell(model: onnx.ModelProto, numerics: Numerics, matched: dict[str, str], runtime: RuntimeName) -> Spelling:
    """Insert the QDQ pairs of the plan into a float model in place."""
    graph = model.graph
    layers = _layer_nodes(model, numerics)
    kept = {node.output[0] for name, node in layers.items() if numerics.layers[name].precision != "int8"}
    constants = {i.name for i in graph.initializer}
    outputs = {one.name for one in graph.output}
    with_numbers = runtime == "onnxruntime" and not numerics.symmetric
    integer = [
        n
        for n in graph.node
        if n.op_type in INTEGER_OPERATORS[runtime]
        and n.output[0] not in kept
        and not (n.op_type in PROBABILITIES and n.output[0] in outputs)
        and _has_scales(model, n, matched, constants, with_numbers=with_numbers)
    ]
    leaving = [_leaving(model, name) for n in integer for name in n.output]
    touched = [name for n in integer for name in n.input]
    touched += [name for name in leaving if runtime == "onnxruntime" or name in outputs]
    quantized = {name: numerics.edges[matched[name]] for name in touched if name in matched}
    names = {n.output[0] for n in integer}
    written = {name: node for name, node in layers.items() if node.output[0] in names}
    weights_only = {name: node for name, node in layers.items() if numerics.layers[name].precision in ("w8", "dynamic")}
    halves = {name: node for name, node in layers.items() if numerics.layers[name].precision == "fp16"}
    spelling = Spelling(
        edges={matched[name]: _quantized_name(name, outputs) for name in quantized},
        weights={name: node.input[1] for name, node in (written | weights_only | halves).items()},
        nodes={name: node.name for name, node in written.items()},
    )
    sources = {
        node.output[0]: (quantized.get(node.input[0]) if name in written else None, numerics.layers[name].weight_scales)
        for name, node in (written | weights_only).items()
    }
    _insert_pairs(graph, sources, quantized, symmetric=numerics.symmetric)
    if with_numbers:
        quantize_numbers(graph, {written for n in integer for written in n.output}, constants)
        for name in pad_codes(graph, outputs):
            spelling.edges.pop(matched[name], None)
            spelling.absent[matched[name]] = "the codes of what is padded are padded"
    _drop_clips(model, quantized)
    hold_in_half(graph, [node.input[1] for node in halves.values()])
    return spelling


def _quantized_name(tensor: str, outputs: Container[str]) -> str:
    """Return what a tensor is called before its pair; an output keeps its name behind it."""
    return f"{tensor}_float" if tensor in outputs else tensor


def _insert_pairs(
    graph: onnx.GraphProto,
    sources: Mapping[str, tuple[EdgeNumerics | None, Sequence[float]]],
    quantized: Mapping[str, EdgeNumerics],
    *,
    symmetric: bool,
) -> None:
    """Put a pair behind every quantized tensor, which all its readers read, and integers behind layers' constants.

    `sources`: by what a layer writes, the grid of what it reads, None if its weights alone are integers, and the scales
    of these.
    """
    outputs = {one.name for one in graph.output}
    nodes = _pair(graph, INPUT, quantized[INPUT], symmetric=symmetric) if INPUT in quantized else []
    for node in list(graph.node):
        if node.output[0] in sources:
            nodes += _weight_pairs(graph, node, *sources[node.output[0]], symmetric=symmetric)
        for i, name in enumerate(node.input):
            if name in quantized and name not in outputs:
                node.input[i] = f"{name}_dequantized"
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in quantized:
                node.output[i] = _quantized_name(name, outputs)
                nodes += _pair(graph, node.output[i], quantized[name], symmetric=symmetric)
                if name in outputs:
                    nodes[-1].output[0] = name
    del graph.node[:]
    graph.node.extend(nodes)


def _layer_nodes(model: onnx.ModelProto, numerics: Numerics) -> dict[str, onnx.NodeProto]:
    """Return the node of every planned layer, found by the qualified name of its weight."""
    by_weight = {n.input[1]: n for n in model.graph.node if n.op_type in LAYER_OPERATORS and len(n.input) > 1}
    missing = [layer.weight for layer in numerics.layers.values() if layer.weight not in by_weight]
    if missing:
        raise ValueError(f"torch.onnx wrote no layer with the weight {missing[0]}")
    return {name: by_weight[layer.weight] for name, layer in numerics.layers.items()}


def _is_layer(node: onnx.NodeProto, constants: Container[str]) -> bool:
    """Tell whether a node is a layer with a weight, not a product of two activations."""
    return node.op_type in LAYER_OPERATORS and node.input[1] in constants


def _has_scales(
    model: onnx.ModelProto, node: onnx.NodeProto, matched: dict[str, str], constants: set[str], *, with_numbers: bool
) -> bool:
    """Tell whether the plan has a scale for all activations that an operator reads and writes.

    `with_numbers`: sums and products with constants count too.
    """
    if _is_layer(node, constants):
        return node.input[0] in matched
    computed = [name for name in node.input if name and name not in constants]
    written = [_leaving(model, name) for name in node.output]
    return all(name in matched for name in (*computed, *written)) and (
        node.op_type not in ("Add", "Mul") or len(computed) == 2 or (with_numbers and len(computed) == 1)
    )


def _leaving(model: onnx.ModelProto, name: str) -> str:
    """Return the tensor that leaves the kernel producing `name`: behind a clipping activation that alone reads it."""
    readers = [n for n in model.graph.node if name in n.input]
    if len(readers) == 1 and readers[0].op_type in CLIPPING_OPERATORS:
        return str(readers[0].output[0])
    return name


def _drop_clips(model: onnx.ModelProto, quantized: dict[str, EdgeNumerics]) -> None:
    """Remove every ReLU or Clip whose limits the quantized range of its output already has."""
    limits = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in [n for n in model.graph.node if n.op_type in CLIPPING_OPERATORS]:
        name, source = node.output[0], producers.get(node.input[0])
        alone = sum(node.input[0] in n.input for n in model.graph.node) == 1
        if name not in quantized or source is None or source.op_type == "DequantizeLinear" or not alone:
            continue
        low, high = (0.0, np.inf) if node.op_type == "Relu" else _clip_limits(node, limits)
        if quantized[name].low >= low and quantized[name].high <= high * (1 + 1e-6):
            source.output[list(source.output).index(node.input[0])] = name
            model.graph.node.remove(node)


def _clip_limits(node: onnx.NodeProto, constants: dict[str, NDArray[np.float32]]) -> tuple[float, float]:
    given = [constants.get(name) for name in node.input[1:3]]
    low = float(given[0]) if given and given[0] is not None else -np.inf
    high = float(given[1]) if len(given) > 1 and given[1] is not None else np.inf
    return low, high


def _pair(graph: onnx.GraphProto, name: str, edge: EdgeNumerics, *, symmetric: bool) -> list[onnx.NodeProto]:
    """Return QuantizeLinear and DequantizeLinear behind the tensor `name`."""
    scale, zero = f"{name}_scale", f"{name}_zero_point"
    graph.initializer.append(numpy_helper.from_array(np.array(edge.scale, np.float32), scale))
    stored = np.int8(0) if symmetric else np.uint8(edge.zero_point)
    graph.initializer.append(numpy_helper.from_array(np.array(stored), zero))
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_quantized"], f"{name}_quantize"),
        helper.make_node(
            "DequantizeLinear", [f"{name}_quantized", scale, zero], [f"{name}_dequantized"], f"{name}_dequantize"
        ),
    ]


def _weight_pairs(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    source: EdgeNumerics | None,
    planned: Sequence[float],
    *,
    symmetric: bool,
) -> list[onnx.NodeProto]:
    """Replace a layer's float weight and, where its input has a grid, bias by integers with a DequantizeLinear each."""
    values = {i.name: i for i in graph.initializer}
    weight = numpy_helper.to_array(values[node.input[1]])
    axis = 1 if node.op_type == "MatMul" else 0
    scales = np.array(planned, np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    codes = np.clip(np.round(weight / scales.reshape(shape)), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
    pairs = [_constant(graph, node, 1, codes, scales, axis)]
    if len(node.input) > 2 and source is not None and not symmetric:
        bias = numpy_helper.to_array(values[node.input[2]])
        bias_scales = (np.float32(source.scale) * scales).astype(np.float32)
        limits = np.iinfo(np.int32)
        bias_codes = np.clip(np.round(bias / bias_scales.astype(np.float64)), limits.min, limits.max).astype(np.int32)
        pairs.append(_constant(graph, node, 2, bias_codes, bias_scales, 0))
    return pairs


def _constant(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    position: int,
    codes: NDArray[np.int8] | NDArray[np.int32],
    scales: NDArray[np.float32],
    axis: int,
) -> onnx.NodeProto:
    """Swap one constant input of a layer for integers; return the DequantizeLinear that reads them."""
    name = node.input[position]
    graph.initializer.remove(next(i for i in graph.initializer if i.name == name))
    graph.initializer.append(numpy_helper.from_array(codes, f"{name}_quantized"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(scales.shape, codes.dtype), f"{name}_zero_point"))
    node.input[position] = f"{name}_dequantized"
    return helper.make_node(
        "DequantizeLinear",
        [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"],
        [f"{name}_dequantized"],
        f"{name}_dequantize",
        axis=axis,
    )


def read_back(path: Path, spelling: Spelling) -> tuple[dict[str, Held], dict[str, Held]]:
    """Return what the file holds for every spelled edge and for every layer's weight, read from the file itself."""
    model = onnx.load(path)
    constants = {i.name: i for i in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    quantizers = {n.input[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear"}
    edges = {}
    for edge, tensor in spelling.edges.items():
        node = quantizers.get(tensor)
        if node is not None:
            operator = producers[tensor].op_type if tensor in producers else "input"
            edges[edge] = _planned(_held(operator, constants, node.input[1], node.input[2]))
    weights = {}
    for layer, tensor in spelling.weights.items():
        if f"{tensor}_quantized" in constants:
            weights[layer] = _held("weight", constants, f"{tensor}_scale", f"{tensor}_zero_point")
        elif f"{tensor}{HALF}" in constants:
            weights[layer] = Held("weight", "float16", (), 0)
    return edges, weights


def _planned(held: Held) -> Held:
    """Return an activation as the plan counts it: int8 codes are the plan's shifted by 128."""
    return replace(held, zero_point=held.zero_point + MIDDLE) if held.dtype == "int8" else held


def _held(operator: str, constants: dict[str, onnx.TensorProto], scale: str, zero: str) -> Held:
    zero_points = numpy_helper.to_array(constants[zero]).reshape(-1)
    scales = numpy_helper.to_array(constants[scale]).reshape(-1)
    dtype = TensorProto.DataType.Name(constants[zero].data_type).lower()
    return Held(operator, dtype, tuple(float(s) for s in scales), int(zero_points[0]))
