"""Time a network on an NVIDIA GPU in PyTorch: fp32, tf32, fp16, bf16 and mixed, dense and pruned.

    python tools/bench_gpu.py [--model SOURCE] [--weights W] [--batch N] [--keep-macs 0.5] [--no-pruned] [--out FOLDER]

Each case is captured as a CUDA graph and replayed between CUDA events, the cases in turn, so that a clock that changes
meets them all. Latency is of one replay with the batch on the GPU already, the median of all; memory is PyTorch's peak
while the case is warmed up and captured; agreement is with the same network in fp32 on the evaluation images. Mixed is
fp16 with the operators that the step mixed_precision keeps in fp32. Writes gpu_DATE_DEVICE.json into FOLDER and prints
a Markdown table. Exit code 7 without a GPU.
"""

import argparse
import datetime
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from edgeslim.compress import fold, mixed_precision
from edgeslim.compress.prune import step as prune
from edgeslim.devices.profile import load_profile
from edgeslim.model.context import Context
from edgeslim.model.graph import batched
from edgeslim.model.load import load_model
from edgeslim.model.model import Model
from edgeslim.model.simulate_fp16 import is_operator
from edgeslim.progress import silent
from edgeslim.table import markdown_rows as table

CASES = ("fp32", "tf32", "fp16", "bf16", "mixed")
WARM_UP, ROUNDS, REPLAYS = 20, 30, 20
HEADER = ("network", "case", "latency, median", "5 to 95 %", "throughput", "peak memory", "as fp32")


@dataclass(frozen=True)
class Result:
    """One case of one network."""

    network: str
    case: str
    batch: int
    latency_s: tuple[float, ...]  # of one replay, every round
    memory_bytes: int
    agreement_pct: float


class Cast(fx.Interpreter):
    """Runs a network with every operator in `dtype` but the `kept` ones, which run in fp32."""

    def __init__(self, graph: fx.GraphModule, dtype: torch.dtype, kept: frozenset[str]) -> None:
        super().__init__(graph)
        self._dtype, self._kept = dtype, kept
        self._parameters: dict[tuple[str, torch.dtype], Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Return the value of a node, in the type of its precision."""
        if not is_operator(n):
            value = super().run_node(n)
            return value.float() if n.op == "output" else value
        dtype = torch.float32 if n.name in self._kept else self._dtype

        def read(node: fx.Node) -> Any:
            if node.op != "get_attr":
                return _to(self.env[node], dtype)
            return self._parameters.setdefault((node.name, dtype), _to(self.env[node], dtype))

        return self.call_function(n.target, fx.node.map_arg(n.args, read), fx.node.map_arg(n.kwargs, read))


def _to(value: Any, dtype: torch.dtype) -> Any:
    return fx.node.map_aggregate(
        value, lambda one: one.to(dtype) if isinstance(one, Tensor) and one.is_floating_point() else one
    )


@contextmanager
def tf32(*, allowed: bool) -> Any:
    """Allow or forbid TF32 in matrix products and convolutions."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def runner_of(case: str, graph: fx.GraphModule, kept: frozenset[str]) -> Callable[[Tensor], Tensor]:
    """Return the call that runs a case; the graph is on the GPU."""
    dtype = {"fp16": torch.float16, "mixed": torch.float16, "bf16": torch.bfloat16}.get(case, torch.float32)
    interpreter = Cast(graph, dtype, kept if case == "mixed" else frozenset())

    def run(images: Tensor) -> Tensor:
        with tf32(allowed=case == "tf32"):
            logits: Tensor = interpreter.run(images)
            return logits

    return run


def captured(run: Callable[[Tensor], Tensor], images: Tensor) -> tuple[torch.cuda.CUDAGraph, int]:
    """Return a CUDA graph of one run, and the peak of PyTorch's memory until then."""
    torch.cuda.reset_peak_memory_stats()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(images)
    return graph, torch.cuda.max_memory_allocated()


def timed_s(graph: torch.cuda.CUDAGraph) -> float:
    """Return the seconds of one replay, the mean of some in a row, by CUDA events."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / REPLAYS


@torch.no_grad()
def measured(network: str, model: Model, context: Context, batch: int) -> list[Result]:
    """Return every case of one network."""
    planned = mixed_precision.apply(model, mixed_precision.Settings(), context)
    kept = frozenset(planned.half.kept) if planned.half is not None else frozenset()
    graph = batched(model.graph).cuda()
    shape = (batch, *model.input_shape[1:])
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).cuda()
    runs = {case: runner_of(case, graph, kept) for case in CASES}
    answers = {case: _answers(run, context) for case, run in runs.items()}
    graphs = {case: captured(run, images) for case, run in runs.items()}
    times: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(ROUNDS):
        for case, (one, _memory) in graphs.items():
            times[case].append(timed_s(one))
    return [
        Result(
            network, case, batch, tuple(times[case]), graphs[case][1],
            100.0 * float((answers[case] == answers["fp32"]).double().mean()),
        )
        for case in CASES
    ]  # fmt: skip


def _answers(run: Callable[[Tensor], Tensor], context: Context) -> Tensor:
    return torch.cat([run(images.cuda()).argmax(1).cpu() for images in context.data.evaluation.tensors()])


def line(one: Result) -> list[str]:
    """Return one case's line of the table."""
    low, *_, high = statistics.quantiles(one.latency_s, n=20)
    median = statistics.median(one.latency_s)
    return [
        one.network, one.case, f"{median * 1e3:.3f} ms", f"{low * 1e3:.3f} to {high * 1e3:.3f} ms",
        f"{one.batch / median:,.0f} images/s", f"{one.memory_bytes / 1e6:.1f} MB", f"{one.agreement_pct:.2f} %",
    ]  # fmt: skip


def main() -> int:
    """Measure, print and save; return 7 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="by default the bundled network")
    parser.add_argument("--weights")
    parser.add_argument("--data", help="by default the bundled images; of another model `synthetic`")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--keep-macs", type=float, default=0.5, help="of the pruned network")
    parser.add_argument("--no-pruned", action="store_true")
    parser.add_argument("--out", type=Path, default=Path())
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write(
            "bench_gpu: PyTorch sees no NVIDIA GPU here; nothing was measured. Run it where "
            "`python -c 'import torch; print(torch.cuda.is_available())'` prints True\n"
        )
        return 7
    model = load_model(arguments.model, arguments.weights)
    bundled = arguments.model is None
    data = model.task.read(arguments.data or (None if bundled else "synthetic"), model.facts)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as work:
        context = Context(load_profile("nvidia-cuda"), data, 0, Path(work), silent)
        networks = {"dense": model}
        if not arguments.no_pruned:
            settings = prune.Settings(keep_macs=arguments.keep_macs)
            networks[f"{arguments.keep_macs:g} of the MACs"] = prune.apply(model, settings, context)
        for name, network in networks.items():
            folded = fold.apply(network, fold.Settings(), context)
            results += measured(name, folded, context, arguments.batch)
    device = torch.cuda.get_device_name()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    file = arguments.out / f"gpu_{today}_{re.sub(r'[^A-Za-z0-9]+', '-', device)}.json"
    about: dict[str, Any] = {"date": today, "device": device, "torch": torch.__version__, "cuda": torch.version.cuda}
    about |= {"capability": list(torch.cuda.get_device_capability()), "model": model.source}
    file.write_text(json.dumps({**about, "results": [asdict(one) for one in results]}, indent=1) + "\n")
    print(table(HEADER, [line(one) for one in results]))
    print(f"\n{device}, PyTorch {torch.__version__}, batch {arguments.batch}, {today}; every time is in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
