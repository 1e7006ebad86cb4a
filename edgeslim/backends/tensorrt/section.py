"""What an artifact says and holds for a GPU: the operators' precisions, the check on the CPU, how engines are built."""

import importlib.metadata
import platform

from edgeslim.artifact.sections import GpuFiles, HalfCheck, OperatorPrecision
from edgeslim.devices.profile import DeviceProfile
from edgeslim.model.fp16_plan import HalfPlan
from edgeslim.resources import in_package

BUILDER = "build_engine.py"
SOURCE = in_package(f"backends/tensorrt/{BUILDER}")
# A strongly typed network runs every operator in the type that the file gives it; INT8 comes from the QDQ pairs.
FLAGS = dict.fromkeys(("fp32", "fp16", "int8"), ("--stronglyTyped", "--noTF32"))
PROVIDER = "TensorrtExecutionProvider"
SESSION_ENTRIES = {"session.disable_cpu_ep_fallback": "1"}
AGENT_ARGUMENTS = ("--provider", PROVIDER, "--no-fallback")  # the agent sets the entry for the second


def gpu_files(plan: HalfPlan, check: HalfCheck, profile: DeviceProfile) -> GpuFiles:
    """Return the manifest's entry."""
    support = profile.tensorrt
    if support is None:
        raise ValueError(f"{profile.name} has no TensorRT")
    return GpuFiles(
        checked_on=(
            f"fp16 and bf16 simulated in PyTorch {importlib.metadata.version('torch')}, the files run in ONNX Runtime "
            f"{importlib.metadata.version('onnxruntime')}, both on a CPU ({platform.machine()}); nothing ran on a GPU"
        ),
        io=plan.io,
        min_sqnr_db=plan.min_sqnr_db,
        headroom=plan.headroom,
        sqnr_images=plan.images,
        operators=tuple(
            OperatorPrecision(
                name=one.name,
                operator=one.operator,
                weight=one.weight,
                precision="fp16" if one.reason is None else "fp32",
                peak=one.peak,
                sqnr_db=one.sqnr_db,
                bf16_sqnr_db=one.bf16_sqnr_db,
                reason=one.reason,
            )
            for one in plan.operators
        ),
        check=check,
        builder=BUILDER,
        min_tensorrt_version=support.min_version,
        flags={precision: FLAGS[precision] for precision in support.precisions},
        provider=PROVIDER,
        session_entries=SESSION_ENTRIES,
        agent_arguments=AGENT_ARGUMENTS,
    )
