"""Compare the INT8 files edgeslim builds with the best known path to each format, interleaved on this machine.

    python tools/bench_formats.py [MODEL ...]     (default: torchvision's resnet50, mobilenet_v2, efficientnet_b0)

Peers: onnxruntime.quantization.quantize_static (QDQ, per channel, U8S8), nncf.quantize on the OpenVINO model (needs
`pip install nncf`), ai-edge-quantizer's static_wi8_ai8 with its own calibration. All start from our fp32 exports and
calibrate on the artifact's golden images; weights are random: this compares speed, not accuracy. Prints ratios of
medians.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgeslim import build
from edgeslim.harness import Candidate, measure
from edgeslim.machine import this_machine
from edgeslim.measurement import faster

MODELS = ("torchvision:resnet50", "torchvision:mobilenet_v2", "torchvision:efficientnet_b0")


def peer_onnx(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write ONNX Runtime's own static quantization of an fp32 file; inputs are NCHW."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc] # an untyped base
        """Hands out one image at a time."""

        def __init__(self) -> None:
            self._rows = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next input, or None at the end."""
            row = next(self._rows, None)
            return None if row is None else {"input": row[None]}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared))
    quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )


def peer_openvino(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write NNCF's quantization of an fp32 IR; inputs are NCHW."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    quantized = nncf.quantize(model, nncf.Dataset([row[None] for row in inputs]))
    openvino.save_model(quantized, target, compress_to_fp16=False)


def peer_tflite(source: Path, target: Path, inputs: np.ndarray) -> None:
    """Write ai-edge-quantizer's own static quantization of an fp32 file; inputs are NHWC."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe
    from ai_edge_quantizer.qtyping import TFLOperationName

    name = Interpreter(str(source)).get_signature_list()["serving_default"]["inputs"][0]
    own = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # float, as our file's
        own.update_quantization_recipe(".*", end, algorithm_key="no_quantize")
    ranges = own.calibrate({"serving_default": [{name: row[None]} for row in inputs]}, num_threads=2)
    own.quantize(ranges).export_model(target, overwrite=True)


PEERS = {"onnx": peer_onnx, "openvino": peer_openvino, "tflite": peer_tflite}
PEER_NAMES = {"onnx": "quantize_static", "openvino": "nncf.quantize", "tflite": "static_wi8_ai8"}


def write_peer(format_name: str, source: Path, target: Path, inputs: Path) -> None:
    """Run one peer in a fresh process: converters change what a second one in the same process would write."""
    command = [sys.executable, __file__, "--peer", format_name, str(source), str(target), str(inputs)]
    subprocess.run(command, check=True, capture_output=True)


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
            layout = golden[model.inputs[0].layout.lower()]
            inputs[model.runtime] = np.load(layout)
            candidates.append(Candidate(f"{model.format} {model.precision}", model.runtime, file, model.precision))
            if model.precision == "fp32":
                target = work / f"peer{file.suffix}"
                write_peer(model.format, file, target, layout)
                candidates.append(Candidate(f"{model.format} peer", model.runtime, target, "int8"))
        measured = {m.label: m for m in measure(candidates, inputs, processes=processes)}
    for name, peer_name in PEER_NAMES.items():
        ours, theirs, dense = (measured[f"{name} {kind}"] for kind in ("int8", "peer", "fp32"))
        verdict = faster(ours, theirs)
        print(
            f"| {source.removeprefix('torchvision:')} | {name} | {dense.median_s * 1e3:.2f} | "
            f"{ours.median_s * 1e3:.2f} | {theirs.median_s * 1e3:.2f} ({peer_name}) | {verdict.ratio:.3f} "
            f"({verdict.interval[0]:.3f} to {verdict.interval[1]:.3f}) |",
            flush=True,
        )


def main() -> None:
    """Print the table, or run one peer when called by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--processes", type=int, default=9)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        source, target, inputs = (Path(one) for one in arguments.models)
        PEERS[arguments.peer](source, target, np.load(inputs))
        return
    machine = this_machine()
    print(f"1 thread, {arguments.processes} fresh processes each, interleaved, on {machine.cpu_model}\n")
    print("| model | format | fp32 ms | INT8 ms, ours | INT8 ms, peer | ours / peer (95 % interval) |")
    print("|---|---|---|---|---|---|")
    for source in arguments.models:
        compare(source, arguments.processes)


if __name__ == "__main__":
    main()
