"""An fp32 ONNX network rewritten in place to mixed precision by a HalfPlan; every cast is placed here.

Operators that the plan does not keep read and write float16, their constants are stored as float16; a Cast stands
wherever a value crosses between the two precisions, once for each value. ONNX types are strict, so a runtime that is
told to obey them cannot choose otherwise. What an exporter made of one operator shares that operator's precision.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeslim.model.fp16_plan import LARGEST, HalfPlan

# Operators that compute in whichever float type they are given; others stay fp32, between casts.
GENERIC = frozenset(
    {
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "Conv",
        "Div",
        "Flatten",
        "Gemm",
        "GlobalAveragePool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "MatMul",
        "MaxPool",
        "Mul",
        "Pad",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    }
)
HALF = "_fp16"  # behind the name of a weight that is stored so and cast to float32
_SHORT: dict[int, str] = {TensorProto.FLOAT16: "fp16", TensorProto.FLOAT: "fp32"}


def spell_half(model: onnx.ModelProto, plan: HalfPlan, matched: Mapping[str, str]) -> dict[str, str]:
    """Rewrite a network in place; return {layer: its weight's tensor}.

    `matched` is {tensor: operator of the plan with the same values}. Raises ValueError where a layer is missing.
    """
    graph = model.graph
    floats = _float_tensors(model)
    by_weight = {name: node for node in graph.node for name in list(node.input)[1:2]}
    layers = {one.name: by_weight.get(str(one.weight)) for one in plan.operators if one.weight is not None}
    missing = [name for name, node in layers.items() if node is None]
    if missing:
        raise ValueError(f"torch.onnx wrote no layer for `{missing[0]}`")
    kept = _kept_nodes(graph, plan, matched, {n.output[0]: name for name, n in layers.items() if n is not None})
    half = {n.output[0] for n in graph.node if n.op_type in GENERIC} - kept - _with_large_constants(graph)
    half = {n.output[0] for n in graph.node if n.output[0] in half and floats.intersection((*n.input, *n.output))}
    _insert_casts(graph, half, floats, TensorProto.FLOAT16 if plan.io == "fp16" else TensorProto.FLOAT)
    del graph.value_info[:]  # their types changed; whoever wants them infers them
    return {name: node.input[1] for name, node in layers.items() if node is not None}


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 tensors."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {one.name for one in infos if one.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {one.name for one in graph.initializer if one.data_type == TensorProto.FLOAT}


def _kept_nodes(
    graph: onnx.GraphProto, plan: HalfPlan, matched: Mapping[str, str], layers: Mapping[str, str]
) -> set[str]:
    """Return the first outputs of the nodes that stay fp32: layers by weight, others by value or by their readers."""
    kept: set[str] = set()
    readers: dict[str, list[str]] = {}
    for node in reversed(list(graph.node)):
        operators = [layers.get(node.output[0]) or matched.get(name) for name in node.output]
        known = [name for name in operators if name is not None]
        below = [one for name in node.output for one in readers.get(name, [])]
        stays = any(name in plan.kept for name in known) if known else any(one in kept for one in below)
        if stays:
            kept.add(node.output[0])
        for name in node.input:
            readers.setdefault(name, []).append(node.output[0])
    return kept


def _with_large_constants(graph: onnx.GraphProto) -> set[str]:
    """Return the first outputs of the nodes that read a constant beyond fp16."""
    large = {
        one.name
        for one in graph.initializer
        if one.data_type == TensorProto.FLOAT and np.abs(numpy_helper.to_array(one)).max(initial=0.0) > LARGEST
    }
    return {node.output[0] for node in graph.node if large.intersection(node.input)}


class _Casts:
    """The nodes written so far, the type in which each float value is held, and the casts between them."""

    def __init__(self, held: dict[str, int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.held = held

    def read(self, name: str, wants: int) -> str:
        """Return the name under which a value is read in a type; a cast is added at the first need."""
        if self.held[name] == wants:
            return name
        cast = f"{name}_to_{_SHORT[wants]}"
        if cast not in self.held:
            self.held[cast] = wants
            self.nodes.append(helper.make_node("Cast", [name], [cast], cast, to=wants))
        return cast

    def give(self, name: str, ends: int) -> None:
        """Give an output of the network in a type, under its own name."""
        if self.held[name] != ends:
            _rename(self.nodes, name, f"{name}_inner")
            self.nodes.append(helper.make_node("Cast", [f"{name}_inner"], [name], f"{name}_cast", to=ends))


def _insert_casts(graph: onnx.GraphProto, half: set[str], floats: set[str], ends: int) -> None:
    """Give every node in `half` float16, and put casts where a value crosses; `ends`: the type of input and output."""
    constants = {one.name: one for one in graph.initializer if one.name in floats}
    wanted: dict[str, set[int]] = {name: set() for name in constants}
    written = _Casts({one.name: ends for one in graph.input if one.name in floats})
    for node in list(graph.node):
        wants = TensorProto.FLOAT16 if node.output[0] in half else TensorProto.FLOAT
        for i, name in enumerate(node.input):
            if name in constants:
                wanted[name].add(wants)
                node.input[i] = f"{name}_fp16" if wants == TensorProto.FLOAT16 else name
            elif name in floats:
                node.input[i] = written.read(name, wants)
        written.nodes.append(node)
        written.held.update(dict.fromkeys((name for name in node.output if name in floats), wants))
    for end in (*graph.input, *graph.output):
        end.type.tensor_type.elem_type = ends
    for end in graph.output:
        written.give(end.name, ends)
    del graph.node[:]
    graph.node.extend(written.nodes)
    _store_constants(graph, constants, wanted)


def _rename(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new


def _store_constants(
    graph: onnx.GraphProto, constants: Mapping[str, TensorProto], wanted: Mapping[str, set[int]]
) -> None:
    """Store each float constant in the types in which it is read; one that is only read as float16 keeps its name."""
    for name, one in constants.items():
        if TensorProto.FLOAT16 not in wanted[name]:
            continue
        shared = TensorProto.FLOAT in wanted[name]
        stored = f"{name}_fp16" if shared else name
        narrow = numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float16), stored)
        if not shared:
            graph.initializer.remove(one)
            _rename(graph.node, f"{name}_fp16", name)
        graph.initializer.append(narrow)


def hold_in_half(graph: onnx.GraphProto, weights: Iterable[str]) -> None:
    """Store some weights of a float network as float16, with a Cast behind each that a runtime does as it loads."""
    constants, casts = {one.name: one for one in graph.initializer}, []
    for name in weights:
        graph.initializer.remove(constants[name])
        narrow = numpy_helper.from_array(numpy_helper.to_array(constants[name]).astype(np.float16), f"{name}{HALF}")
        graph.initializer.append(narrow)
        casts.append(helper.make_node("Cast", [narrow.name], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def held_precisions(model: onnx.ModelProto, weights: Iterable[str]) -> dict[str, str]:
    """Return the precision in which a file stores each of some weights: "fp16" or "fp32"; "none" for a missing one."""
    types = {one.name: one.data_type for one in model.graph.initializer}
    return {name: _SHORT.get(types.get(name, 0), "none") for name in weights}
