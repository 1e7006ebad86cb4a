"""What each format makes of each operator, as it was found by building and running one (tools/operator_table.py)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from edgeslim.formats import FormatName
from edgeslim.resources import in_package

FILE = in_package("export/operators.json")
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "ai-edge-litert", "litert-torch", "ai-edge-quantizer")


@dataclass(frozen=True)
class Fact:
    """How the INT8 file of a format computes an operator: on integers, in float, or `none`, for a reason."""

    kind: Literal["integer", "float", "none"]
    reason: str = ""


@cache
def operator_facts() -> Mapping[str, Mapping[FormatName, Fact]]:
    """Return the facts by operator (aten's name, as in a normalized network) and format."""
    table = json.loads(FILE.read_text("utf-8"))["operators"]
    return {operator: {name: _fact(told) for name, told in formats.items()} for operator, formats in table.items()}


def tried_with() -> Mapping[str, str]:
    """Return the versions of the packages with which the facts were found."""
    versions: Mapping[str, str] = json.loads(FILE.read_text("utf-8"))["versions"]
    return versions


def _fact(told: str) -> Fact:
    if told in ("integer", "float"):
        return Fact("integer" if told == "integer" else "float")
    return Fact("none", told.removeprefix("no: "))
