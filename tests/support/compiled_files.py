"""Files of an NPU as if its compiler had written them."""

from pathlib import Path

from edgeslim.backends.ethos_u.compile import Compiled
from edgeslim.backends.ethos_u.vela_report import Placement, VelaEstimate
from edgeslim.devices.profile import Compiler, load_profile
from edgeslim.devices.sourced import Bytes

IMX93 = load_profile("nxp-imx93").compiler


def limited(*, sram: str | None = None, flash: str | None = None) -> Compiler:
    limits = {name: Bytes(value=size, source="a test") for name, size in (("sram", sram), ("flash", flash))}
    return IMX93.model_copy(update=limits)


def compiled(folder: Path, goal: str, inference_s: float, sram_bytes: int) -> Compiled:
    file = folder / f"{goal}.tflite"
    file.write_bytes(bytes(1000))
    estimate = VelaEstimate(inference_s, 1, sram_bytes, 0, 0, 0, 0, 0)
    return Compiled(goal, file, file, file, file, Placement(()), estimate)
