"""What an exporter process is told and what it answers, as files in its work folder."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeslim.formats import FORMATS, FormatName, Io, RuntimeName
from edgeslim.grid import Grid
from edgeslim.model.fp16_plan import HalfPlan, load_half
from edgeslim.model.numerics import Numerics, load_numerics

INPUT = "input"  # what every file calls the network's one input


@dataclass(frozen=True)
class Job:
    """One file to write, in a fresh process."""

    format: FormatName  # the exporter's module
    precision: str  # "fp32", "fp16" or "int8"
    source: Path  # a torch.export program; for OpenVINO the ONNX file it is made from
    target: Path
    probe: Path  # some preprocessed calibration images (n, C, H, W), float32
    numerics: Path | None = None  # the plan; None for fp32
    spelling: Path | None = None  # how the source already spells it, where the source is an exported file
    runtime: RuntimeName = "onnxruntime"  # of an ONNX file: for whose kernels its QDQ pairs are placed
    io: Io = "float32"  # what the file takes and gives
    half: Path | None = None  # the HalfPlan of an fp16 job
    outputs: tuple[str, ...] = ()  # what every file calls the network's outputs, in its order

    @property
    def files(self) -> list[Path]:
        """The files this job writes, the one to load first."""
        return [self.target, *(self.target.with_suffix(suffix) for suffix in FORMATS[self.format].companions)]

    def plan(self) -> Numerics:
        """Return the plan of an int8 job."""
        if self.numerics is None:
            raise ValueError(f"the {self.format} {self.precision} job has no numerics")
        return load_numerics(self.numerics)

    def half_plan(self) -> HalfPlan:
        """Return the plan of an fp16 job."""
        if self.half is None:
            raise ValueError(f"the {self.format} {self.precision} job has no plan for half precision")
        return load_half(self.half)

    def images(self, count: int | None = None) -> NDArray[np.float32]:
        """Return the first `count` probe images, or all, (n, C, H, W)."""
        images: NDArray[np.float32] = np.load(self.probe)
        return images[:count]

    def save(self, path: Path) -> None:
        """Write the job as JSON."""
        raw = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        path.write_text(json.dumps(raw, indent=1))


def load_job(path: Path) -> Job:
    """Read a job that `Job.save` wrote."""
    raw = json.loads(path.read_text())
    paths = {
        k: Path(raw[k]) for k in ("source", "target", "probe", "numerics", "spelling", "half") if raw[k] is not None
    }
    outputs = tuple(raw["outputs"])
    return Job(raw["format"], raw["precision"], **paths, runtime=raw["runtime"], io=raw["io"], outputs=outputs)


def program_path(work: Path, precision: str) -> Path:
    """Return where the network whose files have a precision lies as a torch.export program."""
    return work / f"{precision}.pt2"


@dataclass(frozen=True)
class End:
    """An input or output of a written file; `grid` is None where it is float."""

    shape: tuple[int, ...]
    dtype: str  # numpy's name
    grid: Grid | None


@dataclass(frozen=True)
class Ends:
    """The input of a written file and its outputs, in order."""

    input: End
    outputs: tuple[End, ...]


@dataclass(frozen=True)
class Held:
    """What a written file holds for one planned edge or layer."""

    operator: str
    dtype: str
    scale: tuple[float, ...]
    zero_point: int


@dataclass(frozen=True)
class Spelling:
    """Where in a file the plan went."""

    edges: dict[str, str] = field(default_factory=dict)  # edge: tensor
    weights: dict[str, str] = field(default_factory=dict)  # layer: tensor of its weight
    nodes: dict[str, str] = field(default_factory=dict)  # layer: operator, as the runtime will name it
    absent: dict[str, str] = field(default_factory=dict)  # edge: why this file does not quantize it

    def save(self, path: Path) -> None:
        """Write the spelling as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))


def load_spelling(path: Path) -> Spelling:
    """Read a spelling that `Spelling.save` wrote."""
    return Spelling(**json.loads(path.read_text()))
