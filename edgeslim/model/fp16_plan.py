"""Half precision decided once: which operators of a network run in fp16, which stay fp32 and why."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

LARGEST = 65504.0  # the largest finite fp16 number
HalfIo = Literal["fp32", "fp16"]


@dataclass(frozen=True)
class HalfOperator:
    """One operator of the folded network; `reason` says why it stays fp32, None for one that runs in fp16.

    `peak`: the largest magnitude it reads, holds or writes on the calibration images. `sqnr_db`, `bf16_sqnr_db`: of
    its output, it alone being rounded.
    """

    name: str
    operator: str
    weight: str | None  # qualified name, of a convolution or linear layer
    peak: float
    sqnr_db: float
    bf16_sqnr_db: float
    reason: str | None

    @property
    def precision(self) -> str:
        """The precision it runs in."""
        return "fp16" if self.reason is None else "fp32"


@dataclass(frozen=True)
class HalfPlan:
    """Every operator in graph order; what the file takes and gives; and by what the operators were judged."""

    operators: tuple[HalfOperator, ...]
    io: HalfIo
    min_sqnr_db: float
    headroom: float
    images: int  # gave the SQNR; the peaks are of all calibration images

    @property
    def kept(self) -> dict[str, HalfOperator]:
        """The operators that stay fp32, by name."""
        return {one.name: one for one in self.operators if one.reason is not None}

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_half(path: Path) -> HalfPlan:
    """Read a plan that `HalfPlan.save` wrote."""
    raw = json.loads(path.read_text())
    return HalfPlan(**{**raw, "operators": tuple(HalfOperator(**one) for one in raw["operators"])})
