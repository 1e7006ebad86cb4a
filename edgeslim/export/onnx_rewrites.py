"""Rewrites of an ONNX file: exact ones before the planned numbers are written into it, and the constants after."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, equal

from edgeslim.model.normalize.averages import counted
from edgeslim.model.numerics import LEVELS, Numerics

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
    shapes = _shapes(graph)
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


def merge_zeros(graph: onnx.GraphProto) -> None:
    """Let convolutions pad themselves where an operator pads with zeros for them alone: their zeros are integers."""
    held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    outputs = {one.name for one in graph.output}
    for node in [one for one in graph.node if one.op_type == "Pad"]:
        amounts, value = _padding(node, held)
        readers = [one for one in graph.node if node.output[0] in one.input]
        alone = all(one.op_type == "Conv" for one in readers) and node.output[0] not in outputs
        if not alone or amounts is None or value != 0 or amounts.min() < 0 or amounts[:, :2].any():
            continue
        for reader in readers:
            own = next((one for one in reader.attribute if one.name == "pads"), None)
            around = amounts[:, 2:].ravel() + (np.array(own.ints) if own is not None else 0)
            if own is not None:
                reader.attribute.remove(own)
            reader.attribute.append(helper.make_attribute("pads", [int(one) for one in around]))
            reader.input[0] = node.input[0]
        graph.node.remove(node)


def pool_means(graph: onnx.GraphProto) -> None:
    """Write means over rows, columns or both as average pools, which ONNX Runtime has on integers."""
    held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    shapes = _shapes(graph)
    nodes = []
    for node in graph.node:
        sizes = shapes.get(node.input[0], []) if node.op_type == "ReduceMean" else []
        given = held.get(node.input[1]) if len(node.input) > 1 else None
        axes = sorted({int(axis) % 4 for axis in given.ravel()}) if given is not None and len(sizes) == 4 else []
        if not axes or axes[0] < 2:
            nodes.append(node)
            continue
        mean, keeps = node.output[0], next((one.i for one in node.attribute if one.name == "keepdims"), 1)
        pooled = mean if keeps else f"{mean}_pooled"
        if axes == [2, 3]:
            nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], node.name))
        else:
            kernel = [sizes[axis] if axis in axes else 1 for axis in (2, 3)]
            nodes.append(helper.make_node("AveragePool", [node.input[0]], [pooled], node.name, kernel_shape=kernel))
        if not keeps:
            graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), f"{pooled}_axes"))
            nodes.append(helper.make_node("Squeeze", [pooled, f"{pooled}_axes"], [mean], f"{node.name}_squeeze"))
    del graph.node[:]
    graph.node.extend(nodes)


def pad_by_joining(graph: onnx.GraphProto) -> None:
    """Join images with stored borders where they are padded with a number that is not zero.

    OpenVINO pads INT8 values with another number than the one that was asked for.
    """
    held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    shapes = _shapes(graph)
    nodes = []
    for node in graph.node:
        amounts, value = _padding(node, held) if node.op_type == "Pad" else (None, 0.0)
        if amounts is None or value == 0 or amounts.min() < 0 or not amounts.any():
            nodes.append(node)
            continue
        joined, size = node.input[0], list(shapes[node.input[0]])
        axes = [int(axis) for axis in np.flatnonzero(amounts.any(0))]
        for axis in axes:
            output = node.output[0] if axis == axes[-1] else f"{node.output[0]}_joined_{axis}"
            parts = [joined]
            for side, count in zip(("before", "behind"), amounts[:, axis], strict=True):
                if count:
                    border = np.full([*size[:axis], count, *size[axis + 1 :]], value, np.float32)
                    name = f"{output}_{side}"
                    graph.initializer.append(numpy_helper.from_array(border, name))
                    parts.insert(0 if side == "before" else len(parts), name)
            named = node.name if axis == axes[-1] else f"{node.name}_{axis}"
            nodes.append(helper.make_node("Concat", parts, [output], named, axis=axis))
            joined, size[axis] = output, size[axis] + int(amounts[:, axis].sum())
    del graph.node[:]
    graph.node.extend(nodes)


def quantize_numbers(graph: onnx.GraphProto, names: Container[str], constants: Container[str]) -> None:
    """Write the constant of each sum or product that writes one of some tensors as uint8 codes.

    Their grid ends at 0 and at the farthest value.
    """
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = []
    for node in graph.node:
        numbers = [name for name in node.input if name in constants]
        if node.op_type in ("Add", "Mul") and numbers and node.output[0] in names:
            nodes.append(_number_pair(graph, node, values[numbers[0]], list(node.input).index(numbers[0])))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _number_pair(
    graph: onnx.GraphProto, node: onnx.NodeProto, value: NDArray[np.float32], position: int
) -> onnx.NodeProto:
    """Swap the constant of a sum or product for codes; return the DequantizeLinear that reads them."""
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
    scale = np.float32((high - low or 1.0) / LEVELS)
    zero = np.uint8(np.clip(round(-low / scale), 0, LEVELS))
    codes = np.clip(np.round(value / scale) + zero, 0, LEVELS).astype(np.uint8)
    name = f"{node.output[0]}_constant"
    parts = {f"{name}_codes": codes, f"{name}_scale": scale, f"{name}_zero_point": zero}
    graph.initializer.extend(numpy_helper.from_array(np.array(one), key) for key, one in parts.items())
    node.input[position] = f"{name}_dequantized"
    return helper.make_node("DequantizeLinear", [*parts], [f"{name}_dequantized"], f"{name}_dequantize")


def pad_codes(graph: onnx.GraphProto, outputs: Container[str]) -> list[str]:
    """Pad codes in place of numbers where both sides have one scale: ONNX Runtime would pad in float between two pairs.

    Return the tensors that were quantized behind a Pad and are no more; the network's outputs stay.
    """
    held = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    gone = []
    for node in [one for one in graph.node if one.op_type == "Pad"]:
        opened, readers = producers.get(node.input[0]), [one for one in graph.node if node.output[0] in one.input]
        closed = readers[0] if len(readers) == 1 else None
        pair = [None if one is None else one.op_type for one in (opened, closed)]
        if opened is None or closed is None or pair != ["DequantizeLinear", "QuantizeLinear"]:
            continue
        grids = [tuple(held[name].item() for name in one.input[1:]) for one in (opened, closed)]
        amounts, value = _padding(node, held)
        answers = any(name in outputs for one in graph.node if closed.output[0] in one.input for name in one.output)
        if grids[0] != grids[1] or answers:
            continue
        node.input[0] = opened.input[0]
        if amounts is not None:
            (scale, zero), dtype = grids[0], held[opened.input[2]].dtype
            limits = np.iinfo(dtype)
            code = np.clip(np.round(value / scale) + zero, limits.min, limits.max).astype(dtype)
            graph.initializer.append(numpy_helper.from_array(code, f"{node.output[0]}_code"))
            node.input[:] = [*node.input[:2], f"{node.output[0]}_code"]
        gone.append(node.output[0])
        node.output[0] = closed.output[0]
        graph.node.remove(closed)
        if not any(opened.output[0] in one.input for one in graph.node):
            graph.node.remove(opened)
    return gone


def _padding(node: onnx.NodeProto, held: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int64] | None, float]:
    """Return what a Pad adds before and behind each axis (2, axes), and with which number; None for another mode."""
    mode = next((helper.get_attribute_value(one) for one in node.attribute if one.name == "mode"), b"constant")
    given = [*node.input[1:], "", ""]
    if mode != b"constant" or given[0] not in held or (given[1] and given[1] not in held) or given[2]:
        return None, 0.0
    return held[given[0]].reshape(2, -1), float(held[given[1]]) if given[1] else 0.0


def _shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    named = (*graph.value_info, *graph.input, *graph.output)
    return {one.name: [int(axis.dim_value) for axis in one.type.tensor_type.shape.dim] for one in named}
