"""What an emulated inference took, counted and not timed, and what follows from it for the device."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.artifact.records import read, text_of
from edgeslim.emulation.estimator import EnergyEstimate, Estimate
from edgeslim.measure.measurement import Caution, Kind

FORMAT: Literal["edgeslim-emulated-inference/1"] = "edgeslim-emulated-inference/1"

# Instructions that multiply -> the counts that tell them apart: what a runtime's kernels are made of.
KERNELS = {
    "mmla": ("mmla",),
    "sdot/udot": ("sdot_udot",),
    "smlal/smull": ("smlal_smull",),
    "fmla fp16": ("fma_vec_fp16",),
    "fmla": ("fma_vec",),
    "sve": ("sve",),
}
LEAST_SHARE = 0.02  # of all instructions, below which a kind is no kernel of the inference

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@validated_dataclass(frozen=True, config=_STRICT)
class EmulatedInference:
    """One model in one runtime on an emulated core: what one inference took, caches warm, by the plugin's names.

    `counts` are simulated: instructions by class (`insns` is their sum), memory accesses and bytes, misses of the
    modelled caches. An emulator's times mean nothing, so there is none. `estimate` and `energy` are what models make of
    the counts, None where `no_estimate` says why. `golden_samples` golden vectors were replayed; `seen` holds what gave
    reason to doubt. `counts` are of one thread; `threads` is what the estimate is for.
    """

    label: str
    runtime: str
    runtime_version: str
    library: str
    model: str
    model_sha256: str
    precision_requested: str
    precision_actual: str
    executors: dict[str, int]
    device: str
    core: str
    emulator: str
    caches: tuple[str, ...]
    threads: int
    counts: dict[str, int]
    golden_samples: int
    seen: tuple[Caution, ...]
    estimate: Estimate | None
    energy: EnergyEstimate | None
    no_estimate: str | None
    kind: Literal["simulated"] = "simulated"
    format: Literal["edgeslim-emulated-inference/1"] = FORMAT

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kinds of multiplying instructions that make up 2 % or more of the inference, most frequent first."""
        shares = {name: sum(self.counts.get(one, 0) for one in counts) for name, counts in KERNELS.items()}
        least = LEAST_SHARE * self.counts["insns"]
        return tuple(sorted((name for name, share in shares.items() if share >= least), key=lambda name: -shares[name]))

    def failing(self, kinds: tuple[Kind, ...]) -> list[Caution]:
        """Return the cautions of some kinds."""
        return [caution for caution in self.seen if caution.kind in kinds]

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return text_of(_ADAPTER, self)


_ADAPTER = TypeAdapter(EmulatedInference)


def load(file: Path) -> EmulatedInference:
    """Read a record that was saved; BadInput names the file and what is wrong with it."""
    return read(_ADAPTER, file.read_bytes(), str(file))
