"""Why is it slow: what every operator of an ONNX file takes on an emulated core, cut out of one inference.

ONNX Runtime's profiler asks for the time before and after each operator. The counting plugin notes what was counted up
to each of these questions, so an operator's counts lie between two of them. What the profiler itself adds is the same
for every operator and taken off: the operators then add up to an inference without profiler.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeslim.artifact.archive import check_integrity, open_artifact
from edgeslim.deploy.agent_session import GraphNode
from edgeslim.devices.emulation import CLASSES, MISSES
from edgeslim.devices.profile import DeviceProfile, Precision, RuntimeSupport, load_profile
from edgeslim.emulation.core import CLOCK, INFERENCE, ONE_WARM, TIME_LIMIT_S, Counted, Emulator, open_emulator
from edgeslim.emulation.core_files import LINE_BYTES
from edgeslim.emulation.estimator import calibrated_for, cycles
from edgeslim.emulation.onnx_layers import Layer, layers_of
from edgeslim.errors import BadInput, ToolFailed
from edgeslim.measure.entries import Entry, entries_of
from edgeslim.progress import ProgressCallback, StagedProgress, silent
from edgeslim.readable import Readable

SUFFIX = "_token_"  # ONNX Runtime writes it and a number behind the name of a node it rewrites
# How often the agent and ONNX Runtime ask for the time before the first operator of an inference, and after the last.
QUESTIONS_BEFORE, QUESTIONS_AFTER = 4, 6
NOTHING_TO_GAIN = 0.03  # share of the time below which an operator gets no advice
SMALL_PRODUCT = 4.0  # instructions for a multiply-add above which its kernel is no longer dense
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
LAYOUTS = ("Transpose", "ReorderInput", "ReorderOutput")


@dataclass(frozen=True)
class OperatorCounts:
    """What one operator takes in an inference; `share` of the estimated time, of the instructions without estimator.

    `bound` is the share of that time in which the core could do the multiply-adds at its peak, or memory move the
    bytes that miss the last cache, whichever is longer; None where the profile does not know a peak.
    """

    name: str
    op: str
    precision: str
    counts: Mapping[str, int]
    share: float
    macs: int | None
    bound: float | None
    advice: str | None

    @property
    def instructions_per_mac(self) -> float | None:
        """Instructions for a multiply-add; None of an operator without."""
        return None if not self.macs else self.counts["insns"] / self.macs


@dataclass(frozen=True)
class OperatorProfile(Readable, view="emulation:profile_table"):
    """All operators of one file in the order they ran; `by` says what shares are of, `emulator` who counted."""

    file: str
    device: DeviceProfile
    emulator: str
    by: str
    operators: tuple[OperatorCounts, ...]


def profile(
    path: str | Path,
    *,
    device: str | None = None,
    file: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    progress: ProgressCallback = silent,
) -> OperatorProfile:
    """Return what every operator of an artifact's ONNX file takes on the emulated core of a device.

    `device` is a profile's name or file, by default the one the artifact was built for; `file` the path of an ONNX file
    in the artifact, by default the one it is about. The first inference of a loaded model is cut: caches are cold.
    Raises BadInput, IntegrityFailed, DeviceFailed, and ToolFailed where the profile cannot be cut into operators.
    """
    path = Path(path)
    stages = StagedProgress(progress)
    stages.begin("emulating")
    with open_artifact(path) as artifact:
        check_integrity(artifact.folder)
        of_onnx = [one for one in entries_of(artifact.folder, artifact.manifest) if one.model.format == "onnx"]
        entry = _chosen(of_onnx, file)
        with open_emulator(load_profile(device or artifact.manifest.compatible.device)) as emulator:
            nodes, found = _counted(entry, emulator, time_limit_s)
            return OperatorProfile(
                file=entry.model.path,
                device=emulator.profile,
                emulator=emulator.name,
                by=_unit(emulator.profile, entry),
                operators=operators_of(nodes, found, layers_of(entry.candidate.model), emulator.profile),
            )


def _chosen(entries: Sequence[Entry], file: str | None) -> Entry:
    names = ", ".join(one.model.path for one in entries) or "none"
    found = [one for one in entries if file in (None, one.model.path)]
    if not found:
        what = "no ONNX file" if file is None else f"no ONNX file `{file}`"
        raise BadInput(
            f"the artifact has {what}; it has {names} (only ONNX Runtime's profiler tells where an operator begins)"
        )
    return max(found, key=lambda one: one.model.precision == "int8")


def _counted(entry: Entry, emulator: Emulator, time_limit_s: float) -> tuple[Sequence[GraphNode], list[dict[str, int]]]:
    """Return the executed operators and what each took."""
    inputs = str(entry.folder / entry.model.inputs[0].golden_inputs)
    wishes = ["--inputs", inputs, *ONE_WARM, "--graph"]
    session, lines = emulator.count(entry.candidate, wishes, clock=True, timeout_s=time_limit_s)
    nodes = session.graph or ()
    if not nodes:
        raise ToolFailed("ONNX Runtime's profile of the inference names no operator")
    *_, plain, profiled = [line for line in lines if line.region == INFERENCE]
    questions = [line for line in lines if line.region == CLOCK and line.number == profiled.number]
    if len(questions) != QUESTIONS_BEFORE + 2 * len(nodes) + QUESTIONS_AFTER:
        raise ToolFailed(
            f"ONNX Runtime {session.hello.runtime_version} asked for the time {len(questions)} times in an inference "
            f"of {len(nodes)} operators; two for each and {QUESTIONS_BEFORE + QUESTIONS_AFTER} were expected, as of "
            "1.32: the inference cannot be cut into operators"
        )
    return nodes, cut(questions, len(nodes), plain.counts)


def cut(questions: Sequence[Counted], operators: int, plain: Mapping[str, int]) -> list[dict[str, int]]:
    """Return the counts of each operator between its two questions, less what the profiler adds to every one.

    `plain` are the counts of an inference without profiler. Misses are left as they are: the caches were cold.
    """
    ends = [question.counts for question in questions[QUESTIONS_BEFORE : QUESTIONS_BEFORE + 2 * operators]]
    raw = [{name: end[name] - begin[name] for name in end} for begin, end in zip(ends[::2], ends[1::2], strict=True)]
    names = [name for name in raw[0] if name in (*CLASSES, "mem_bytes")]
    added = {name: max(0, sum(one[name] for one in raw) - plain[name]) // operators for name in names}
    cleaned = [{name: max(0, count - added.get(name, 0)) for name, count in one.items()} for one in raw]
    return [{**one, "insns": sum(one[name] for name in CLASSES if name in one)} for one in cleaned]


def operators_of(
    nodes: Sequence[GraphNode], found: Sequence[dict[str, int]], layers: Mapping[str, Layer], device: DeviceProfile
) -> tuple[OperatorCounts, ...]:
    """Return executed operators with what they took, what each is to the file's layers, and what to try with it."""
    times = [_time(counts, device) for counts in found]
    total = sum(times)
    made = []
    for place, (node, counts, time) in enumerate(zip(nodes, found, times, strict=True)):
        layer = layers.get(node.name.partition(SUFFIX)[0])
        worth_it = 0 < place < len(nodes) - 1 and time >= NOTHING_TO_GAIN * total
        one = OperatorCounts(
            name=node.name,
            op=node.op,
            precision=node.precision,
            counts=counts,
            share=time / total,
            macs=None if layer is None else layer.macs,
            bound=_bound(counts, layer, node.precision, device),
            advice=_advice(node, layer, counts, device) if worth_it else None,
        )
        made.append(one)
    return tuple(made)


