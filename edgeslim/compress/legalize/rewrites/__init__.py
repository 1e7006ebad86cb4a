"""Rewrites that turn what an NPU refuses into what it runs: one a file, with the functions below; no registry.

`EXACT` (bool): the rewritten network computes the same, but for rounding; otherwise its layers are fitted again.
`applies(node, limits) -> bool`: can this node of a folded graph be rewritten, and to something within the limits?
`rewrite(graph, node, limits)`: does it, in place. An inexact rewrite keeps the names of the nodes that stay.
"""

import pkgutil
from importlib import import_module
from types import ModuleType


def known_rewrites() -> list[str]:
    """Return the names of all rewrites, sorted, without loading them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def rewrite_named(name: str) -> ModuleType:
    """Return the module of a rewrite."""
    return import_module(f"edgeslim.compress.legalize.rewrites.{name}")
