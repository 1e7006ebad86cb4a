"""TFLite: fp32 by litert-torch, channels last; INT8 by ai-edge-quantizer with the planned ranges, not its own."""

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from edgeslim.errors import ToolFailed
from edgeslim.export.job import INPUT, End, Ends, Held, Job, Spelling
from edgeslim.export.tflite_operators import as_in_torch, float_operators, respell
from edgeslim.formats import Io
from edgeslim.grid import Grid
from edgeslim.model.graph import forward, graph_of, layers_of, parameter, values_of
from edgeslim.model.numerics import (
    MATCH_TOLERANCE,
    MATCHED_IMAGES,
    WEIGHT_LIMIT,
    EdgeNumerics,
    Numerics,
    absences,
    match_values,
    operators_on_integers,
)

LAYER_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
MOVING_OPERATORS = ("PAD", "PADV2", "RESHAPE", "TRANSPOSE", "MAX_POOL_2D", "SLICE", "STRIDED_SLICE")
PASSING_OPERATORS = (*MOVING_OPERATORS, "CONCATENATION")
# They give on what lies in the range that leaves them, which so may be the range before them.
KEEPING_OPERATORS = ("RESHAPE", "TRANSPOSE", "RELU", "RELU6", "RELU_N1_TO_1")
SIGNATURE = "serving_default"


def write(job: Job) -> Spelling:
    """Write job.target from a torch.export program; return where the plan went."""
    import litert_torch  # these two take seconds and half a gigabyte, which reading a file back must not cost
    from ai_edge_quantizer import quantizer as aeq

    graph = graph_of(torch.export.load(job.source))
    as_in_torch(graph)
    channels_last = np.ascontiguousarray(job.images().transpose(0, 2, 3, 1))
    example = {INPUT: torch.from_numpy(channels_last[:1])}
    numerics = Numerics({}, {}) if job.precision == "fp32" else job.plan()
    if not numerics.narrow_layers:
        litert_torch.convert(_Named(graph, job.outputs).eval(), sample_kwargs=example).export(str(job.target))
        return Spelling()
    floating = job.target.with_suffix(".float.tflite")
    matched_images = torch.from_numpy(job.images(MATCHED_IMAGES))
    values = {k: v.numpy() for k, v in values_of(graph, matched_images).items()}
    wanted = {k: v for k, v in values.items() if k in numerics.edges}
    float_nodes = float_operators(graph, job.io)
    clipped = respell(graph)
    litert_torch.convert(_Named(graph, job.outputs).eval(), sample_kwargs=example).export(str(floating))
    interpreter, found = _values(floating, channels_last[:MATCHED_IMAGES])
    by_weight = _layers_by_weight(interpreter, graph, numerics)
    matched = match_values(wanted, found)
    matched |= {tensor: numerics.layers[layer].output for tensor, layer in by_weight.items() if layer in clipped}
    for tensor in by_weight.keys() - matched.keys():
        layer = numerics.layers[by_weight[tensor]]
        if layer.precision == "int8" and _is_clipped(values[layer.output], found.get(tensor)):
            matched[tensor] = layer.output
    outputs = match_values({one.output: values[one.output] for one in numerics.layers.values()}, found)
    scopes = dict.fromkeys(_inner_scopes(interpreter, float_nodes, values, found), "fp32")
    scopes |= _float_scopes(interpreter, numerics, outputs, by_weight)
    quantizer = aeq.Quantizer(str(floating), _recipe(scopes, job.io, integer=bool(numerics.edges)))
    name = _signature_inputs(interpreter)[0]
    ranges = quantizer.calibrate({SIGNATURE: [{name: row[None]} for row in channels_last]}, num_threads=1)
    passed_on = _with_passed_on(interpreter, matched)
    scaled = {tensor: (edge, 1.0) for tensor, edge in passed_on.items()} | _before_factors(interpreter, passed_on)
    for tensor, (edge, factor) in scaled.items():
        if tensor in ranges:
            ranges[tensor] = _range(numerics.edges[edge], factor)
    if numerics.weight_limit != WEIGHT_LIMIT:
        ranges |= _weight_ranges(interpreter, WEIGHT_LIMIT / numerics.weight_limit)
    quantizer.quantize(ranges).export_model(job.target, overwrite=True)
    floating.unlink()
    _hold_weights_inside(job.target)
    spelling = _spelling(job.target, numerics, matched, by_weight)
    spelling.absent.update(absences(wanted, matched, spelling.edges, "the quantizer kept it float"))
    return spelling