def _unit(device: DeviceProfile, entry: Entry) -> str:
    """Return what shares are of, and what is known to be wrong with it."""
    if device.estimator is None:
        return "instructions"
    if entry.model.precision == "int8" and not calibrated_for(device, entry.model.runtime):
        return f"estimated time, not calibrated for {entry.model.runtime} int8"
    return "estimated time"


def _time(counts: Mapping[str, int], device: DeviceProfile) -> float:
    """Return estimated cycles, instructions where nobody knows what they cost."""
    if counts["insns"] == 0 or device.estimator is None:
        return counts["insns"]
    return cycles(counts, device.estimator.costs)


def _bound(counts: Mapping[str, int], layer: Layer | None, precision: str, device: DeviceProfile) -> float | None:
    """Return the least time by the roofline model (Williams, Waterman, Patterson, 2009) as a share of the estimate."""
    core, bandwidth = device.cores[0], device.memory.bandwidth.value
    peak = core.multiply_adds.get("int8" if _is_int8(precision) else "fp32")
    if layer is None or device.estimator is None or peak is None or peak.value is None or bandwidth is None:
        return None
    clock_hz = device.estimator.clock.value
    if clock_hz is None:
        return None
    computing_s, moving_s = layer.macs / peak.value / clock_hz, missed_bytes(counts) / bandwidth
    return max(computing_s, moving_s) / (_time(counts, device) / clock_hz)


def missed_bytes(counts: Mapping[str, int]) -> int:
    """Return the bytes that no modelled cache held: a line for each miss of the last one."""
    return LINE_BYTES * next((counts[name] for name in reversed(MISSES) if name in counts), 0)


def _advice(node: GraphNode, layer: Layer | None, counts: Mapping[str, int], device: DeviceProfile) -> str | None:
    """Return the first thing to try with an operator that others lie before and behind, or None."""
    if node.op in CONVERSIONS:
        return "precision changes inside the network: bring its neighbours to one (`edgeslim inspect` shows them)"
    if node.op in LAYOUTS:
        return "layout changes inside the network: another operator beside it, or another format, may need none"
    if layer is None:
        return None
    if layer.depthwise:
        return "depthwise: bound by reading and writing, not by arithmetic; fewer channels or pixels help, INT8 less"
    if counts["insns"] > SMALL_PRODUCT * layer.macs:
        return "more overhead than arithmetic: the layer is small; merge it with its neighbours, or drop it"
    return _width_advice(layer, device.runtime("onnxruntime"), "int8" if _is_int8(node.precision) else "fp32")


def _width_advice(layer: Layer, support: RuntimeSupport | None, precision: Precision) -> str | None:
    multiple = None if support is None else support.channel_multiple[precision].value
    for what, width in (("reads", layer.inputs), ("writes", layer.outputs)):
        if multiple is not None and width > multiple and width % multiple:
            lower = width // multiple * multiple
            return f"it {what} {width} channels, no multiple of {multiple}: try {lower} or {lower + multiple}"
    return None


def _is_int8(precision: str) -> bool:
    return precision in ("int8", "uint8")
