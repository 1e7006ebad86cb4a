"""The ledger: per layer and edge, what was planned and what each exported file holds, read back from the file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeslim.export import read_back
from edgeslim.export.job import Held, Spelling
from edgeslim.formats import FormatName
from edgeslim.model.numerics import Numerics

SCALE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Row:
    """One planned number and what one file holds in its place; `state` is same, absent or differs."""

    kind: str  # "edge" or "layer"
    name: str
    planned_dtype: str
    planned_scale: float  # of a layer: its largest; 1 for fp16
    planned_zero_point: int
    held_operator: str | None
    held_dtype: str | None
    held_scale: float | None
    held_zero_point: int | None
    state: str
    reason: str | None

    @property
    def unexplained(self) -> bool:
        """Tell whether the file departs from the plan without a stated reason."""
        return self.state != "same" and self.reason is None


def read_ledger(file_format: FormatName, path: Path, numerics: Numerics, spelling: Spelling) -> list[Row]:
    """Return a row for every planned edge and layer with int8 or fp16 weights, comparing plan and file (`path`)."""
    edges, weights = read_back(file_format, path, spelling)
    holders: dict[str, str] = {}
    for name in edges:
        holders.setdefault(numerics.edges[name].tied_to, name)
    rows = []
    for name, edge in numerics.edges.items():
        reason = spelling.absent.get(name)
        if reason is None and edge.tied_to in holders:
            reason = f"one scale with `{holders[edge.tied_to]}`, which the file holds"
        rows.append(_edge_row(name, edge.scale, edge.zero_point, edges.get(name), reason))
    return rows + [
        _layer_row(name, numerics.layers[name].weight_scales, weights.get(name))
        if name in numerics.rounded_layers
        else _half_row(name, weights.get(name))
        for name in numerics.narrow_layers
    ]


def _edge_row(name: str, scale: float, zero_point: int, held: Held | None, reason: str | None) -> Row:
    if held is None:
        return Row("edge", name, "uint8", scale, zero_point, None, None, None, None, "absent", reason)
    same = math.isclose(held.scale[0], scale, rel_tol=SCALE_TOLERANCE) and held.zero_point == zero_point
    integer = held.dtype in ("uint8", "int8")
    state = "same" if same and integer else "differs"
    return Row(
        "edge", name, "uint8", scale, zero_point, held.operator, held.dtype, held.scale[0], held.zero_point, state, None
    )


def _layer_row(name: str, scales: tuple[float, ...], held: Held | None) -> Row:
    largest = max(scales)
    if held is None or not held.scale:  # kept in float: a departure without a reason, which is told
        operator, dtype = (None, None) if held is None else (held.operator, held.dtype)
        return Row("layer", name, "int8", largest, 0, operator, dtype, None, None, "absent", None)
    same = (
        held.dtype in ("int8", "i8")
        and len(held.scale) == len(scales)
        and all(math.isclose(a, b, rel_tol=SCALE_TOLERANCE) for a, b in zip(held.scale, scales, strict=True))
    )
    state = "same" if same else "differs"
    return Row(
        "layer", name, "int8", largest, 0, held.operator, held.dtype, max(held.scale), held.zero_point, state, None
    )


def _half_row(name: str, held: Held | None) -> Row:
    if held is None:
        return Row("layer", name, "float16", 1.0, 0, None, None, None, None, "absent", None)
    state = "same" if held.dtype == "float16" else "differs"
    return Row("layer", name, "float16", 1.0, 0, held.operator, held.dtype, None, None, state, None)


def save_spellings(spellings: Mapping[str, Spelling], path: Path) -> None:
    """Write where the plan went in each file ({path of the file in the artifact: spelling})."""
    path.write_text(json.dumps({name: asdict(s) for name, s in spellings.items()}, indent=1) + "\n")


def load_spellings(path: Path) -> dict[str, Spelling]:
    """Read what `save_spellings` wrote."""
    return {name: Spelling(**raw) for name, raw in json.loads(path.read_text()).items()}
