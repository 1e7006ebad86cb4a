"""What a compiler simulates of the file that an NPU runs: kept beside the measurements, and never taken for one."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass as validated_dataclass

from edgeslim.artifact.records import read, text_of
from edgeslim.errors import BadInput

FILE = "simulated-vela.json"
FORMAT: Literal["edgeslim-simulation/1"] = "edgeslim-simulation/1"

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Count = Annotated[int, Field(ge=0)]


@validated_dataclass(frozen=True, config=_STRICT)
class Figures:
    """One inference of the network compiled for one goal; `kept` for the file that the artifact holds.

    `..._bytes` is the peak a memory holds, `..._moved_bytes` what is read from and written to it.
    """

    goal: str
    kept: bool
    inference_s: Annotated[float, Field(ge=0)]
    cycles: Count
    sram_bytes: Count
    flash_bytes: Count
    dram_bytes: Count
    sram_moved_bytes: Count
    flash_moved_bytes: Count
    dram_moved_bytes: Count


@validated_dataclass(frozen=True, config=_STRICT)
class Simulation:
    """What the compiler says of every goal it was asked for, which one that was, and how far off it is known to be.

    `model` is the compiled file's path in the artifact, `config_sha256` the hash of the compiler's configuration file.
    """

    label: str
    device: str
    model: str
    model_sha256: str
    compiler: str
    compiler_version: str
    accelerator_config: str
    system_config: str
    memory_mode: str
    config_sha256: str
    goals: tuple[Figures, ...]
    known_error: str
    kind: Literal["simulated"] = "simulated"
    format: Literal["edgeslim-simulation/1"] = FORMAT

    @property
    def kept(self) -> Figures:
        """The figures of the file that the artifact holds."""
        return next(one for one in self.goals if one.kept)

    def __post_init__(self) -> None:
        if sum(one.kept for one in self.goals) != 1:
            raise BadInput(f"{self.label}: expected exactly one goal whose file was kept")


_ADAPTER = TypeAdapter(Simulation)


def save_simulation(one: Simulation, folder: Path) -> None:
    """Write a simulation into a folder of measurements."""
    (folder / FILE).write_text(text_of(_ADAPTER, one), encoding="utf-8")


def load_simulation(folder: Path) -> Simulation | None:
    """Return the simulation in a folder of measurements, None where there is none; BadInput for one that is damaged."""
    file = folder / FILE
    return read(_ADAPTER, file.read_bytes(), str(file)) if file.is_file() else None
