"""A network as a graph of aten operators: tracing, its layers, its costs, and looking at what flows in it."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from edgeslim.errors import BadModel, Refused

ATEN = torch.ops.aten
LAYERS = (ATEN.conv2d.default, ATEN.conv2d.padding, ATEN.linear.default)
# Activations that saturate: a quantized range that ends where they do makes them free.
PROBABILITIES = (ATEN.softmax.int, ATEN.log_softmax.int, ATEN.sigmoid.default)
CLIPPING = (ATEN.relu.default, ATEN.relu_.default, ATEN.hardtanh.default, ATEN.hardtanh_.default, ATEN.relu6.default)
# What changes its input in place, and what computes the same into a new tensor.
IN_PLACE = {
    ATEN.add_.Tensor: ATEN.add.Tensor,
    ATEN.mul_.Tensor: ATEN.mul.Tensor,
    ATEN.relu_.default: ATEN.relu.default,
    ATEN.hardtanh_.default: ATEN.hardtanh.default,
    ATEN.hardswish_.default: ATEN.hardswish.default,
    ATEN.hardsigmoid_.default: ATEN.hardsigmoid.default,
    ATEN.sigmoid_.default: ATEN.sigmoid.default,
    ATEN.silu_.default: ATEN.silu.default,
    ATEN.leaky_relu_.default: ATEN.leaky_relu.default,
    ATEN.elu_.default: ATEN.elu.default,
    ATEN.celu_.default: ATEN.celu.default,
    ATEN.selu_.default: ATEN.selu.default,
    ATEN.mish_.default: ATEN.mish.default,
    ATEN.tanh_.default: ATEN.tanh.default,
    ATEN.dropout_.default: ATEN.dropout.default,
    ATEN.feature_dropout_.default: ATEN.feature_dropout.default,
}
WITH_SIZES = {ATEN.view.default, ATEN.reshape.default, ATEN.expand.default}  # operators that are told a whole shape


def trace(network: nn.Module, shape: tuple[int, ...]) -> fx.GraphModule:
    """Return the network as a graph of aten operators for one input of `shape` (N, C, H, W).

    Raises BadModel where torch.export cannot follow it (control flow that depends on data, say).
    """
    network.eval()
    try:
        exported = program_of(network, torch.zeros(shape))
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise BadModel(
            f"torch.export cannot trace the model for an input of {shape}: "
            f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}"
        ) from error
    return graph_of(_without_changes_of_views(exported))


def program_of(network: nn.Module, image: Tensor) -> torch.export.ExportedProgram:
    """Return the network exported for inputs like `image`."""
    with _own_warnings_of_torch_silenced():
        return torch.export.export(network, (image,))


def _without_changes_of_views(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a program that changes nothing in place, where it changes what is read later as another value too.

    Of `h[:, 0].add_(1)` a traced graph reads `h` again, and only its memory tells that it is another by then.
    """
    nodes = [node for node in program.graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    place = {node: number for number, node in enumerate(program.graph.nodes)}
    for node in nodes:
        if changes(node):
            changed = _memory(node.args[0])
            before = [one for one in nodes if place[one] < place[node] and _memory(one) == changed]
            if any(place[user] > place[node] for one in before for user in one.users):
                with _own_warnings_of_torch_silenced():
                    program = program.run_decompositions({})
                break
    return program


def _memory(node: Any) -> Any:
    return node.meta["val"].untyped_storage()._cdata


def changes(node: fx.Node) -> bool:
    """Tell whether a node is an operator that changes what it is given."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def copy_of(graph: fx.GraphModule) -> fx.GraphModule:
    """Return a deep copy, parameters included."""
    with _own_warnings_of_torch_silenced():
        return copy.deepcopy(graph)


@contextmanager
def _own_warnings_of_torch_silenced() -> Iterator[None]:
    """Ignore what torch 2.13 warns about its own use of its own pytree."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
        yield


def graph_of(exported: torch.export.ExportedProgram) -> fx.GraphModule:
    """Return the callable graph of an exported program without the guards torch adds to it."""
    module = exported.module()
    if not isinstance(module, fx.GraphModule):
        raise TypeError(f"torch.export gave a {type(module).__name__} where a GraphModule was expected")
    for node in list(module.graph.nodes):
        if node.op == "call_module" and not node.users:
            module.graph.erase_node(node)
    plain = fx.GraphModule(module, module.graph)  # without the ban on eval() that exported modules carry
    plain.eval()
    return plain


def batched(graph: fx.GraphModule) -> fx.GraphModule:
    """Return a copy that takes any number of images at once and changes no tensor in place; its nodes keep their names.

    torch.export writes the batch of one into the sizes of views. Raises Refused where two images together do not give
    what each gives alone.
    """
    copied = copy_of(graph)
    for node in copied.graph.nodes:
        node.target = IN_PLACE.get(node.target, node.target)
        if node.target in WITH_SIZES and (node.target is not ATEN.expand.default or _keeps_images(node)):
            node.args = (node.args[0], [-1, *shape_of(node)[1:]])
    copied.recompile()
    _require_images_apart(graph, copied)
    return copied


def _keeps_images(expand: fx.Node) -> bool:
    """Tell whether an expansion leaves the first axis, which grows with the images, as it is."""
    source, made = shape_of(expand.all_input_nodes[0]), shape_of(expand)
    return len(source) == len(made) and source[0] == made[0]


@torch.no_grad()
def _require_images_apart(graph: fx.GraphModule, many: fx.GraphModule) -> None:
    shape = shape_of(input_of(graph))
    images = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(0))
    each = joined(forward(graph, image) for image in images.split(1))
    try:
        both = forward(many, images)
    except RuntimeError as error:
        raise Refused(f"the network takes one image only, two at once fail: {error}") from error
    for alone, together in zip(each, both, strict=True):
        largest = float(alone.nan_to_num(0.0, 0.0, 0.0).abs().max())
        if not torch.allclose(together, alone, rtol=1e-2, atol=1e-3 * largest, equal_nan=True):
            raise Refused("the network mixes the images of a batch: two at once do not give what each gives alone")


