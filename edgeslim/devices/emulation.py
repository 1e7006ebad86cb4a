"""How QEMU stands in for a device, and what its counts cost there, as data: two sections of a device profile."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt

from edgeslim.devices.sourced import Hertz, Text
from edgeslim.errors import near_misses
from edgeslim.strict_yaml import Section

# What the counting plugin counts: each instruction is of one class, and `insns` is their sum.
CLASSES = (
    "branch",
    "div",
    "fma_vec",
    "fma_vec_fp16",
    "fp_divsqrt",
    "fp_scalar",
    "int",
    "ld",
    "mmla",
    "mul",
    "sdot_udot",
    "simd_other",
    "smlal_smull",
    "st",
    "sve",
    "sys",
    "vld",
    "vst",
)
MISSES = ("l1d_miss", "l2_miss", "l3_miss")
COUNTS = ("insns", *CLASSES, *MISSES, "mem_access", "mem_bytes")

Share = Annotated[StrictFloat, Field(ge=0)]
Ratio = Annotated[StrictFloat, Field(gt=0)]
AtLeastOne = Annotated[StrictInt, Field(gt=0)]


class Emulation(Section):
    """The core that QEMU emulates, and what the device's kernel says of it: runtimes choose their kernels by that.

    `midr` is the register MIDR_EL1, `cpu_features` the words of "Features" in /proc/cpuinfo. `source` vouches for all.
    """

    qemu_cpu: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    midr: Annotated[str, Field(pattern=r"^0x[0-9a-f]{8}$")]
    cpu_features: Annotated[tuple[Text, ...], Field(min_length=1)]
    source: Text

    @property
    def cpu_part(self) -> str:
        """The part number in `midr` ("0xd08"), as /proc/cpuinfo shows it."""
        return f"0x{self._bits(4, 12):03x}"

    @property
    def implementer(self) -> int:
        """The implementer in `midr`: 0x41 is Arm."""
        return self._bits(24, 8)

    @property
    def variant(self) -> int:
        """The variant in `midr`: the n of the core's release rNpM."""
        return self._bits(20, 4)

    @property
    def revision(self) -> int:
        """The revision in `midr`: the m of the core's release rNpM."""
        return self._bits(0, 4)

    def _bits(self, first: int, count: int) -> int:
        return int(self.midr, 16) >> first & (1 << count) - 1


class Cost(Section):
    """How many cycles one of some counts takes; `counts` are names of COUNTS, added up."""

    name: Text
    counts: Annotated[tuple[Text, ...], Field(min_length=1)]
    cycles: Annotated[StrictFloat, Field(ge=0)]


class Errors(Section):
    """How far estimates of times that were left out of the fit lay from them, as shares of the time: 0.1 is 10 %."""

    mean: Share
    worst: Share


class Speedup(Section):
    """How many times as fast several threads are as one, over the networks that were timed with both."""

    lowest: Ratio
    median: Ratio
    highest: Ratio

    def faults(self) -> Iterator[str]:
        """Yield that the three are out of order."""
        if not self.lowest <= self.median <= self.highest:
            yield "expected `lowest`, `median` and `highest` in that order"


class Estimator(Section):
    """What counts cost in cycles on the device: cycles = sum of cost times count, and seconds = cycles / clock.

    `costs` were fitted on `times` times of `networks` networks, taken in `runtime` with 1 thread; `source` says where
    those are from. `each_left_out` leaves out one time, `networks_left_out` every precision of a network. Of ten
    networks left out nine lay within `band` of their estimate, as a share of it. Written by tools/fit_estimator.py.
    """

    runtime: Text
    precisions: Annotated[tuple[Literal["fp32", "fp16", "int8"], ...], Field(min_length=1)]
    clock: Hertz
    costs: Annotated[tuple[Cost, ...], Field(min_length=1)]
    times: AtLeastOne
    networks: AtLeastOne
    each_left_out: Errors
    networks_left_out: Errors
    band: Share
    four_threads: Speedup | None = None
    source: Text

    def faults(self) -> Iterator[str]:
        """Yield what would make an estimate wrong, or none of it."""
        if self.clock.value is None:
            yield "`clock` is null; cycles cannot become seconds"
        named = [count for cost in self.costs for count in cost.counts]
        for count in named:
            if count not in COUNTS:
                yield f"`costs` names the unknown count `{count}`{near_misses(count, COUNTS)}"
        if len(set(named)) != len(named):
            yield "`costs` names a count twice; its cycles would be added twice"
        missing = [] if "insns" in named else [count for count in CLASSES if count not in named]
        if missing:
            yield f"`costs` leaves out {', '.join(missing)}; what costs nothing must be said to"
        if "insns" in named and any(count in CLASSES for count in named):
            yield "`costs` names `insns` beside a class of instructions; those would be counted twice"
