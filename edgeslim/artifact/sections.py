"""What accelerators add to a manifest: files compiled for an NPU, the precisions of a GPU's operators."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgeslim.artifact.part import Count, Part, Percent, RelativePath

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class AcceleratorSection(Part):
    """What an accelerator adds to a manifest: under which key, by which backend, and what follows for the files.

    `named`: files that must lie in the artifact; `sizes`: bytes by path, for those that are said to have so many;
    `compiled_from`: what the device runs in place of a model file; `note`: what a verification cannot do.
    """

    KEY: ClassVar[str]
    BACKEND: ClassVar[str]

    @property
    def named(self) -> tuple[str, ...]:
        """Paths of files beside the models."""
        return ()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes that files are said to have."""
        return {}

    @property
    def compiled_from(self) -> tuple[str, str] | None:
        """The path of a file that the device runs in place of a model file, and that file's path."""
        return None

    @property
    def note(self) -> str | None:
        """What `verify` must say."""
        return None


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


class GpuFiles(AcceleratorSection):
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

    KEY: ClassVar[str] = "gpu"
    BACKEND: ClassVar[str] = "tensorrt"

    @property
    def named(self) -> tuple[str, ...]:
        """The script that builds engines."""
        return (self.builder,)


class ReferenceKernels(Part):
    """How TensorFlow Lite Micro's reference kernels answer beside LiteRT: the share of equal int8 outputs, in steps."""

    version: str
    images: Annotated[int, Field(ge=1)]
    equal_pct: Percent
    max_lsb: Count


class CpuOperator(Part):
    """An operator the compiler left to the CPU: the tensor it writes, why, and what would cure it."""

    name: str
    operator: str
    reason: str
    cure: str


class Simulated(Part):
    """What the compiler simulates for one inference; none of it is measured.

    `..._bytes` is the peak a memory holds, `..._moved_bytes` what is read from and written to it.
    """

    kind: Literal["simulated"] = "simulated"
    inference_s: Annotated[float, Field(ge=0)]
    cycles: Count
    sram_bytes: Count
    flash_bytes: Count
    dram_bytes: Count
    sram_moved_bytes: Count
    flash_moved_bytes: Count
    dram_moved_bytes: Count
    known_error: str


class CompiledFile(AcceleratorSection):
    """One model file compiled for the device's NPU, and what the compiler says about it.

    `goal`: of those tried, the one kept; `npu_operators`: how many of each name; `reports`: the compiler's own.
    """

    runtime: Literal["ethos-u"] = "ethos-u"
    path: RelativePath
    made_from: RelativePath
    bytes: Count
    compiler: str
    compiler_version: str
    accelerator_config: str
    system_config: str
    memory_mode: str
    config: RelativePath
    config_sha256: Sha256
    goal: Literal["Performance", "Size"]
    npu_operators: dict[str, Count]
    cpu_operators: tuple[CpuOperator, ...]
    npu_pct: Percent
    simulated: Simulated
    reports: tuple[RelativePath, ...]

    KEY: ClassVar[str] = "compiled"
    BACKEND: ClassVar[str] = "ethos_u"

    @property
    def named(self) -> tuple[str, ...]:
        """The compiled file, the compiler's configuration and its reports."""
        return (self.path, self.config, *self.reports)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the compiled file."""
        return {self.path: self.bytes}

    @property
    def compiled_from(self) -> tuple[str, str] | None:
        """The compiled file, and the model file that it was made from."""
        return self.path, self.made_from

    @property
    def note(self) -> str | None:
        """It runs on the device alone."""
        return f"{self.path} runs on its NPU alone: its hash was checked, it was not replayed"

    @property
    def agent_arguments(self) -> tuple[str, ...]:
        """Agents run the model files as ever."""
        return ()
