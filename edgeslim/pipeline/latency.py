"""What the files of a build take: measured here, and estimated, on its emulated core, for a device not at hand."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edgeslim.backends import backend_of
from edgeslim.deploy.device import Candidate
from edgeslim.devices.profile import DeviceProfile, is_this_machine
from edgeslim.emulation.bench import count_inference
from edgeslim.emulation.core import open_emulator, require_tools
from edgeslim.emulation.estimator import calibrated_for, estimator_of, speedup
from edgeslim.emulation.inference import EmulatedInference
from edgeslim.emulation.operators import estimated_operator_times_s
from edgeslim.errors import BadInput, DeviceFailed, Refused, ToolFailed
from edgeslim.export.evaluation.inputs import sample_inputs
from edgeslim.export.evaluation.run import Judged, twin_of
from edgeslim.measure.operators.times import MEASURABLE, UNPACKING_ONCE, measurable, operator_times_s
from edgeslim.measure.operators.used import UsedTimes, used_times
from edgeslim.model.context import Context
from edgeslim.model.operator import Operator, OperatorLatency
from edgeslim.pipeline.documents.times import DeviceTimes
from edgeslim.progress import Tell, silent
from edgeslim.recipe import Recipe
from edgeslim.units import show_seconds

TIME_LIMIT_S = 300.0
SHARE, LEAST_S = 0.1, 5.0  # of a build's time, that estimates nobody demanded may take; and what they always may
TOO_LONG = (
    "emulating it takes more than a tenth of the build; `edgeslim bench ARTIFACT --on emulator` takes the time it needs"
)


def device_times(
    files: Sequence[tuple[Candidate, Path]],
    profile: DeviceProfile,
    threads: int,
    progress: Tell = silent,
    budget_s: float | None = None,
) -> DeviceTimes:
    """Return estimates for files, each with an .npy of samples for it, in `budget_s` seconds for all.

    There are none where this machine is the device, or where nobody knows what counts cost there. Where an estimate
    could be had and cannot here, `missing` says what for; nothing fails for it.
    """
    if is_this_machine(profile) or profile.emulation is None or profile.estimator is None:
        return DeviceTimes()
    began_s = time.monotonic()
    found: list[EmulatedInference] = []
    missing: list[str] = []
    try:
        speedup(profile.estimator, threads)
        with open_emulator(profile) as emulator:
            for number, (candidate, inputs) in enumerate(files):
                progress(f"emulating {candidate.label}", number, len(files))
                left_s = TIME_LIMIT_S if budget_s is None else began_s + budget_s - time.monotonic()
                try:
                    found.append(
                        count_inference(candidate, inputs, emulator, threads, max(min(left_s, TIME_LIMIT_S), 0.1))
                    )
                except DeviceFailed as error:
                    late = budget_s is not None and error.status == "timeout"
                    why = TOO_LONG if late else error.message
                    missing.append(f"no time of {candidate.label} on a {profile.title}: {why}")
    except (BadInput, Refused, ToolFailed) as error:
        missing.append(f"no times on a {profile.title}: {error.sentence}")
    return DeviceTimes(tuple(found), tuple(missing))


def require_judge(profile: DeviceProfile, runtimes: Collection[str], threads: int) -> None:
    """Refuse, before any work, to judge a latency where neither the device nor a calibrated estimator is here.

    `runtimes` are those of the files that will be written; the device's first among them runs the primary file. Raises
    BadInput; ToolFailed where the device could be emulated and something is missing for it; Refused for a number of
    threads whose speed-up nobody knows.
    """
    if is_this_machine(profile):
        return
    runtime = next((one.name for one in profile.runtimes if one.name in runtimes), profile.runtimes[0].name)
    if not calibrated_for(profile, runtime):
        raise BadInput(
            f"--max-latency can be judged on a {profile.name} only, which this machine is not, or with a profile whose "
            f"estimator was fitted on {runtime} there",
            f"edgeslim calibrate --on ssh://USER@BOARD --device {profile.name} --out my-board.yaml fits one\n"
            "--prune latency=0.5 asks for a share of the dense INT8 network's time, as measured here",
        )
    require_tools()
    speedup(estimator_of(profile), threads)


def beyond_latency(times: DeviceTimes, label: str, max_latency_s: float | None) -> tuple[list[str], list[str]]:
    """Return why an estimated time exceeds what was demanded, and warnings where that cannot be told for sure."""
    if max_latency_s is None:
        return [], []
    one, allowed = times.of(label), f"{show_seconds(max_latency_s)} are allowed (--max-latency)"
    if one is None or one.estimate is None or not one.estimate.decisive:
        why = "; ".join(times.missing) or "its estimate is not calibrated"
        return [f"what {label} takes on the device is not known, {allowed}: {why}"], []
    told = f"{label} takes {one.estimate.shown} on the device, {allowed}"
    if one.estimate.s > max_latency_s:
        return [told], []
    return [], [told] if (one.estimate.high_s or 0.0) > max_latency_s else []


def paradox(times: DeviceTimes, label: str, twin: str) -> list[str]:
    """Return a warning where a file that should be faster is not, as far as estimates may decide."""
    one, other = (found.estimate if (found := times.of(name)) else None for name in (label, twin))
    if one is None or other is None or not (one.decisive and other.decisive) or one.s < other.s:
        return []
    return [f"{label} takes {one.shown} on the device, no less than {twin} with {other.shown}"]


def operator_latency(
    profile: DeviceProfile,
    threads: int,
    store: Path,
    progress: Tell,
    given: UsedTimes | None = None,
    *,
    precision: str = "int8",
) -> OperatorLatency:
    """Return what single operators take on a device: estimated where its estimator knows the runtime's own code.

    Otherwise they are measured on this machine. `precision`: one of PRECISIONS, or "fp16", whose weights are widened as
    a file is loaded. What was found is kept under `store`, a folder. Where times are `given`, nothing is measured or
    estimated. Raises Refused for a device that runs no INT8 and for a precision that nobody counted there, BadInput
    where the given times are of another runtime or number of threads.
    """
    runtime, multiple = backend_of(profile).operator_runtime(profile)
    if given is not None:
        support = profile.runtime(given.runtime)
        if (support is None and given.runtime != runtime) or given.threads != threads:
            raise BadInput(
                f"the operator times are of {given.runtime} with {given.threads} threads; {profile.name} is pruned by "
                f"those of {runtime} with {threads}"
            )
        own = multiple if support is None else support.channel_multiple["int8"].value or 1
        wanted = multiple if given.runtime == runtime else own
        seconds_of = partial(given.seconds, precision=precision)
        return OperatorLatency(given.runtime, wanted, given.estimated, None, seconds_of)
    estimated = calibrated_for(profile, runtime) and not is_this_machine(profile)
    if precision == "fp16" or (precision == "w8" and runtime in UNPACKING_ONCE):
        precision = "fp32"  # which it is, once the file is loaded
    if estimated and precision not in ("int8", "fp32"):
        raise Refused(f"nobody counted what {precision} layers take in {runtime} on a {profile.title}")

    def seconds(operators: Iterable[Operator]) -> Mapping[Operator, float]:
        if estimated:
            return estimated_operator_times_s(
                runtime,
                precision,
                operators,
                profile,
                threads=threads,
                cache=store / "operator_counts",
                progress=progress,
            )
        return operator_times_s(
            runtime, precision, operators, threads=threads, cache=store / "operator_times", progress=progress
        )

    missing = (
        f"pruning for {profile.name} needs one of its runtimes here, to measure in: "
        f"{', '.join(r.name for r in profile.runtimes)}; edgeslim measures in {', '.join(MEASURABLE)}"
    )
    return OperatorLatency(runtime, multiple, estimated, None if measurable(runtime) else missing, seconds)


@dataclass
class Noted:
    """Operator latency, as `operator_latency` says it, whose answers are noted so that an artifact can carry them."""

    profile: DeviceProfile
    threads: int
    store: Path
    progress: Tell
    given: UsedTimes | None = None
    known: dict[str, dict[Operator, float]] = field(default_factory=dict)  # by precision
    asked: OperatorLatency | None = None

    def __call__(self, precision: str = "int8") -> OperatorLatency:
        """Return the latency in a precision, noting what it says."""
        found = operator_latency(self.profile, self.threads, self.store, self.progress, self.given, precision=precision)
        self.asked = found

        def seconds(operators: Iterable[Operator]) -> Mapping[Operator, float]:
            told = found.seconds(operators)
            self.known.setdefault(precision, {}).update(told)
            return told

        return replace(found, seconds=seconds)

    @property
    def used(self) -> UsedTimes | None:
        """What was asked for; None where nothing was."""
        if self.asked is None or not self.known:
            return None
        return used_times(self.asked.runtime, self.threads, self.known, estimated=self.asked.estimated)

    @property
    def unused(self) -> list[str]:
        """Say that times were given and nobody asked for them."""
        if self.given is None or self.known:
            return []
        return ["the operator times that were given were not used: nothing was chosen by times"]


def times_on_device(
    primary: Judged | None, judged: Sequence[Judged], recipe: Recipe, context: Context, so_far_s: float
) -> tuple[DeviceTimes, list[str], list[str]]:
    """Return what the primary file and its fp32 twin would take on the device, reasons to reject it, and warnings.

    Where no latency was demanded it takes at most a tenth of the build, which has taken `so_far_s`.
    """
    profile = context.profile
    demanded = None if is_this_machine(profile) else recipe.max_latency_s
    if primary is None:
        missing = [] if demanded is None else ["there is no primary file whose time could be judged (--max-latency)"]
        return DeviceTimes(), missing, []
    twin = twin_of(primary, judged) or primary
    files = [
        (Candidate(one.label, one.runtime, one.job.target, one.job.precision), sample_inputs(one.runtime, context.work))
        for one in ([primary] if twin is primary else [primary, twin])
    ]
    budget_s = max(so_far_s * SHARE / (1 - SHARE), LEAST_S) if demanded is None else None
    times = device_times(files, profile, context.threads, context.progress, budget_s)
    too_slow, unsure = beyond_latency(times, primary.label, demanded)
    return times, too_slow, [*unsure, *([] if twin is primary else paradox(times, primary.label, twin.label))]