def without_probabilities(graph: fx.GraphModule) -> list[fx.Node | None]:
    """Let outputs give what their last softmax, log-softmax or sigmoid reads; return that for each output, or None."""
    ends = [node if node.target in PROBABILITIES else None for node in output_nodes(graph)]
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    for node in filter(None, ends):
        output.replace_input_with(node, node.all_input_nodes[0])
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return ends


def drop_unused(graph: fx.GraphModule) -> None:
    """Forget the parameters and buffers that no node reads."""
    for node in [n for n in graph.graph.nodes if n.op == "get_attr" and not n.users]:
        graph.graph.erase_node(node)
    used = {str(n.target) for n in graph.graph.nodes if n.op == "get_attr"}
    for name in [n for n, _ in (*graph.named_parameters(), *graph.named_buffers()) if n not in used]:
        owner, _, attribute = name.rpartition(".")
        delattr(graph.get_submodule(owner), attribute)


def argument(node: fx.Node, name: str) -> Any:
    """Return what an operator is given for one of its parameters, or that parameter's default."""
    for place, one in enumerate(node.target._schema.arguments):  # type: ignore[union-attr] # an aten operator
        if one.name == name:
            return node.args[place] if place < len(node.args) else node.kwargs.get(name, one.default_value)
    raise TypeError(f"{node.target} has no parameter {name}")


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """Return what an operator is given in its places: nodes, numbers and lists of them, whatever its schema says."""
    return tuple(node.args)


def grows_by_whole_factors(resize: fx.Node) -> bool:
    """Tell whether both sides of a resized image are multiples of what they were."""
    before, after = shape_of(resize.all_input_nodes[0])[2:], shape_of(resize)[2:]
    return all(new % old == 0 for old, new in zip(before, after, strict=True))


def weight_name(layer: fx.Node) -> str:
    """Return the qualified name of a layer's weight."""
    return str(arguments(layer)[1].target)


def window_of(node: fx.Node) -> tuple[list[int], list[int], list[int]]:
    """Return kernel, stride and padding of a pooling, two numbers each."""
    kernel = _pair(argument(node, "kernel_size"))
    return kernel, _pair(argument(node, "stride") or kernel), _pair(argument(node, "padding"))


def _pair(value: list[int]) -> list[int]:
    return list(value) if len(value) == 2 else list(value) * 2


def named(node: fx.Node) -> str:
    """Return a node's name in words, with that of the module it stands for where that is known."""
    modules = [str(path) for path, _ in node.meta.get("nn_module_stack", {}).values() if path]
    if node.target in LAYERS and isinstance(node.args[1], fx.Node):
        modules.append(str(node.args[1].target).rpartition(".")[0])
    return f"`{node.name}`" + (f" (module {modules[-1]})" if modules and modules[-1] else "")


def operator_name(node: fx.Node) -> str:
    """Return the plain name of an operator: `conv2d` of aten.conv2d.default."""
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the static shape of the tensor a node produces."""
    return tuple(int(d) for d in node.meta["val"].shape)


def is_activation(node: fx.Node) -> bool:
    """Tell whether a node produces one float tensor that is no parameter."""
    value = node.meta.get("val")
    return node.op in ("placeholder", "call_function") and isinstance(value, Tensor) and value.dtype.is_floating_point


def channel_axis(layer: fx.Node) -> int:
    """Return the axis on which a convolution or a linear layer writes its channels: 1, or the last one."""
    return len(shape_of(layer)) - 1 if layer.target is ATEN.linear.default else 1


def layers_of(graph: fx.GraphModule) -> dict[str, fx.Node]:
    """Return the convolutions and linear layers by node name, in execution order."""
    return {n.name: n for n in graph.graph.nodes if n.op == "call_function" and n.target in LAYERS}


def parameter(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """Return the tensor behind a get_attr node, or None when `node` is none."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(graph.get_submodule(owner), name)
    if not isinstance(value, Tensor):
        raise TypeError(f"{node.target} is a {type(value).__name__}, not a tensor")
    return value


