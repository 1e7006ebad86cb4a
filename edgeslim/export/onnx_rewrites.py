"""What is rewritten in an ONNX file, exactly, before the planned numbers are written into it."""

from collections.abc import Container, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor, equal

from edgeslim.model.normalize.averages import counted
from edgeslim.model.numerics import Numerics

WEIGHT, BIAS = 1, 2  # which input of a layer


def give_layers_their_own(
    graph: onnx.GraphProto, operators: Container[str], numerics: Numerics, state: Mapping[str, Tensor]
) -> None:
    """Give each planned layer that shares a weight one in its own name, and a bias of its own.

    `operators`: what layers are called; `state`: the tensors by the names that the plan knows. A layer that a network
    uses twice stands in the plan, and in the graph, once for each use, in the same order; torch.onnx writes one of
    several equal tensors only.
    """
    held = {one.name: one for one in graph.initializer}
    names = _planned_names(held, [layer.weight for layer in numerics.layers.values()], state)
    for place in (WEIGHT, BIAS):
        for kept, nodes in _readers(graph, operators, place, held).items():
            own = names.get(kept, []) if place == WEIGHT else [f"{kept}_{use}" for use in range(len(nodes))]
            if 1 < len(nodes) == len(own):
                _copy(graph, held[kept], nodes, place, own)


def _planned_names(
    held: Mapping[str, onnx.TensorProto], planned: Sequence[str], state: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """Return {name in the file: the planned weights that equal it, in the plan's order}, where they are several."""
    if all(name in held for name in planned):
        return {}
    weights = [name for name in planned if name in held]
    return {kept: [name for name in planned if equal(state[name], state[kept])] for kept in weights}


def _readers(
    graph: onnx.GraphProto, operators: Container[str], place: int, held: Container[str]
) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type in operators and len(node.input) > place and node.input[place] in held:
            readers.setdefault(node.input[place], []).append(node)
    return readers


def _copy(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, nodes: Sequence[onnx.NodeProto], place: int, names: Sequence[str]
) -> None:
    for name, node in zip(names, nodes, strict=True):
        node.input[place] = name
        if name != tensor.name:
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor), name))
    if tensor.name not in names:
        graph.initializer.remove(tensor)


def count_no_padding(graph: onnx.GraphProto) -> None:
    """Let averages that count their padding leave it out, and multiply them with the share that they do not count.

    OpenVINO pads an INT8 average with the code 0, which is no zero where the range of its input has negative numbers.
    """
    shapes = {one.name: [int(axis.dim_value) for axis in one.type.tensor_type.shape.dim] for one in graph.value_info}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        pads = settings.get("pads", [])
        if node.op_type != "AveragePool" or not any(pads) or not settings.get("count_include_pad", 0):
            continue
        kernel, before, sizes = settings["kernel_shape"], pads[: len(pads) // 2], shapes[node.input[0]][2:]
        steps, counts = settings.get("strides", [1] * len(kernel)), shapes[node.output[0]][2:]
        shares = [
            (counted(count, step, k, pad, size) / k).numpy()
            for count, step, k, pad, size in zip(counts, steps, kernel, before, sizes, strict=True)
        ]
        averages = node.output[0]
        node.output[0] = f"{averages}_uncounted"
        next(one for one in node.attribute if one.name == "count_include_pad").i = 0
        factor = np.outer(*shares).astype(np.float32)[None, None]
        graph.initializer.append(numpy_helper.from_array(factor, f"{averages}_share"))
        nodes.append(helper.make_node("Mul", [node.output[0], f"{averages}_share"], [averages], f"{averages}_shared"))
    del graph.node[:]
    graph.node.extend(nodes)
