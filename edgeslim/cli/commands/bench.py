"""The commands that measure: `bench`, `compare`, `probe`."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

import edgeslim
from edgeslim.cli import words
from edgeslim.cli.commands.emulate import (
    EMULATOR,
    RAM,
    TIME_LIMIT,
    bench_emulated,
    bench_fits,
    refuse_what_is_of_an_emulator,
    require_believed,
    require_useful,
)
from edgeslim.cli.defaults import WithDefaults
from edgeslim.cli.help import heading
from edgeslim.cli.options import AS_JSON, DEVICE, print_json, progress_options, quantity, show
from edgeslim.cli.progress import progress_on
from edgeslim.errors import BadInput, Refused
from edgeslim.measure.measurement import Kind
from edgeslim.measure.meters import METERS

if TYPE_CHECKING:
    from edgeslim.measure.comparison import Comparison
    from edgeslim.measure.harness import Workload

KINDS = get_args(Kind)
FAIL_ON = "golden,fallback"
OFFLINE_S, SUSTAINED_S = 2.0, 120.0

ON = click.option(
    "--on", type=words.BOARD, default="local", show_default=True, help="local, ssh://user@host:port or fake:FOLDER."
)
ON_ANY = click.option(
    "--on",
    type=words.BOARD_OR_EMULATOR,
    default="local",
    show_default=True,
    help="local, ssh://user@host:port, emulator, emulator:DEVICE or fake:FOLDER.",
)
PROCESSES = click.option(
    "--processes", type=click.IntRange(1), help="Fresh processes for each file (default 9; sustained: 1)."
)
THREADS = click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the runtime."
)
LIBRARY = click.option("--library", metavar="PATH", help="A runtime's library on the device, in place of our choice.")
ANY_DEVICE = click.option("--any-device/--no-any-device", help="Also on a device of another architecture.")
MIN_DURATION = click.option(
    "--min-duration", metavar="TIME", help="Time each process at least so long (default 300ms)."
)


@click.command(
    cls=WithDefaults,
    examples=(
        "edgeslim bench ARTIFACT --on ssh://pi@board",
        "edgeslim bench ARTIFACT --on ssh://pi@board --scenario sustained --meter auto",
        "edgeslim bench ARTIFACT --on emulator --ram 512MiB",
    ),
)
@click.argument("artifact", type=click.Path(path_type=Path))
@heading("Where")
@ON_ANY
@ANY_DEVICE
@LIBRARY
@click.option("--require-accelerator", metavar="NAME", help="What must run every node, as the runtime calls it.")
@click.option("--affinity", metavar="CPUS", help="The CPUs to run on: 0,2-3.")
@click.option("--memory-limit", metavar="SIZE", help="What one process may take, enforced by a cgroup: 64MiB.")
@heading("What is measured")
@click.option(
    "--scenario",
    type=click.Choice(["single-stream", "offline", "sustained"]),
    default="single-stream",
    show_default=True,
    help="One after the other; as many streams as cores; for minutes, its end against its start.",
)
@THREADS
@click.option("--streams", type=click.IntRange(1), help="Copies that run side by side (offline: one for each core).")
@PROCESSES
@click.option("--warmup", type=click.IntRange(0), help="Untimed inferences (default: until the times are steady).")
@MIN_DURATION
@click.option("--max-duration", metavar="TIME", help="End each process's timing after so long.")
@click.option("--cool-down", metavar="TIME", default="0s", show_default=True, help="Pause before each process.")
@click.option(
    "--meter",
    metavar="METER",
    type=words.METER,
    help=f"Measure power too: auto, {', '.join(METERS)}, or csv:FILE.",
)
@heading("On an emulator")
@TIME_LIMIT
@RAM
@heading("Output")
@click.option(
    "--fail-on",
    type=words.listed(*KINDS, "none"),
    default=FAIL_ON,
    show_default=True,
    metavar="KINDS",
    help=f"Exit with 5 for these: {', '.join(KINDS)}, or none.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw all raw times: .svg, .png or .pdf.")
@AS_JSON
@progress_options
@click.pass_context
def bench(
    context: click.Context,
    /,
    artifact: Path,
    on: str,
    fail_on: str,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    library: str | None,
    meter: str | None,
    require_accelerator: str | None,
    any_device: bool,
    time_limit: str | None,
    ram: str | None,
    **wishes: Any,
) -> None:
    """Measure latency, memory and power of every file of ARTIFACT on a device, fp32 beside INT8.

    On an emulator nothing is timed: instructions and cache misses are counted, and times estimated from them.
    """
    from edgeslim.measure.bench import CutOff
    from edgeslim.report.measurements import bench_view, measurement_data

    kinds = _kinds(fail_on)
    scheme, _, device = on.partition(":")
    if scheme == EMULATOR:
        require_useful(context)
        (bench_emulated if ram is None else partial(bench_fits, ram))(
            artifact, device or None, wishes["threads"], time_limit, kinds, as_json=as_json, quiet=quiet
        )
        return
    refuse_what_is_of_an_emulator(context)
    if plot is not None:
        from edgeslim.report.plots import require_drawable

        require_drawable(plot)
    cut: CutOff | None = None
    with progress_on(quiet=quiet or as_json) as progress:
        try:
            report = edgeslim.bench(
                artifact,
                on=on,
                workload=_workload(**wishes),
                library=library,
                meter=meter,
                require_accelerator=require_accelerator,
                any_device=any_device,
                progress=progress,
            )
        except CutOff as error:
            report, cut = error.report, error
    measured = report.measurements
    if as_json:
        print_json([measurement_data(one) for one in measured])
    elif measured:
        show(bench_view(report))
    if cut is not None:
        raise cut
    if plot is not None:
        from edgeslim.report.latency_plot import distributions

        distributions(measured, plot)
    require_believed(measured, kinds)


@click.command(
    cls=WithDefaults,
    examples=(
        "edgeslim compare OLD.json NEW.json --fail-if 'p90>+5%'",
        "edgeslim compare OLD_ARTIFACT NEW_ARTIFACT --on ssh://pi@board",
    ),
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 3: 'p90>+5%', 'size>+5%', 'score<-0.5'; repeatable.",
)
@ON
@THREADS
@PROCESSES
@MIN_DURATION
@LIBRARY
@ANY_DEVICE
@AS_JSON
@progress_options
def compare(a: Path, b: Path, conditions: tuple[str, ...], as_json: bool, quiet: bool, **wishes: Any) -> None:
    """Compare B with A: two saved measurements (.json), or two artifacts, measured now and interleaved.

    Of an artifact its primary file is taken: its size, its score and the verdict as the manifest has them, and its
    times. Times that were not taken alike are refused (exit code 2).
    """
    from edgeslim.measure.comparison import Condition, violated
    from edgeslim.report.measurements import comparison_data, comparison_table

    wanted = [Condition.parse(text) for text in conditions]
    found = _compared(a, b, quiet=quiet or as_json, wishes=wishes)
    broken = violated(wanted, found)
    if as_json:
        print_json({**comparison_data(found), "violated": broken})
    else:
        show(comparison_table(found))
    if broken:
        raise Refused(f"{b} against {a}:", broken)


def _compared(a: Path, b: Path, *, quiet: bool, wishes: dict[str, Any]) -> "Comparison":
    saved = [path.suffix == ".json" for path in (a, b)]
    if all(saved):
        return edgeslim.compare(a, b)
    if any(saved):
        raise BadInput(f"{a} and {b}: expected two measurements (.json) or two artifacts")
    with progress_on(quiet=quiet) as progress:
        return edgeslim.compare(
            a,
            b,
            on=wishes.pop("on"),
            library=wishes.pop("library"),
            any_device=wishes.pop("any_device"),
            workload=_workload(**wishes),
            progress=progress,
        )


@click.command(cls=WithDefaults, examples=("edgeslim probe ssh://pi@board --device raspberry-pi",))
@click.argument("target", type=words.BOARD)
@DEVICE
@LIBRARY
@AS_JSON
def probe(target: str, device: str, library: str | None, as_json: bool) -> None:
    """Say whether the machine at TARGET is what the profile of a device says: exit code 3 where it is not."""
    from edgeslim.report.measurements import probe_table

    findings = edgeslim.probe(target, device=device, library=library)
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        show(probe_table(findings, target, device))
    differing = [f"{one.what}: {one.profile} expected; {one.device}" for one in findings if one.state == "differs"]
    if differing:
        raise Refused(f"{target} is not what the profile of {device} says:", differing)


def _workload(
    *,
    scenario: str = "single-stream",
    threads: int,
    streams: int | None = None,
    affinity: str | None = None,
    processes: int | None,
    warmup: int | None = None,
    min_duration: str | None,
    max_duration: str | None = None,
    cool_down: str = "0s",
    memory_limit: str | None = None,
) -> "Workload":
    """Return the workload of the options; what a scenario implies stands in for what was not said."""
    from edgeslim.measure.harness import Workload

    usual_s, usual_count = {"single-stream": (0.3, 9), "offline": (OFFLINE_S, 9), "sustained": (SUSTAINED_S, 1)}[
        scenario
    ]
    shortest_s = quantity(min_duration, "seconds", "--min-duration")
    return Workload(
        scenario=scenario,  # type: ignore[arg-type]  # click has checked it
        threads=threads,
        streams=streams,
        affinity=affinity,
        processes=processes or usual_count,
        min_duration_s=usual_s if shortest_s is None else shortest_s,
        max_duration_s=quantity(max_duration, "seconds", "--max-duration"),
        warmup=warmup,
        cool_down_s=quantity(cool_down, "seconds", "--cool-down") or 0.0,
        memory_limit_bytes=quantity(memory_limit, "bytes", "--memory-limit"),
    )


def _kinds(text: str) -> tuple[Kind, ...]:
    """Return the kinds of caution that `--fail-on noisy,throttled` names."""
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise BadInput(f"--fail-on `{name}`: expected some of {', '.join(KINDS)}, or none")
    return tuple(kind for kind in KINDS if kind in names)
