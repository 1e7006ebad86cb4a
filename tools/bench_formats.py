"""Compare the INT8 files edgeslim builds with the best known path to each format, interleaved on this machine.

    python tools/bench_formats.py [MODEL ...]     (default: torchvision's resnet50, mobilenet_v2, efficientnet_b0)

Peers: onnxruntime.quantization.quantize_static (QDQ, per channel, U8S8), nncf.quantize on the OpenVINO model (needs
`pip install nncf`), ai-edge-quantizer's static_wi8_ai8 with its own calibration. All start from our fp32 exports and
calibrate on the artifact's golden images; weights are random: this compares speed, not accuracy. Prints ratios of
medians.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from peers import QUANTIZER_NAMES, write_quantized

from edgeslim import build
from edgeslim.deploy.device import Candidate
from edgeslim.devices.machine import this_machine
from edgeslim.measure.comparison import faster
from edgeslim.measure.harness import Workload, measure

MODELS = ("torchvision:resnet50", "torchvision:mobilenet_v2", "torchvision:efficientnet_b0")


def compare(source: str, processes: int) -> None:
    """Build one model, make the peers, time all of them interleaved and print a row for each format."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        report = build(source, device="raspberry-pi-5", weights="random", out=work / "artifact")
        golden = {layout: work / "artifact" / "golden" / f"inputs_{layout}.npy" for layout in ("nchw", "nhwc")}
        candidates: list[Candidate] = []
        inputs: dict[str, np.ndarray] = {}
        for model in report.artifact.manifest.models:
            file = work / "artifact" / model.path
            layout = golden[str(model.inputs[0].layout).lower()]
            inputs[model.runtime] = np.load(layout)
            candidates.append(Candidate(f"{model.format} {model.precision}", model.runtime, file, model.precision))
            if model.precision == "fp32":
                target = work / f"peer{file.suffix}"
                write_quantized(model.format, file, target, layout)
                candidates.append(Candidate(f"{model.format} peer", model.runtime, target, "int8"))
        measured = {m.label: m for m in measure(candidates, inputs, Workload(processes=processes))}
    for name, peer_name in QUANTIZER_NAMES.items():
        ours, theirs, dense = (measured[f"{name} {kind}"] for kind in ("int8", "peer", "fp32"))
        verdict = faster(ours, theirs)
        print(
            f"| {source.removeprefix('torchvision:')} | {name} | {dense.median_s * 1e3:.2f} | "
            f"{ours.median_s * 1e3:.2f} | {theirs.median_s * 1e3:.2f} ({peer_name}) | {verdict.ratio:.3f} "
            f"({verdict.interval[0]:.3f} to {verdict.interval[1]:.3f}) |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--processes", type=int, default=9)
    arguments = parser.parse_args()
    machine = this_machine()
    print(f"1 thread, {arguments.processes} fresh processes each, interleaved, on {machine.cpu_model}\n")
    print("| model | format | fp32 ms | INT8 ms, ours | INT8 ms, peer | ours / peer (95 % interval) |")
    print("|---|---|---|---|---|---|")
    for source in arguments.models:
        compare(source, arguments.processes)


if __name__ == "__main__":
    main()