class _Named(nn.Module):
    """A network that takes images channels last, and whose outputs have names; the file has both."""

    def __init__(self, graph: fx.GraphModule, outputs: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = graph, tuple(outputs)

    def forward(self, input: Tensor) -> dict[str, Tensor]:  # noqa: A002 - what the file calls it
        return dict(zip(self.names, forward(self.network, input.permute(0, 3, 1, 2)), strict=True))


def _hold_weights_inside(path: Path) -> None:
    """Write a file anew with its weights inside the flatbuffer.

    The quantizer puts those of larger networks behind it, where few readers look: TensorFlow Lite Micro runs such a
    file without a word on whatever lies in memory, and answers noise.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    flatbuffer_utils.write_model(flatbuffer_utils.read_model(path), path)


def _recipe(scopes: Mapping[str, str], io: Io, *, integer: bool) -> list[dict[str, Any]]:
    """Everything int8, where anything is (`integer`), but what is of another precision and, for float I/O, the ends."""
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    manager = recipe_manager.RecipeManager()
    if integer:
        manager.add_static_config(
            regex=".*",
            operation_name=TFLOperationName.ALL_SUPPORTED,
            activation_num_bits=8,
            weight_num_bits=8,
            algorithm_key=AlgorithmName.MIN_MAX_UNIFORM_QUANT,
        )
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT) if io == "float32" else ():
        manager.add_quantization_config(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for scope, precision in scopes.items():
        pattern, every = f"^{re.escape(scope)};?$", TFLOperationName.ALL_SUPPORTED
        if precision == "w8":
            manager.add_weight_only_config(pattern, every, num_bits=8)
        elif precision == "dynamic":
            manager.add_dynamic_config(pattern, every, num_bits=8)
        elif precision == "fp16":
            manager.add_weight_only_config(pattern, every, num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING)
        else:
            manager.add_quantization_config(pattern, every, algorithm_key=AlgorithmName.NO_QUANTIZE)
    recipe: list[dict[str, Any]] = manager.get_quantization_recipe()
    return recipe


def float_values(path: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return every float activation of a float file for images (n, C, H, W), by tensor name, stacked on axis 0."""
    return _values(path, np.ascontiguousarray(images.transpose(0, 2, 3, 1)))[1]


def _values(path: Path, channels_last: NDArray[np.float32]) -> tuple[Interpreter, dict[str, NDArray[np.float32]]]:
    """Return every float activation of a float file for some images, by tensor name, stacked on axis 0."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*`experimental_preserve_all_tensors`", UserWarning)  # it is for debugging
        interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    first = interpreter.get_input_details()[0]["index"]
    computed = {first} | {int(o) for op in _operators(interpreter) for o in op["outputs"]}
    watched = [t for t in interpreter.get_tensor_details() if t["index"] in computed and t["dtype"] == np.float32]
    found: dict[str, list[NDArray[np.float32]]] = {str(t["name"]): [] for t in watched}
    for row in channels_last:
        interpreter.set_tensor(first, row[None])
        interpreter.invoke()
        for tensor in watched:
            found[str(tensor["name"])].append(np.array(interpreter.get_tensor(tensor["index"])))
    return interpreter, {name: np.stack(values) for name, values in found.items()}


def _operators(interpreter: Interpreter) -> list[dict[str, Any]]:
    """Return the file's operators (a delegate's copies of them left out)."""
    return [op for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]


def _signature_inputs(interpreter: Interpreter) -> list[str]:
    names: list[str] = interpreter.get_signature_list()[SIGNATURE]["inputs"]
    return names


def _weight_ranges(interpreter: Interpreter, factor: float) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return the ranges of the layers' weights by output channel, a factor wider than they are."""
    names = {t["index"]: str(t["name"]) for t in interpreter.get_tensor_details()}
    found = {}
    for op in [one for one in _operators(interpreter) if one["op_name"] in LAYER_OPERATORS]:
        weight = np.asarray(interpreter.get_tensor(int(op["inputs"][1])))
        channels = 3 if op["op_name"] == "DEPTHWISE_CONV_2D" else 0
        others = tuple(axis for axis in range(weight.ndim) if axis != channels)
        peak = factor * np.abs(weight).max(axis=others, keepdims=True)
        found[names[int(op["inputs"][1])]] = {"min": -peak, "max": peak}
    return found


