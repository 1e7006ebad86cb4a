"""Hold a network that must compute the same against the one before it: first of all, the user's own module.

What two orders of the same sums may differ by is no constant: a deep network loses more of its last digits than a
shallow one. So a network is held against the other one's float64, and what the other loses itself in fp32 is the scale.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from edgeslim.errors import BadModel, ToolFailed
from edgeslim.grid import sqnr_db
from edgeslim.model.graph import as_arrays, forward, joined, named, outputs_of_batches, trace, values_of

LEAST_DB = 60.0  # whatever the network loses itself, and for files, whose runtimes sum in another order
MOST_LOST_DB = 6.0  # below what the network's own fp32 is good for
EXACT_DB = 96.0  # of what is better nothing more is demanded: folded weights are rounded once more than the network's
TRACING = "torch.export"
IMAGES = 8
FLOAT64_IMAGES = 2  # of them; an image takes some ten times as long as in fp32


@dataclass(frozen=True)
class Exactness:
    """How well a network computes what another does, all in dB of SQNR; None where float64 could not be run."""

    sqnr_db: float  # against the other's fp32
    float64_db: float | None  # against the other's float64
    own_db: float | None  # the other's fp32 against its own float64

    @property
    def demanded_float64_db(self) -> float:
        """What `float64_db` must reach."""
        return LEAST_DB if self.own_db is None else max(LEAST_DB, min(self.own_db, EXACT_DB) - MOST_LOST_DB)

    @property
    def holds(self) -> bool:
        """Tell whether one network computes what the other does."""
        return self.sqnr_db >= LEAST_DB and (self.float64_db is None or self.float64_db >= self.demanded_float64_db)

    def __str__(self) -> str:
        found = f"SQNR {self.sqnr_db:g} dB, {LEAST_DB:g} dB demanded"
        if self.float64_db is None:
            return f"{found} (its float64 cannot be run)"
        return f"{found}; {self.float64_db:g} dB against its float64, {self.demanded_float64_db:g} dB demanded"


def require_equal(step: str, wanted: nn.Module, made: fx.GraphModule, images: Tensor) -> Exactness:
    """Return how well `made` computes what `wanted` does on images (n, C, H, W); ToolFailed where it does not.

    `step` says what made the one of the other; the message names it and the first node where the two part. Raises
    BadModel for a network that yields NaN or infinity.
    """
    found = exactness(wanted, made, images)
    if found.holds:
        return found
    least = LEAST_DB if found.sqnr_db < LEAST_DB else found.demanded_float64_db
    place = first_parting(made, images[:1], _values_in(wanted, images[:1], traced=step != TRACING), least)
    raise ToolFailed(
        f"{step} changed what the network computes: {found}; the two part at {place or 'none of its nodes alone'}. "
        "Nothing was built; please report the network"
    )


def exactness(wanted: nn.Module, made: nn.Module, images: Tensor) -> Exactness:
    """Return how well one network computes what another does, on the first `IMAGES` of some images."""
    images = images[:IMAGES]
    reference, found = outputs_of(wanted, images), outputs_of(made, images)
    if not all(np.isfinite(one).all() for one in reference):
        raise BadModel(f"{_first_not_finite(made, images)} became NaN or infinite on an image; nothing can be built")
    double = _float64_outputs(wanted, images[:FLOAT64_IMAGES])
    if double is None:
        return Exactness(worst_db(reference, found), None, None)
    own = [one[: len(exact)] for one, exact in zip(reference, double, strict=True)]
    others = [one[: len(exact)] for one, exact in zip(found, double, strict=True)]
    return Exactness(worst_db(reference, found), worst_db(double, others), worst_db(double, own))


def worst_db(reference: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    """Return the SQNR in dB of that one of a network's outputs which departs most from the reference's."""
    return min(sqnr_db(one, other) for one, other in zip(reference, found, strict=True))


@torch.no_grad()
def outputs_db(dense: fx.GraphModule, others: Iterable[fx.GraphModule], images: Sequence[Tensor]) -> list[float]:
    """Return for each of some networks, which take batches, the SQNR in dB of that output which departs most."""
    wanted = as_arrays(joined(forward(dense, one) for one in images))
    return [worst_db(wanted, as_arrays(joined(forward(other, one) for one in images))) for other in others]


def _first_not_finite(network: nn.Module, images: Tensor) -> str:
    """Return in words the first node of a graph whose value is NaN or infinite on one of some images."""
    if isinstance(network, fx.GraphModule):
        values = values_of(network, images)
        for node in network.graph.nodes:
            if node.name in values and not values[node.name].isfinite().all():
                return named(node)
    return "the network's answer"


@torch.no_grad()
def outputs_of(network: nn.Module, images: Tensor) -> tuple[NDArray[np.float32], ...]:
    """Return the outputs of a network in eager mode for images (n, C, H, W), given one by one: (n, ...) each."""
    return outputs_of_batches(network, images.split(1))


def require_traced(network: nn.Module, graph: fx.GraphModule, source: str, images: Tensor) -> None:
    """Hold a network's traced graph against the user's module in eager mode, on images (n, C, H, W).

    Raises BadModel for a module (of `source`) that answers an image differently from call to call, all of them the same
    or with NaN, ToolFailed where the graph does not compute what the module does.
    """
    first, second = (outputs_of(network, images[:1]) for _ in range(2))
    if not _same(first, second) and worst_db(first, second) < LEAST_DB:
        raise BadModel(
            f"{source} answers the same image differently from call to call: it draws random numbers or keeps a state; "
            "nothing can be compared with it"
        )
    require_equal(TRACING, network, graph, images)
    others = [image for image in images[:IMAGES].split(1) if not torch.equal(image, images[:1])]
    if others and all(_same(first, outputs_of(network, image)) for image in others):  # most differ at the first
        raise BadModel(
            f"{source} answers every image alike: its weights are zero, or nothing of the image reaches its outputs"
        )


def _same(answer: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> bool:
    """Return whether two answers are equal to the last digit in all of their outputs."""
    return all(np.array_equal(one, two, equal_nan=True) for one, two in zip(answer, other, strict=True))


@torch.no_grad()
def _float64_outputs(network: nn.Module, images: Tensor) -> tuple[NDArray[np.float64], ...] | None:
    """Return what `network` returns with all of its state in float64; None where its code insists on float32."""
    try:
        with _in_float64(network), _DepthwiseInFloat64():
            found = [tree_leaves(network(image.double())) for image in images.split(1)]
    except Exception:  # noqa: BLE001 - it has answered in float32: what fails now is the type, in whatever way
        return None
    return as_arrays(joined([one.double() for one in outputs] for outputs in found))


@contextmanager
def _in_float64(network: nn.Module) -> Iterator[None]:
    """Hold a network's parameters and buffers in float64, and give it its own back.

    `torch.func.functional_call` does not where a module stands under two names.
    """
    tables: list[dict[str, Any]] = [t for module in network.modules() for t in (module._parameters, module._buffers)]
    held = [(table, name, value) for table in tables for name, value in table.items() if value is not None]
    doubles = {id(value): value.double() for _, _, value in held if value.is_floating_point()}
    try:
        for table, name, value in held:
            table[name] = doubles.get(id(value), value)
        yield
    finally:
        for table, name, value in held:
            table[name] = value


class _DepthwiseInFloat64(TorchFunctionMode):
    """Computes depthwise convolutions as a sum over windows: torch's own take ten seconds an image in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False))
        given.update(kwargs or {})
        if func is torch.conv2d and given.get("groups", 1) == len(given["weight"]) == given["input"].shape[1]:
            settings = (given.get("stride", 1), given.get("padding", 0), given.get("dilation", 1))
            stride, padding, dilation = map(_pair, settings)
            if dilation == (1, 1) and padding is not None and stride is not None:
                return _depthwise(given["input"], given["weight"], given.get("bias"), stride, padding)
        return func(*args, **(kwargs or {}))


