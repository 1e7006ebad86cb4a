"""Put the harness to the proof on this machine: its agents, its verdicts, and its medians beside others' tools.

    python tools/bench_harness.py agents ARTIFACT     C agent beside Python agent: time and peak memory
    python tools/bench_harness.py same ARTIFACT       40 comparisons of a file with itself: how many are alarms
    python tools/bench_harness.py widths              20 comparisons of networks a tenth apart: how many see it
    python tools/bench_harness.py peers MODEL         our medians beside OpenVINO's benchmark_app and litert-benchmark

ARTIFACT is what `edgeslim build` made; MODEL is torchvision:NAME, with random weights. Everything is interleaved, with
one thread. Prints Markdown.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench_compress_case import export_fp32, folded
from width_share import beyond_share

from edgeslim.artifact.archive import open_artifact
from edgeslim.compress.prune.channels import channels_of, without
from edgeslim.deploy.deployment import Deployed, python_agent
from edgeslim.deploy.device import Candidate, Device
from edgeslim.deploy.targets.local import open_target
from edgeslim.devices.machine import this_machine
from edgeslim.devices.profile import load_profile
from edgeslim.formats import FORMATS
from edgeslim.measure.comparison import Comparison, compare
from edgeslim.measure.entries import Entry, entries_of
from edgeslim.measure.harness import Workload, measure
from edgeslim.measure.measurement import Measurement
from edgeslim.model.context import Context
from edgeslim.model.load import load_model
from edgeslim.model.model import Model
from edgeslim.progress import silent
from edgeslim.table import markdown_rows as table

HOST = "x86-64-host"
SAME, APART = 40, 20
SHARE = 0.90  # of every group's channels: what makes the default network about a tenth faster
PEER_ROUNDS, PEER_S = 9, 2.0
LEAST_SAMPLES = 50


class PythonDevice(Device):
    """The machine at hand with the Python agent, where the C agent could run too."""

    def deployed(self, runtime: str) -> Deployed:
        """Return the Python agent."""
        return Deployed(python_agent(self.target), None, "python (asked for)", f"the Python package of {runtime}")


def agents(artifact: Path, processes: int) -> None:
    """Time every file with both agents in turn, and print the ratios."""
    rows = []
    with open_artifact(artifact) as opened, open_target() as target:
        ours, python = Device(target), PythonDevice(target)
        for entry in entries_of(opened.folder, opened.manifest):
            taken: dict[str, list[Measurement]] = {"c": [], "python": []}
            for number in range(processes):
                order = [("c", ours), ("python", python)]
                for name, device in order if number % 2 == 0 else order[::-1]:
                    taken[name] += _once(entry, device)
            times = {name: statistics.median(one.median_s for one in of) for name, of in taken.items()}
            ratios = [c.median_s / p.median_s for c, p in zip(taken["c"], taken["python"], strict=True)]
            memory = {name: statistics.median(one.peak_rss_bytes for one in of) for name, of in taken.items()}
            rows.append([
                entry.candidate.label, f"{times['c'] * 1e6:.0f} µs", f"{times['python'] * 1e6:.0f} µs",
                f"{statistics.median(ratios):.3f}", f"{memory['c'] / 1e6:.1f} MB", f"{memory['python'] / 1e6:.1f} MB",
                f"{memory['c'] / memory['python']:.2f}",
            ])  # fmt: skip
    heads = ["file", "C agent", "Python agent", "time, median of pairs", "peak, C", "peak, Python", "peak ratio"]
    print(table(heads, rows))


def _once(entry: Entry, device: Device) -> list[Measurement]:
    return measure([entry.candidate], entry.golden_inputs, Workload(processes=1, min_duration_s=0.5), device=device)


def same(artifact: Path, processes: int) -> None:
    """Compare each INT8 file with itself, over and over, and print how often a difference was claimed."""
    with open_artifact(artifact) as opened:
        entries = [e for e in entries_of(opened.folder, opened.manifest) if e.model.precision == "int8"]
        verdicts = [
            (entry, _compared(entry.candidate, entry.candidate.model, entry.golden_inputs, processes))
            for number in range(SAME)
            for entry in [entries[number % len(entries)]]
        ]
    alarms = [(entry.candidate.label, found) for entry, found in verdicts if found.changes["median"].different]
    print(f"{len(alarms)} of {len(verdicts)} comparisons of a file with itself claimed a difference of the median")
    for label, found in alarms:
        print(f"  {label}: {found.changes['median']}")


def _compared(candidate: Candidate, other: Path, inputs: np.ndarray, processes: int) -> Comparison:
    pair = [
        Candidate("a", candidate.runtime, candidate.model, candidate.precision),
        Candidate("b", candidate.runtime, other, candidate.precision),
    ]
    return compare(*measure(pair, inputs, Workload(processes=processes)), paired=True)


def widths(processes: int) -> None:
    """Compare the default network in fp32 with the same a little narrower, and print how often it is called faster."""
    model = load_model(None)
    data = model.task.read(None, model.facts)
    channels = channels_of(model.graph)
    narrow = model.after("narrower", network=without(model.graph, channels, beyond_share(channels, SHARE)))
    with tempfile.TemporaryDirectory() as folder:
        files = [_exported(one, Path(folder) / name) for name, one in (("full", model), ("narrow", narrow))]
        image = next(iter(data.evaluation.inputs()))[:8]
        full = Candidate("full", "litert", files[0], "fp32")
        found = [_compared(full, files[1], image, processes) for _ in range(APART)]
    ratios = [one.changes["median"].ratio for one in found]
    seen = [one for one in found if one.changes["median"].different and one.changes["median"].ratio < 1]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"the narrower network takes {statistics.median(ratios):.3f} of the time ({spread})")
    print(f"{len(seen)} of {len(found)} comparisons call it faster")


def _exported(model: Model, folder: Path) -> Path:
    folder.mkdir()
    data = model.task.read(None, model.facts)
    context = Context(load_profile(HOST), data, 0, folder, silent)
    return export_fp32(folded(model, context), "tflite", context)


def peers(source: str) -> None:
    """Time the fp32 OpenVINO and TFLite exports of a model with us and with their makers' tools, in turn."""
    model = load_model(source, "random")
    data = model.task.read("synthetic", model.facts)
    image = next(iter(data.evaluation.inputs()))[:4]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        context = Context(load_profile(HOST), data, 0, Path(folder), silent)
        dense = folded(model, context)
        for name, theirs in (("openvino", benchmark_app), ("tflite", litert_benchmark)):
            file = export_fp32(dense, name, context)  # type: ignore[arg-type]  # both are formats
            runtime = FORMATS[name].runtime  # type: ignore[index]
            inputs = image if name == "tflite" else image.transpose(0, 3, 1, 2)
            workload = Workload(processes=1, min_duration_s=PEER_S)
            pairs = []
            for _ in range(PEER_ROUNDS):
                (ours,) = measure([Candidate(name, runtime, file, "fp32")], inputs, workload)
                pairs.append((ours.median_s, theirs(file, len(ours.processes[0].samples_s))))
            mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            rows.append([name, theirs.__name__, f"{mine * 1e3:.3f} ms", f"{other * 1e3:.3f} ms", f"{ratio:.3f}"])
    print(table(["format", "their tool", "our median", "theirs", "ours / theirs, median of pairs"], rows))