def _with_passed_on(interpreter: Interpreter, matched: dict[str, str]) -> dict[str, str]:
    """Add the tensors the converter inserted that only pass an edge on: they must not widen or narrow its range."""
    names = {t["index"]: str(t["name"]) for t in interpreter.get_tensor_details()}
    extended, operators = dict(matched), _operators(interpreter)
    read_by = Counter(int(one) for op in operators for one in op["inputs"])
    for op in reversed(operators):  # an activation may stand before what moves or clips its values
        source, written = int(op["inputs"][0]), names[int(op["outputs"][0])]
        if op["op_name"] in KEEPING_OPERATORS and written in extended and read_by[source] == 1 and source in names:
            extended.setdefault(names[source], extended[written])
    for op in operators:
        read = op["inputs"] if op["op_name"] == "CONCATENATION" else op["inputs"][:1]
        passed = {extended.get(names.get(int(one), "")) for one in read}
        written = names[int(op["outputs"][0])]
        edge = passed.pop()
        if op["op_name"] in PASSING_OPERATORS and written not in extended and edge is not None and not passed:
            extended[written] = edge
    return extended


def _before_factors(interpreter: Interpreter, passed_on: Mapping[str, str]) -> dict[str, tuple[str, float]]:
    """Return {tensor: (edge, factor)} of tensors that a factor behind them makes an edge, of a hard-sigmoid, say."""
    names = {t["index"]: str(t["name"]) for t in interpreter.get_tensor_details()}
    operators = _operators(interpreter)
    written = {int(one) for op in operators for one in op["outputs"]}
    found: dict[str, tuple[str, float]] = {}
    for op in (one for one in operators if one["op_name"] == "MUL" and len(one["inputs"]) == 2):
        source, other = (int(one) for one in op["inputs"])
        edge = passed_on.get(names[int(op["outputs"][0])])
        if edge is None or source not in written or other in written or names[source] in passed_on:
            continue
        factor = np.asarray(interpreter.get_tensor(other))
        if factor.size == 1 and float(factor.reshape(())) > 0:
            found.setdefault(names[source], (edge, float(factor.reshape(()))))
    return found


def _range(edge: EdgeNumerics, factor: float) -> dict[str, NDArray[np.float32]]:
    """Return the extremes from which the quantizer derives exactly this scale, over a factor, and zero point."""
    return {"min": np.array([edge.low / factor], np.float32), "max": np.array([edge.high / factor], np.float32)}