def input_of(graph: fx.GraphModule) -> fx.Node:
    """Return the one input of a graph."""
    found: fx.Node = next(n for n in graph.graph.nodes if n.op == "placeholder")
    return found


def output_nodes(graph: fx.GraphModule) -> tuple[fx.Node, ...]:
    """Return the nodes whose values the graph returns, in order, however they are packed."""
    value = next(n for n in graph.graph.nodes if n.op == "output").args[0]
    return tuple(one for one in tree_leaves(value) if isinstance(one, fx.Node))


def forward(network: Callable[[Tensor], Any], images: Tensor) -> tuple[Tensor, ...]:
    """Return the outputs of a network for images (N, C, H, W), in order, however it packs them."""
    return tuple(tree_leaves(network(images)))


def values_before(graph: fx.GraphModule, node: fx.Node, images: Tensor) -> dict[fx.Node, Any]:
    """Return the values of all nodes before one for images (N, C, H, W); None for what nothing from it on reads."""
    runner = fx.Interpreter(graph)
    runner.args_iter = iter((images,))
    before = list(graph.graph.nodes)[: list(graph.graph.nodes).index(node)]
    for one in before:
        runner.env[one] = runner.run_node(one)
        for read in runner.user_to_last_uses.get(one, ()):
            del runner.env[read]
    return {one: runner.env.get(one) for one in before}


def outputs_from(graph: fx.GraphModule, before: Mapping[fx.Node, Any]) -> tuple[Tensor, ...]:
    """Return the outputs of a graph whose first nodes have the values that `values_before` found."""
    return tuple(tree_leaves(fx.Interpreter(graph).run(initial_env=dict(before))))


@torch.no_grad()
def outputs_of_batches(graph: nn.Module, batches: Iterable[Tensor]) -> tuple[NDArray[Any], ...]:
    """Return the outputs of a network that takes batches (n, C, H, W), each with all images on axis 0."""
    return as_arrays(joined(forward(graph, batch) for batch in batches))


def joined(found: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Return the outputs of several batches as those of one, each with all images on axis 0."""
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def as_arrays(outputs: Sequence[Tensor]) -> tuple[NDArray[Any], ...]:
    """Return outputs as NumPy arrays, which share their memory."""
    return tuple(one.detach().numpy() for one in outputs)


def is_folded(network: nn.Module) -> bool:
    """Tell whether a network is a graph without batch norms in which every layer has a bias of its own."""
    if not isinstance(network, fx.GraphModule):
        return False
    return all(node.target is not ATEN.batch_norm.default for node in network.graph.nodes) and all(
        len(node.args) > 2 and parameter(network, node.args[2]) is not None for node in layers_of(network).values()
    )


def macs_of(graph: fx.GraphModule) -> int:
    """Return the multiply-accumulates of all convolutions and linear layers for one input."""
    total = 0
    for node in layers_of(graph).values():
        weight = parameter(graph, node.args[1])
        if weight is not None:
            total += math.prod(shape_of(node)) * math.prod(weight.shape[1:])
    return total


class _Observer(fx.Interpreter):
    """Runs a graph and shows every activation to a function."""

    def __init__(self, graph: fx.GraphModule, see: Callable[[str, Tensor], None]) -> None:
        super().__init__(graph)
        self._see = see

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if is_activation(n):
            self._see(n.name, value)
        return value


@torch.no_grad()
def observe(graph: fx.GraphModule, batches: Iterable[Tensor], see: Callable[[str, Tensor], None]) -> None:
    """Run the graph on batches of one image each row, one row at a time, calling `see(node name, value)`."""
    observer = _Observer(graph, see)
    for row in rows(batches):
        observer.run(row)


def rows(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield single images (1, C, H, W): an exported graph is static and takes one at a time."""
    for batch in batches:
        yield from batch.split(1)


def first_of(batches: Iterable[Tensor], count: int) -> list[Tensor]:
    """Return the batches that hold the first `count` images."""
    chosen: list[Tensor] = []
    held = 0
    for batch in batches:
        if held >= count:
            break
        chosen.append(batch)
        held += len(batch)
    return chosen


def two_at_least(batches: Sequence[Tensor]) -> list[Tensor]:
    """Return the batches, a single one cut in two."""
    return list(batches) if len(batches) != 1 else list(batches[0].split((len(batches[0]) + 1) // 2))


@torch.no_grad()
def values_of(graph: fx.GraphModule, images: Tensor) -> dict[str, Tensor]:
    """Return every activation for some images, by node name, stacked on axis 0."""
    values: dict[str, list[Tensor]] = {}
    observe(graph, [images], lambda name, value: values.setdefault(name, []).append(value.clone()))
    return {name: torch.cat(parts) for name, parts in values.items()}
