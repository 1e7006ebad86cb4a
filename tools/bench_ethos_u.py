"""What Vela makes of networks for a device with an Ethos-U: where operators run, simulated time and memory.

    python tools/bench_ethos_u.py [--device nxp-imx93] [NAME ...]

NAME is `default` (the bundled network) or one of torchvision's; without names all of NETWORKS. Each takes the steps of
the device's default recipe: what the NPU refuses is rewritten. Torchvision's have random weights: placement and time
hardly depend on the values, and accuracy is not asked for. Prints a Markdown table; every figure but the seconds of
compiling is Vela's simulation.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from edgeslim.backends.ethos_u.build import ends
from edgeslim.backends.ethos_u.compile import KNOWN_ERROR, Compiled, compile_network
from edgeslim.backends.ethos_u.vela_report import counts
from edgeslim.compress import fold
from edgeslim.compress.legalize import step as legalize
from edgeslim.compress.quantize import step as quantize
from edgeslim.devices.profile import Compiler, DeviceProfile, load_profile
from edgeslim.errors import BadInput
from edgeslim.export.export_all import PROBE_IMAGES, export_job
from edgeslim.model.context import Context
from edgeslim.model.graph import program_of
from edgeslim.model.load import load_model
from edgeslim.progress import silent
from edgeslim.table import markdown_rows as table
from edgeslim.units import show_memory

NETWORKS = ("default", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "resnet50", "shufflenet_v2_x1_0")
HEADER = (
    "network", "operators on the NPU", "on the CPU", "simulated", "SRAM", "other goal", "compiled file",
    "compiling, both goals",
)  # fmt: skip


def int8_file(name: str, profile: DeviceProfile, work: Path) -> Path:
    """Return the INT8 TFLite file of a network, with the inputs and outputs that the device wants."""
    bundled = name == "default"
    model = load_model(None, None) if bundled else load_model(f"torchvision:{name}", "random")
    data = model.task.read(None if bundled else "synthetic", model.facts)
    context = Context(profile, data, 0, work, silent)
    rewritten = legalize.apply(fold.apply(model, fold.Settings(), context), legalize.Settings(), context)
    planned = quantize.apply(rewritten, quantize.Settings(promote=False), context)
    if planned.numerics is None:
        raise ValueError(f"{name} was not quantized")
    images = next(iter(data.calibration.tensors()))[:PROBE_IMAGES]
    np.save(work / "probe.npy", images.numpy())
    planned.numerics.save(work / "numerics.json")
    torch.export.save(program_of(planned.graph, images[:1]), work / "int8.pt2")
    return export_job("tflite", "int8", work, [one.name for one in planned.outputs], ends(planned, "int8"))[0].target


def row(name: str, profile: DeviceProfile, compiler: Compiler) -> list[str]:
    """Return one network's line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        model = int8_file(name, profile, Path(folder))
        began_s = time.monotonic()
        best, other = compile_network(model, compiler, Path(folder) / "vela")
        compiling_s = time.monotonic() - began_s
        placed = best.placement
        unfit = "; ".join(best.excesses(compiler))
        return [
            name,
            f"{len(placed.on_npu)} of {len(placed.operators)}: {_listed(counts(placed.on_npu))}",
            _listed(counts(placed.on_cpu)) or "none",
            f"{_milliseconds(best)} ({best.goal})",
            show_memory(best.estimate.sram_bytes) + (f" ({unfit})" if unfit else ""),
            f"{_milliseconds(other)}, {show_memory(other.estimate.sram_bytes)} ({other.goal})",
            show_memory(best.flash_bytes),
            f"{compiling_s:.1f} s",
        ]


def _milliseconds(one: Compiled) -> str:
    return f"{one.estimate.inference_s * 1e3:.2f} ms"


def _listed(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items())


def main() -> None:
    """Compile the networks that were named and print what Vela says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--device", default="nxp-imx93")
    arguments = parser.parse_args()
    profile = load_profile(arguments.device)
    if profile.compiler is None:
        raise BadInput(f"{profile.name} has no Ethos-U")
    print(table(HEADER, []), flush=True)
    for name in arguments.names or NETWORKS:
        print("| " + " | ".join(row(name, profile, profile.compiler)) + " |", flush=True)
    print(f"\nKnown error of the simulation: {KNOWN_ERROR}.")


if __name__ == "__main__":
    main()
