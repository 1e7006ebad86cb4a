"""Shuffles of channels and places are views and permutations.

pixel_shuffle: (N, C s s, H, W) seen as (N, C, s, s, H, W), its axes in the order N, C, H, s, W, s, seen as an image;
pixel_unshuffle the same backwards; channel_shuffle: (N, g, C / g, H, W) with g and C / g exchanged.
"""

from collections.abc import Sequence

from torch import fx

from edgeslim.model.graph import ATEN, arguments, shape_of
from edgeslim.model.normalize.rewriting import inserted, replaced


def rewrite(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Write one shuffle as a view, a permutation and a view."""
    if node.target is ATEN.pixel_shuffle.default:
        source, side = arguments(node)
        return replaced(graph, node, unfolded(graph, node, source, (side, side)))
    if node.target is ATEN.pixel_unshuffle.default:
        batch, channels, height, width = shape_of(arguments(node)[0])
        side = arguments(node)[1]
        seen = [batch, channels, height // side, side, width // side, side]
        return _through(graph, node, seen, [0, 1, 3, 5, 2, 4])
    if node.target is ATEN.channel_shuffle.default:
        (batch, channels, height, width), groups = shape_of(arguments(node)[0]), arguments(node)[1]
        return _through(graph, node, [batch, groups, channels // groups, height, width], [0, 2, 1, 3, 4])
    return False


def unfolded(graph: fx.GraphModule, before: fx.Node, source: fx.Node, sides: tuple[int, int]) -> fx.Node:
    """Return an image (N, C, H s, W t) whose places lie in the channels of another one (N, C s t, H, W)."""
    batch, channels, height, width = shape_of(source)
    high, wide = sides
    parted = [batch, channels // (high * wide), high, wide, height, width]
    seen = inserted(graph, before, ATEN.reshape.default, source, parted)
    moved = inserted(graph, before, ATEN.permute.default, seen, [0, 1, 4, 2, 5, 3])
    return inserted(graph, before, ATEN.reshape.default, moved, [batch, parted[1], height * high, width * wide])


def _through(graph: fx.GraphModule, node: fx.Node, seen: Sequence[int], order: Sequence[int]) -> bool:
    view = inserted(graph, node, ATEN.reshape.default, arguments(node)[0], list(seen))
    moved = inserted(graph, node, ATEN.permute.default, view, list(order))
    return replaced(graph, node, inserted(graph, node, ATEN.reshape.default, moved, list(shape_of(node))))
