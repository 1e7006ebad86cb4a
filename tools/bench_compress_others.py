"""The compression benchmark's other questions: rounding weights, quantizing alone, and ResNet-50 at half its width."""

import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from bench_compress_case import (
    HOST,
    Case,
    calibration_inputs,
    export_fp32,
    export_int8,
    folded,
    quantized,
)  # fmt: skip
from bench_compress_results import DENSE, Figures, Key, Results
from peers import QUANTIZER_NAMES, ROUNDERS, write_quantized
from torch import fx
from width_share import beyond_share

from edgeslim.compress.prune.channels import channels_of, without
from edgeslim.compress.quantize.rounding import round_weights
from edgeslim.deploy.device import Candidate
from edgeslim.devices.profile import load_profile
from edgeslim.formats import FORMATS, FormatName
from edgeslim.measure.comparison import faster
from edgeslim.measure.harness import Workload, measure
from edgeslim.model.context import Context
from edgeslim.model.graph import macs_of
from edgeslim.model.load import load_model
from edgeslim.model.model import Model
from edgeslim.progress import silent

# Name in peers.ROUNDERS -> bits, one scale for each channel, bits of the first and the last layer.
ROUNDED = {"W4 per channel, first and last layer W8": (4, True, 8), "W8 per tensor": (8, False, 8)}
RESNET50 = "torchvision:resnet50"
WIDTH = 0.5
TIMED_FORMATS: tuple[FormatName, ...] = ("openvino", "tflite")
TIMED_IMAGES, TIMED_S = 8, 0.5


def round_all(case: Case, results: Results, images: int, seeds: Sequence[int]) -> None:
    """Round the weights of the folded model by every method; activations stay float, and files are not written."""
    with case.context(case.drawn(images, seeds[0]), seeds[0]) as context:
        graph = folded(case.model, context).graph

    def judged(rounded: Callable[[], fx.GraphModule]) -> Figures:
        return {"top1_pct": case.top1_pct(rounded())}

    results.remembered(Key("round", case.name, DENSE, images), partial(judged, lambda: graph))
    for seed in seeds:
        batches = list(case.drawn(images, seed).calibration.tensors())
        for name, (bits, per_channel, ends_bits) in ROUNDED.items():
            ours = partial(round_weights, graph, batches, bits, per_channel, ends_bits=ends_bits)
            methods = {
                "round to nearest": partial(ROUNDERS[name], graph),
                "to nearest, bias corrected": partial(ours, method="nearest"),
                "ours": partial(ours, method="gptq"),
            }
            for method, rounded in methods.items():
                results.remembered(Key("round", case.name, f"{name}: {method}", images, seed), partial(judged, rounded))


def quantize_all(case: Case, results: Results, images: int, seeds: Sequence[int]) -> None:
    """Quantize the dense model by every quantizer from the same images, and judge the files in their runtimes."""
    for seed in seeds:
        with case.context(case.drawn(images, seed), seed) as context:
            _quantize_from(case, results, images, context, with_dense=seed == seeds[0])


def _quantize_from(case: Case, results: Results, images: int, context: Context, *, with_dense: bool) -> None:
    dense = folded(case.model, context)
    plan = cache(partial(quantized, dense, context))

    def judge(name: FormatName, method: str, precision: str, file: Callable[[], Path]) -> None:
        def found() -> Figures:
            return {"top1_pct": case.file_top1_pct(FORMATS[name].runtime, file(), precision)}

        results.remembered(Key("quantize", case.name, f"{name}: {method}", images, context.seed), found)

    for name in FORMATS:
        peer = QUANTIZER_NAMES[name]
        source = cache(partial(export_fp32, dense, name, context))
        if with_dense:
            judge(name, DENSE, "fp32", source)
        judge(name, "ours", "int8", partial(_by_us, name, plan, context))
        judge(name, peer, "int8", partial(_by_peer, name, source, context))


def _by_us(name: FormatName, plan: Callable[[], Model], context: Context) -> Path:
    return export_int8(plan(), name, context)


def _by_peer(name: FormatName, source: Callable[[], Path], context: Context) -> Path:
    """Return the INT8 file that the format's own quantizer makes of an fp32 file."""
    inputs, target = context.work / "calibration.npy", context.work / f"peer{source().suffix}"
    np.save(inputs, calibration_inputs(context.data, FORMATS[name].runtime))
    write_quantized(name, source(), target, inputs)
    return target


def resnet50(results: Results, processes: int) -> None:
    """Hold ResNet-50 at half its width in INT8 against itself in fp32, in speed and size: its weights are random."""
    keys = {name: Key("resnet50", RESNET50, name) for name in TIMED_FORMATS}
    if all(key in results for key in keys.values()):
        return
    model = load_model(RESNET50, "random")
    data = model.task.read("synthetic", model.facts)
    runtimes: list[str] = [FORMATS[name].runtime for name in TIMED_FORMATS]
    inputs = {runtime: calibration_inputs(data, runtime)[:TIMED_IMAGES] for runtime in runtimes}
    with tempfile.TemporaryDirectory() as folder:
        context = Context(load_profile(HOST), data, 0, Path(folder), silent)
        dense = folded(model, context)
        half = quantized(folded(half_as_wide(model), context), context)
        files = {(name, DENSE): export_fp32(dense, name, context) for name in TIMED_FORMATS}
        files |= {(name, "half"): export_int8(half, name, context) for name in TIMED_FORMATS}
        candidates = {
            of: Candidate(" ".join(of), FORMATS[of[0]].runtime, file, "int8" if of[1] == "half" else "fp32")
            for of, file in files.items()
        }
        taken = measure(list(candidates.values()), inputs, Workload(processes=processes, min_duration_s=TIMED_S))
        measured = dict(zip(candidates, taken, strict=True))
        for name, key in keys.items():
            one, other = measured[name, DENSE], measured[name, "half"]
            verdict = faster(one, other)
            results.keep(
                key,
                {
                    "dense_s": one.median_s,
                    "half_s": other.median_s,
                    "times_faster": verdict.ratio,
                    "low": verdict.interval[0],
                    "high": verdict.interval[1],
                    "times_smaller": bytes_of(files[name, DENSE]) / bytes_of(files[name, "half"]),
                    "macs_share": macs_of(half.graph) / macs_of(dense.graph),
                },
            )


def half_as_wide(model: Model) -> Model:
    """Return a model with every group of channels at half its width, on multiples of 8; the first channels stay."""
    channels = channels_of(model.graph)
    return model.after("half as wide", network=without(model.graph, channels, beyond_share(channels, WIDTH)))


def bytes_of(file: Path) -> int:
    """Return the size of a model's files; OpenVINO keeps the weights beside its model."""
    return sum(one.stat().st_size for one in {file, file.with_suffix(".bin")} if one.is_file())
