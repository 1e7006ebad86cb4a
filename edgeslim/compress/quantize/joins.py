"""Which inputs of a concatenation keep a scale of their own, and are rounded once more as they are joined.

Joined values share one scale, the widest, and what else reads a narrow input then reads it on a coarse grid. With a
scale of its own it stays fine there, and is rounded twice in the join alone, which every runtime does on integers.
"""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, fx

from edgeslim.compress.quantize.edges import PASSING, Join, Range, edges_of, tie, tied_inputs
from edgeslim.compress.quantize.rounding import with_grids
from edgeslim.model.equivalence import outputs_db
from edgeslim.model.graph import ATEN, arguments, batched
from edgeslim.model.numerics import EdgeNumerics

NARROW = 0.5  # of the scale that a join would give it: a finer one gains a bit for all else that reads the input


def joins_apart(
    graph: fx.GraphModule, ranges: Mapping[str, Range], images: Sequence[Tensor], *, symmetric: bool
) -> set[Join]:
    """Return the inputs of concatenations that keep scales of their own: those with which the outputs come nearer.

    `ranges`: of every edge; `images`: batches (n, C, H, W) by which it is measured. The network's input, and what only
    passes it on, always keeps its own.
    """

    def grids(apart: Collection[Join]) -> dict[str, EdgeNumerics]:
        return edges_of(graph, tie(graph, apart), ranges, symmetric=symmetric)

    joins = {(source.name, node.name): source for node in _concatenations(graph) for source in arguments(node)[0]}
    of_image = {join for join, source in joins.items() if _origin(source).op == "placeholder"}
    tied, own = grids(of_image), grids(joins)
    groups = tie(graph, joins)
    narrow = {
        join
        for join, source in joins.items()
        if source.name in own
        and own[source.name].scale < NARROW * tied[source.name].scale
        and _is_read_elsewhere(graph, groups, source)
    }
    if narrow <= of_image:
        return of_image
    apart = of_image | narrow
    together_db, apart_db = closeness_db(graph, (tied, grids(apart)), images)
    return apart if apart_db > together_db else of_image


def _concatenations(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.target is ATEN.cat.default]


def _origin(node: fx.Node) -> fx.Node:
    """Return the node that computes what a node only passes on; a concatenation computes."""
    while node.target is not ATEN.cat.default and (sources := tied_inputs(node)):
        node = sources[0]
    return node


def _is_read_elsewhere(graph: fx.GraphModule, groups: Mapping[str, str], source: fx.Node) -> bool:
    """Tell whether something that computes reads what has the scale of a concatenation's input."""
    members = [node for node in graph.graph.nodes if groups.get(node.name) == groups[source.name]]
    readers = {user for node in members for user in node.users}
    return any(one.target not in (*PASSING, ATEN.cat.default) for one in readers)


def closeness_db(
    graph: fx.GraphModule, plans: Sequence[Mapping[str, EdgeNumerics]], images: Sequence[Tensor]
) -> list[float]:
    """Return for each plan the SQNR of the outputs with these edges rounded, at the output that departs most."""
    dense = batched(graph)
    return outputs_db(dense, (with_grids(dense, plan) for plan in plans), images)
