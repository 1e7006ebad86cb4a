"""A convolution of its own in a network, in place of what a device does not have."""

from collections.abc import Sequence

from torch import Tensor, fx, nn

from edgeslim.model.graph import ATEN


def insert_convolution(
    graph: fx.GraphModule,
    before: fx.Node,
    image: fx.Node,
    weight: Tensor,
    bias: Tensor,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    groups: int = 1,
) -> fx.Node:
    """Insert a convolution of `image` (N, C, H, W) with parameters of its own before a node; return it."""
    name = f"{before.name}_convolution"
    while hasattr(graph, name):
        name += "_"
    owner = nn.Module()
    for suffix, value in (("weight", weight), ("bias", bias)):
        owner.register_parameter(suffix, nn.Parameter(value.detach().float().contiguous(), requires_grad=False))
    graph.add_submodule(name, owner)
    with graph.graph.inserting_before(before):
        parameters = [graph.graph.get_attr(f"{name}.{suffix}") for suffix in ("weight", "bias")]
        return graph.graph.call_function(
            ATEN.conv2d.default, (image, *parameters, list(stride), list(padding), [1, 1], groups)
        )