def _float_scopes(
    interpreter: Interpreter, numerics: Numerics, outputs: Mapping[str, str], by_weight: Mapping[str, str]
) -> dict[str, str]:
    """Return the scopes, by which the recipe knows them, of the layers that run in float and of what lies between them.

    With the precision of each. `outputs`: {tensor: output of a planned layer}.
    """
    floating = [name for name, layer in numerics.layers.items() if layer.precision != "int8"]
    if not floating:
        return {}
    of_output = {layer.output: name for name, layer in numerics.layers.items()}
    names = {t["index"]: str(t["name"]) for t in interpreter.get_tensor_details()}
    operators = _operators(interpreter)
    by_layers = [names[int(op["outputs"][0])] for op in operators if op["op_name"] in LAYER_OPERATORS]
    layers = {one: of_output.get(outputs.get(one, ""), by_weight.get(one)) for one in by_layers}
    kept = [one for one, layer in layers.items() if layer in floating]
    if len(kept) != len(floating):
        raise ValueError(f"only {len(kept)} of the {len(floating)} layers kept float were found in the converted file")
    producers = {names[int(out)]: names[int(op["outputs"][0])] for op in operators for out in op["outputs"]}
    source, *_ = (str(t["name"]) for t in interpreter.get_input_details())
    producers[source] = source
    reads: dict[str, list[str]] = {source: []}
    for op in operators:
        read = [producers.get(names.get(int(one), "")) for one in op["inputs"]]
        reads[names[int(op["outputs"][0])]] = [one for one in read if one is not None]
    int8 = [one for one, layer in layers.items() if layer is not None and layer not in floating]
    ends = [producers[str(t["name"])] for t in interpreter.get_output_details()]
    moving = [names[int(op["outputs"][0])] for op in operators if op["op_name"] in MOVING_OPERATORS]
    on_integers = {source, *int8, *operators_on_integers(reads, int8, kept, ends, moving)}
    found = {}
    for op in operators:
        written = [names[int(one)] for one in op["outputs"]]
        if written[0] not in on_integers:
            layer = layers.get(written[0])
            found[";".join(written)] = "fp32" if layer is None else numerics.layers[layer].precision
    return found


def _layers_by_weight(interpreter: Interpreter, graph: fx.GraphModule, numerics: Numerics) -> dict[str, str]:
    """Return {tensor that a layer of the float file writes: planned layer}, found by the weights it holds.

    They hold where the converter has merged what follows into a layer, so that the plan's edge is nowhere in the file;
    a factor may be in them.
    """
    tensors = {t["index"]: str(t["name"]) for t in interpreter.get_tensor_details()}
    weights = {
        name: parameter(graph, node.args[1]) for name, node in layers_of(graph).items() if name in numerics.layers
    }
    found: dict[str, str] = {}
    for op in _operators(interpreter):
        if op["op_name"] not in LAYER_OPERATORS or int(op["inputs"][1]) not in tensors:
            continue
        held = np.asarray(interpreter.get_tensor(int(op["inputs"][1])))
        for name, weight in weights.items():
            if weight is not None and name not in found.values() and _is_weight(held, weight.detach().numpy()):
                found[tensors[int(op["outputs"][0])]] = name
                break
    return found


def _is_clipped(planned: NDArray[np.float32], held: NDArray[np.float32] | None) -> bool:
    """Tell whether a file holds an edge's values in any order, clipped: the converter merges a ReLU behind moves."""
    if held is None or held.size != planned.size or not held.any():
        return False
    low, high = float(held.min()), float(held.max())
    one, other = (np.sort(values, axis=None) for values in (held, planned.clip(low, high)))
    return float(np.abs(one - other).max()) <= MATCH_TOLERANCE * max(abs(low), abs(high))


def _is_weight(held: NDArray[np.float32], weight: NDArray[np.float32]) -> bool:
    """Tell whether a file's weight has a network's numbers, but for a factor and their layout."""
    if held.size != weight.size or not weight.any():
        return False
    one, other = (np.sort(np.abs(values) / np.abs(values).max(initial=1e-30), axis=None) for values in (held, weight))
    return float(np.abs(one - other).max()) <= MATCH_TOLERANCE


def _inner_scopes(
    interpreter: Interpreter,
    float_nodes: Mapping[str, Sequence[str]],
    values: Mapping[str, NDArray[np.float32]],
    found: Mapping[str, NDArray[np.float32]],
) -> list[str]:
    """Return the output tensors of the operators by which a file computes these nodes (name -> what they read)."""
    names = {t["index"]: str(t["name"]) for t in interpreter.get_tensor_details()}
    producers = {names[int(out)]: op for op in _operators(interpreter) for out in op["outputs"]}
    scopes: dict[str, None] = {}
    for node, sources in float_nodes.items():
        nearest = match_values({one: values[one] for one in (*sources, node) if one in values}, found)
        ends = {tensor for tensor, one in nearest.items() if one != node}
        open_ends = [tensor for tensor in nearest if tensor not in ends]
        while open_ends:
            tensor = open_ends.pop()
            if tensor in scopes or tensor not in producers or tensor in ends:
                continue
            scopes[tensor] = None
            open_ends += [names[int(one)] for one in producers[tensor]["inputs"] if int(one) in names]
    return list(scopes)


