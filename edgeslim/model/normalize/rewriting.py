"""Nodes put into a traced graph and taken out of it, each with the shape of what it computes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgeslim.model.graph import ATEN, parameter

ORIGIN = ("nn_module_stack", "stack_trace")  # what torch notes of where in the user's code an operator stands


@torch.no_grad()
def inserted(graph: fx.GraphModule, before: fx.Node, target: Any, *args: Any) -> fx.Node:
    """Insert an operator before a node, with a value of the right shape and dtype in its notes; return it."""
    with graph.graph.inserting_before(before):
        node = graph.graph.call_function(target, args)

    def shaped(source: fx.Node) -> Any:
        stored = parameter(graph, source)
        return _on_meta(source.meta["val"] if stored is None else stored)

    node.meta = {name: before.meta[name] for name in ORIGIN if name in before.meta}
    node.meta["val"] = target(*fx.node.map_arg(args, shaped))
    return node


def _on_meta(value: Any) -> Any:
    """Return a value without its numbers: a tensor, or several."""
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device="meta")
    return [_on_meta(one) for one in value] if isinstance(value, list | tuple) else value


def stored(graph: fx.GraphModule, before: fx.Node, path: str, value: Tensor) -> fx.Node:
    """Keep a tensor as a parameter (of whole numbers, as a buffer) of that or a similar path; return what reads it."""
    folder, _, name = path.rpartition(".")
    owner: nn.Module = graph
    for part in folder.split(".") if folder else []:
        if not isinstance(getattr(owner, part, None), nn.Module):
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    while hasattr(owner, name):
        name += "_"
    kept = value.detach().clone().contiguous()
    if kept.is_floating_point():
        owner.register_parameter(name, nn.Parameter(kept, requires_grad=False))
    else:
        owner.register_buffer(name, kept)
    with graph.graph.inserting_before(before):
        reader = graph.graph.get_attr(f"{folder}.{name}".lstrip("."))
    reader.meta["val"] = kept
    return reader


def replaced(graph: fx.GraphModule, node: fx.Node, made: fx.Node) -> bool:
    """Let all that read a node read another, and take it out; True, for it is done."""
    for reader in node.users:
        if reader.target is ATEN.view.default:  # which asks how its input lies in memory
            reader.target = ATEN.reshape.default
    node.replace_all_uses_with(made)
    graph.graph.erase_node(node)
    return True


def replaced_all(graph: fx.GraphModule, nodes: Iterable[fx.Node], made: fx.Node) -> bool:
    """Let all that read some nodes read another, and take them out; True, for it is done."""
    for node in nodes:
        replaced(graph, node, made)
    return True