def benchmark_app(file: Path, iterations: int) -> float:
    """Return the median latency in seconds that OpenVINO's tool measures."""
    del iterations  # it takes a duration
    words = (
        f"-d CPU -hint none -api sync -nthreads 1 -nstreams 1 -infer_precision f32 -t {PEER_S:g} -latency_percentile 50"
    )
    text = _output(["benchmark_app", "-m", str(file), *words.split()])
    found = re.search(r"Median:\s+([\d.]+) ms", text)
    if found is None:
        sys.exit(f"benchmark_app named no median:\n{text}")
    return float(found[1]) / 1e3


def litert_benchmark(file: Path, iterations: int) -> float:
    """Return the median latency in seconds that LiteRT's tool measures."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        runs = str(max(iterations, LEAST_SAMPLES))
        _output(
            ["litert-benchmark", f"--model={file}", f"--num_runs={runs}", "--num_threads=1", f"--result_json={report}"]
        )
        return float(json.loads(report.read_text())["latency"]["median_ms"]) / 1e3


def _output(argv: Sequence[str]) -> str:
    program = Path(sys.executable).with_name(argv[0])
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        sys.exit(f"{argv[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("agents", "same", "widths", "peers"))
    parser.add_argument("of", nargs="?")
    parser.add_argument("--processes", type=int, default=9)
    arguments = parser.parse_args()
    print(f"on {this_machine().cpu_model}\n")
    match arguments.what:
        case "agents":
            agents(Path(arguments.of), arguments.processes)
        case "same":
            same(Path(arguments.of), arguments.processes)
        case "widths":
            widths(arguments.processes)
        case "peers":
            peers(arguments.of)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
