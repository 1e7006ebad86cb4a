"""What each format makes of each operator, as it was found by building and running one (tools/operator_table.py)."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from torch import fx

from edgeslim.formats import FormatName
from edgeslim.model.graph import ATEN, argument, operator_name, shape_of
from edgeslim.resources import in_package

FILE = in_package("export/operators.json")
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "ai-edge-litert", "litert-torch", "ai-edge-quantizer")


@dataclass(frozen=True)
class Fact:
    """How the INT8 file of a format computes an operator: on integers, in float, or `none`, for a reason."""

    kind: Literal["integer", "float", "none"]
    reason: str = ""


def fact_name(node: fx.Node) -> str:
    """Return the name under which the table has an operator: means over places, channels and tokens are three."""
    if node.target is ATEN.mean.dim:
        rank = len(shape_of(node.all_input_nodes[0]))
        if rank != 4:
            return "token_mean"
        if any(axis % rank < 2 for axis in argument(node, "dim") or range(rank)):
            return "channel_mean"
    return operator_name(node)


@cache
def operator_facts() -> Mapping[str, Mapping[FormatName, Fact]]:
    """Return the facts by operator (`fact_name`, of a normalized network) and format."""
    table = json.loads(FILE.read_text("utf-8"))["operators"]
    return {operator: {name: _fact(told) for name, told in formats.items()} for operator, formats in table.items()}


def in_float(operators: Iterable[str], formats: Iterable[FormatName]) -> tuple[str, ...]:
    """Return a line for each format whose INT8 file computes some of these operators in float, with their names."""
    counts, facts = Counter(operators), operator_facts()
    lines = []
    for name in formats:
        floats = [one for one in sorted(counts) if one in facts and facts[one][name].kind == "float"]
        if floats:
            lines.append(f"in float in {name} int8: {', '.join(f'{one} ({counts[one]}x)' for one in floats)}")
    return tuple(lines)


def steps_apart() -> Mapping[str, int | None]:
    """Return by how many steps of a network's output ONNX Runtime and LiteRT differ at most, by its operator.

    None where one of the two has no such file.
    """
    apart: Mapping[str, int | None] = json.loads(FILE.read_text("utf-8"))["steps_apart"]
    return apart


def layers_read() -> Mapping[str, Mapping[FormatName, Mapping[str, str]]]:
    """Return what kernels of layers read, "uint8 x int8", by the layers' precision, the format and the operator."""
    read: Mapping[str, Mapping[FormatName, Mapping[str, str]]] = json.loads(FILE.read_text("utf-8"))["precisions"]
    return read


def tried_with() -> Mapping[str, str]:
    """Return the versions of the packages with which the facts were found."""
    versions: Mapping[str, str] = json.loads(FILE.read_text("utf-8"))["versions"]
    return versions


def _fact(told: str) -> Fact:
    if told in ("integer", "float"):
        return Fact("integer" if told == "integer" else "float")
    return Fact("none", told.removeprefix("no: "))
