"""What the models of a manifest are built from, and what a GPU build adds to it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# No segment may begin with a dot: that keeps `..` and hidden files out, and needs no escaping in SHA256SUMS.
PATH_PATTERN = r"^[A-Za-z0-9_+@][A-Za-z0-9._+@-]*(/[A-Za-z0-9_+@][A-Za-z0-9._+@-]*)*$"
RelativePath = Annotated[str, Field(pattern=PATH_PATTERN)]
Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Part(BaseModel):
    """A part of the manifest: read strictly, never changed."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class OperatorPrecision(Part):
    """One operator of the network: what it runs in, and for one that stays fp32 why.

    `peak`: the largest magnitude it reads, holds or writes in calibration; the ratios are of its output, it alone being
    rounded.
    """

    name: str
    operator: str
    weight: str | None
    precision: Literal["fp32", "fp16"]
    peak: Annotated[float, Field(ge=0)]
    sqnr_db: float
    bf16_sqnr_db: float
    reason: str | None


class HalfCheck(Part):
    """How often the network names the same class as in fp32, on `images` of the evaluation set.

    `simulated_pct`: in fp16 with its kept operators, simulated in PyTorch; `bf16_simulated_pct`: all of it in bfloat16;
    `file_pct`: the fp16 file in ONNX Runtime on a CPU, which computes in fp32 and rounds weights alone. `overflow`: the
    operator that left fp16 on an image of this set.
    """

    images: Annotated[int, Field(ge=1)]
    simulated_pct: Percent
    bf16_simulated_pct: Percent
    file_pct: Percent
    simulated_max_error: Annotated[float, Field(ge=0)] | None  # of a logit; null where one is not finite
    overflow: str | None


class GpuFiles(Part):
    """What a GPU needs beyond the model files: how they were checked, and how engines are built on the device.

    `flags`: trtexec's, for the precision of each file. `provider`, `session_entries`: what a session of ONNX Runtime on
    the device asks for, so that nothing falls back to the CPU unseen; `agent_arguments`: the same in the words of
    edgeslim's agents, which `edgeslim bench` gives them.
    """

    checked_on: str
    io: Literal["fp32", "fp16"]
    min_sqnr_db: float
    headroom: float
    sqnr_images: Count
    operators: tuple[OperatorPrecision, ...]
    check: HalfCheck
    builder: RelativePath
    min_tensorrt_version: str
    flags: dict[str, tuple[str, ...]]
    provider: str
    session_entries: dict[str, str]
    agent_arguments: tuple[str, ...]
