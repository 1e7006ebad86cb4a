"""What Vela reports about a network it compiled: where each operator runs and why, and what it estimates that costs.

The per-layer CSV, the summary CSV and the warnings on its standard output, as ethos-u-vela 5.2.0 writes them.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from edgeslim.errors import ToolFailed

KIB = 1024
NOT_TOLD = "Vela gives no reason"
_WARNING = re.compile(r"^Warning \(supported operators\) operator: (?P<operator>\S+), ofm: '(?P<name>.*)'$")
# What Vela objects to (searched in operator and reason) -> what cures it.
_CURES = (
    (
        r"float|^(de)?quantize\b",
        "it is float: use the INT8 file with INT8 input and output, without `keep_float` and with `promote: false`",
    ),
    (r"batch", "export it for a batch of 1"),
    (r"\bmean\b|axis", "take the mean over height and width, channels last"),
)
_ANY_CURE = "replace it by an operator the NPU runs (`edgeslim check`), or lower `min_npu_ops_pct`"


@dataclass(frozen=True)
class PlacedOperator:
    """One operator as Vela placed it; `reason` says why one is on the CPU."""

    name: str  # the tensor it writes
    original: str  # in the TFLite file
    operator: str  # in the compiled network
    on_npu: bool
    cycles: int
    reason: str | None = None

    @property
    def cure(self) -> str:
        """What would bring it onto the NPU."""
        text = f"{self.original}: {self.reason}"
        return next((cure for sign, cure in _CURES if re.search(sign, text, re.IGNORECASE)), _ANY_CURE)


@dataclass(frozen=True)
class Placement:
    """Where the operators of a compiled network run."""

    operators: tuple[PlacedOperator, ...]

    @property
    def on_npu(self) -> tuple[PlacedOperator, ...]:
        """Those on the NPU."""
        return tuple(one for one in self.operators if one.on_npu)

    @property
    def on_cpu(self) -> tuple[PlacedOperator, ...]:
        """Those left to the CPU."""
        return tuple(one for one in self.operators if not one.on_npu)

    @property
    def npu_pct(self) -> float:
        """Share of the operators on the NPU, in percent; 0 of a network without operators."""
        return 100.0 * len(self.on_npu) / len(self.operators) if self.operators else 0.0


@dataclass(frozen=True)
class VelaEstimate:
    """What Vela simulates for one inference: seconds, cycles of the NPU, peak bytes in and bytes moved by each memory.

    Nothing of it is measured.
    """

    inference_s: float
    cycles: int
    sram_bytes: int
    flash_bytes: int
    dram_bytes: int
    sram_moved_bytes: int
    flash_moved_bytes: int
    dram_moved_bytes: int


def counts(operators: Iterable[PlacedOperator]) -> dict[str, int]:
    """Return how many operators there are of each name, most frequent first."""
    return dict(Counter(one.original for one in operators).most_common())


def read_placement(per_layer: str, log: str) -> Placement:
    """Return the placement from the text of the per-layer CSV and of the log; ToolFailed for another layout."""
    reasons = _reasons(log)
    return Placement(tuple(_operator(row, reasons) for row in _rows(per_layer, "per-layer CSV")))


def _operator(row: dict[str, str], reasons: dict[str, str]) -> PlacedOperator:
    name, target = _cell(row, "Name", "per-layer CSV"), _cell(row, "Target", "per-layer CSV")
    if target not in ("NPU", "CPU"):
        raise ToolFailed(f"Vela's per-layer CSV places `{name}` on `{target}`; expected NPU or CPU")
    on_npu = target == "NPU"
    return PlacedOperator(
        name=name,
        original=_cell(row, "Original Operator", "per-layer CSV"),
        operator=_cell(row, "NNG Operator", "per-layer CSV"),
        on_npu=on_npu,
        cycles=int(_number(row, "Op Cycles", "per-layer CSV")),
        reason=None if on_npu else reasons.get(name, NOT_TOLD),
    )


def read_estimate(summary: str) -> VelaEstimate:
    """Return the estimate from the text of the summary CSV; ToolFailed for another layout."""
    rows = _rows(summary, "summary CSV")
    if len(rows) != 1:
        raise ToolFailed(f"Vela's summary CSV holds {len(rows)} networks; expected one")

    def number(column: str) -> float:
        return _number(rows[0], column, "summary CSV")

    def peak(*memories: str) -> int:
        return round(KIB * sum(number(f"{memory}_memory_used") for memory in memories))

    def moved(*memories: str) -> int:
        return round(sum(number(f"{memory}_total_bytes") for memory in memories))

    flash = ("on_chip_flash", "off_chip_flash")
    return VelaEstimate(
        inference_s=number("inference_time"),
        cycles=round(number("cycles_total")),
        sram_bytes=peak("sram"),
        flash_bytes=peak(*flash),
        dram_bytes=peak("dram"),
        sram_moved_bytes=moved("sram"),
        flash_moved_bytes=moved(*flash),
        dram_moved_bytes=moved("dram"),
    )


def _reasons(log: str) -> dict[str, str]:
    """Return {tensor: reason} of the warnings: the lines after each up to an empty one, all that there are for it."""
    found: dict[str, list[str]] = {}
    name: str | None = None
    for line in log.splitlines():
        if warning := _WARNING.match(line):
            name = warning["name"]
        elif not line.strip():
            name = None
        elif name is not None:
            found.setdefault(name, []).append(line.strip().removeprefix("Reason: "))
    return {name: "; ".join(lines) for name, lines in found.items()}


def _rows(text: str, what: str) -> list[dict[str, str]]:
    """Return the rows of a CSV of Vela's, which quotes nothing: a comma in the last column belongs to it."""
    lines = text.splitlines()
    if not lines:
        raise ToolFailed(f"Vela's {what} is empty")
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(",", len(columns) - 1), strict=False)) for line in lines[1:] if line]
    if any(len(row) != len(columns) for row in rows):
        raise ToolFailed(f"Vela's {what} has a line with fewer than {len(columns)} columns")
    return rows


def _cell(row: dict[str, str], column: str, what: str) -> str:
    if column not in row:
        raise ToolFailed(f"Vela's {what} has no column `{column}`; it has {', '.join(row)}")
    return row[column]


def _number(row: dict[str, str], column: str, what: str) -> float:
    cell = _cell(row, column, what)
    try:
        return float(cell)
    except ValueError as error:
        raise ToolFailed(f"Vela's {what}, `{column}`: expected a number, got `{cell}`") from error