def _pair(value: Any) -> tuple[int, int] | None:
    """Return (height, width) of an argument of a convolution; None for a word."""
    if isinstance(value, str):
        return None
    both = (value, value) if isinstance(value, int) else tuple(value)
    return int(both[0]), int(both[-1])


def _depthwise(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    padded = nn.functional.pad(image, (padding[1], padding[1], padding[0], padding[0]))
    windows = padded.unfold(2, weight.shape[2], stride[0]).unfold(3, weight.shape[3], stride[1])
    summed = torch.einsum("nchwij,cij->nchw", windows, weight[:, 0])
    return summed if bias is None else summed + bias.view(1, -1, 1, 1)


def _values_in(network: nn.Module, image: Tensor, *, traced: bool) -> list[NDArray[np.float32]]:
    """Return every activation of a graph for one image; of a network in eager mode what each of its modules returns.

    `traced`: its graph has been found right, and is asked for what lies between the modules.
    """
    if isinstance(network, fx.GraphModule) or traced:
        graph = network if isinstance(network, fx.GraphModule) else trace(network, tuple(image.shape))
        return [value.numpy() for value in values_of(graph, image).values()]
    found: list[Tensor] = []

    def see(module: nn.Module, given: Any, returned: Any) -> None:  # noqa: ARG001 - the signature of a hook
        found.extend(value.detach().clone() for value in _tensors_in(returned))

    hooks = [module.register_forward_hook(see) for module in network.modules()]
    try:
        outputs_of(network, image)
    finally:
        for hook in hooks:
            hook.remove()
    return [value.numpy() for value in found]


def _tensors_in(returned: Any) -> Iterator[Tensor]:
    if isinstance(returned, Tensor):
        yield returned
    elif isinstance(returned, dict):
        yield from _tensors_in(list(returned.values()))
    elif isinstance(returned, list | tuple):
        for one in returned:
            yield from _tensors_in(one)


def first_parting(
    graph: fx.GraphModule, image: Tensor, others: Iterable[NDArray[np.float32]], demanded_db: float
) -> str | None:
    """Return, in words, the first node of a graph where its values and those of another network part; None: nowhere.

    `others` are the other network's values for the same image (1, C, H, W), in any order, shape and of both layouts.
    A rewrite may well compute something between that the other never does: a node parts where neither its value nor any
    that is made of it stands among them, so that of two rewrites in a row the first may be named.
    """
    by_size: dict[int, list[NDArray[np.float32]]] = {}
    for value in others:
        by_size.setdefault(value.size, []).append(np.asarray(value, np.float32).reshape(-1))
    values = {name: value.numpy() for name, value in values_of(graph, image).items()}
    held = {name for name, value in values.items() if _is_among(value, by_size.get(value.size, ()), demanded_db)}
    behind = _behind(graph)
    for node in graph.graph.nodes:
        if node.name in values and node.name not in held and not behind[node.name] & held:
            return named(node)
    return None


def _is_among(value: NDArray[np.float32], others: Sequence[NDArray[np.float32]], demanded_db: float) -> bool:
    layouts = [value.reshape(-1)]
    if value.ndim == 4:
        layouts.append(value.transpose(0, 2, 3, 1).reshape(-1))
    return any(sqnr_db(layout, other) >= demanded_db for layout in layouts for other in others)


def _behind(graph: fx.GraphModule) -> Mapping[str, set[str]]:
    """Return for each node the names of all that depends on it."""
    behind: dict[str, set[str]] = {}
    for node in reversed(graph.graph.nodes):
        behind[node.name] = {user.name for user in node.users}.union(*(behind[user.name] for user in node.users))
    return behind