def _spelling(path: Path, numerics: Numerics, matched: dict[str, str], by_weight: Mapping[str, str]) -> Spelling:
    """Find the planned edges and weights in the quantized file: it keeps the float file's tensor names."""
    interpreter = Interpreter(str(path))
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    edges: dict[str, str] = {}
    for tensor, edge in matched.items():
        named = [t for t in tensors.values() if t["name"] in (tensor, f"{tensor}_quantized")]
        held = [t for t in named if len(t["quantization_parameters"]["scales"])]
        if held:
            edges.setdefault(edge, str(held[0]["name"]))
    layer_of = {layer.output: name for name, layer in numerics.layers.items()}
    edge_of = {tensor: edge for edge, tensor in edges.items()}
    stored = {
        int(op["outputs"][0]): int(op["inputs"][0]) for op in _operators(interpreter) if op["op_name"] == "DEQUANTIZE"
    }
    weights, nodes = {}, {}
    for op in [one for one in _operators(interpreter) if one["op_name"] in LAYER_OPERATORS]:
        written, weight = str(tensors[int(op["outputs"][0])]["name"]), int(op["inputs"][1])
        layer = layer_of.get(edge_of.get(written, "")) or by_weight.get(written)
        if layer in numerics.narrow_layers:
            weights[layer] = str(tensors[stored.get(weight, weight)]["name"])
        if layer in numerics.integer_layers:
            nodes[layer] = written
    return Spelling(edges, weights, nodes)


def ends(path: Path) -> Ends:
    """Return the input and the outputs of a file; ToolFailed where LiteRT cannot read it."""
    try:
        interpreter = Interpreter(str(path))
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise ToolFailed(f"{path.name} cannot be read as a TFLite file: {reason}") from error
    outputs = tuple(_end(one) for one in interpreter.get_output_details())
    return Ends(_end(interpreter.get_input_details()[0]), outputs)


def _end(tensor: dict[str, Any]) -> End:
    dtype = np.dtype(tensor["dtype"]).name
    scale, zero_point = tensor["quantization"]
    grid = Grid(float(scale), int(zero_point)) if dtype == "int8" else None
    return End(tuple(int(size) for size in tensor["shape"]), dtype, grid)


def read_back(path: Path, spelling: Spelling) -> tuple[dict[str, Held], dict[str, Held]]:
    """Return what the file holds for every spelled edge and for every layer's weight, read from the file itself."""
    interpreter = Interpreter(str(path))
    tensors = {str(t["name"]): t for t in interpreter.get_tensor_details()}
    names = {t["index"]: name for name, t in tensors.items()}
    operators = {names[int(o)]: op["op_name"] for op in _operators(interpreter) for o in op["outputs"]}
    edges = {
        edge: _held(operators.get(tensor, "input"), tensors[tensor], shift=128)
        for edge, tensor in spelling.edges.items()
        if tensor in tensors
    }
    weights = {
        layer: _held("weight", tensors[tensor], shift=0)
        for layer, tensor in spelling.weights.items()
        if tensor in tensors
    }
    return edges, weights


def _held(operator: str, tensor: dict[str, Any], shift: int) -> Held:
    """Read one tensor; int8 activations are the plan's uint8 ones shifted by 128."""
    parameters = tensor["quantization_parameters"]
    zero = int(parameters["zero_points"][0]) if len(parameters["zero_points"]) else 0
    return Held(operator, np.dtype(tensor["dtype"]).name, tuple(float(s) for s in parameters["scales"]), zero + shift)
