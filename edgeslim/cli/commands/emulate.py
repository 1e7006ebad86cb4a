"""The commands that run an artifact on an emulated device: `bench --on emulator` and `profile`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

import edgeslim
from edgeslim.cli import words
from edgeslim.cli.defaults import WithDefaults, from_command_line
from edgeslim.cli.options import AS_JSON, print_json, progress_options, quantity, show
from edgeslim.cli.progress import progress_on
from edgeslim.errors import BadInput, DeviceFailed, InvalidMeasurement, Refused
from edgeslim.measure.measurement import Kind

RAM = click.option(
    "--ram", metavar="SIZE", help="Of an emulator: does each file fit into a machine with so much? 512MiB."
)

if TYPE_CHECKING:
    from edgeslim.emulation.bench import Skipped
    from edgeslim.emulation.fits import MemoryFit
    from edgeslim.emulation.inference import EmulatedInference
    from edgeslim.measure.measurement import Measurement

EMULATOR = "emulator"
# What of a bench's options a count of instructions has a use for.
USEFUL = {"artifact", "on", "threads", "time_limit", "ram", "fail_on", "as_json", "quiet"}

TIME_LIMIT = click.option(
    "--time-limit", metavar="TIME", help="Of an emulator: end a process after so long (default 10min)."
)


def require_useful(context: click.Context) -> None:
    """Raise BadInput for an option that was given and means nothing on an emulator."""
    for one in context.command.params:
        if from_command_line(context, str(one.name)) and one.name not in USEFUL:
            raise BadInput(
                f"{one.opts[0]} means nothing on an emulator: instructions are counted there, nothing is timed"
            )


def refuse_what_is_of_an_emulator(context: click.Context) -> None:
    """Raise BadInput for an option that was given and means nothing on any other device."""
    if from_command_line(context, "time_limit"):
        raise BadInput(f"--time-limit is of --on {EMULATOR}; elsewhere --max-duration ends the timing")
    if from_command_line(context, "ram"):
        raise BadInput(f"--ram is of the emulated machine: --on {EMULATOR}")


def bench_emulated(
    artifact: Path,
    device: str | None,
    threads: int,
    time_limit: str | None,
    kinds: tuple[Kind, ...],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Count what every file of an artifact takes on an emulated core, and print it."""
    from edgeslim.report.emulation import emulation_data, emulation_table

    with progress_on(quiet=quiet or as_json) as progress:
        report = edgeslim.emulate(
            artifact,
            device=device,
            threads=threads,
            time_limit_s=time_limit_seconds(time_limit),
            progress=progress,
        )
    if as_json:
        print_json(emulation_data(report))
    else:
        show(emulation_table(report))
    require_believed(report.simulations, kinds)
    require_all_ran(report.skipped)


def require_all_ran(skipped: Sequence["Skipped"]) -> None:
    """Raise DeviceFailed for files that did not run and of which the device's profile does not say so."""
    unexpected = [one.label for one in skipped if not one.known]
    if unexpected:
        raise DeviceFailed(f"not every file ran (the reasons are above): {', '.join(unexpected)}")


def require_believed(found: Sequence["Measurement | EmulatedInference | MemoryFit"], kinds: tuple[Kind, ...]) -> None:
    """Raise InvalidMeasurement where a record has a caution of one of these kinds."""
    from edgeslim.measure.cautions import told_once

    failing = told_once([(one.label, one.failing(kinds)) for one in found], "every file")
    if failing:
        lines = ["the figures must not be believed:", *(f"  - {words}" for words, _ in failing)]
        raise InvalidMeasurement("\n".join(lines), "\n".join(dict.fromkeys(advice for _, advice in failing)))


@click.command(
    cls=WithDefaults, examples=("edgeslim profile ARTIFACT", "edgeslim profile ARTIFACT --on emulator:raspberry-pi-5")
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--on", type=words.EMULATOR, default=EMULATOR, show_default=True, help="emulator, or emulator:DEVICE.")
@click.option("--file", metavar="PATH", help="An ONNX file of the artifact (default: its INT8 one).")
@TIME_LIMIT
@AS_JSON
@progress_options
def profile(artifact: Path, on: str, file: str | None, time_limit: str | None, as_json: bool, quiet: bool) -> None:
    """Say what every operator of ARTIFACT takes on an emulated device, and what to try first."""
    from edgeslim.report.emulation import profile_table

    scheme, _, device = on.partition(":")
    if scheme != EMULATOR:
        raise BadInput(f"--on {on}: operators are counted on {EMULATOR} or {EMULATOR}:DEVICE alone")
    with progress_on(quiet=quiet or as_json) as progress:
        found = edgeslim.profile(
            artifact,
            device=device or None,
            file=file,
            time_limit_s=time_limit_seconds(time_limit),
            progress=progress,
        )
    if as_json:
        rows = [{**asdict(one), "instructions_per_mac": one.instructions_per_mac} for one in found.operators]
        print_json(
            {
                "file": found.file,
                "device": found.device.name,
                "emulator": found.emulator,
                "shares_of": found.by,
                "operators": rows,
            }
        )
    else:
        show(profile_table(found))


def time_limit_seconds(text: str | None) -> float:
    """Return what --time-limit says, or how long a process may take without it."""
    from edgeslim.emulation.core import TIME_LIMIT_S

    limit_s = quantity(text, "seconds", "--time-limit")
    if limit_s == 0:
        raise BadInput("--time-limit 0: expected more than 0 seconds")
    return TIME_LIMIT_S if limit_s is None else float(limit_s)


def bench_fits(
    ram: str,
    artifact: Path,
    device: str | None,
    threads: int,
    time_limit: str | None,
    kinds: tuple[Kind, ...],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run every file of an artifact with so much memory and print what fits; Refused where one does not."""
    from edgeslim.report.emulation import fit_data, fit_table

    with progress_on(quiet=quiet or as_json) as progress:
        report = edgeslim.fits(
            artifact,
            quantity(ram, "bytes", "--ram"),
            device=device,
            threads=threads,
            time_limit_s=time_limit_seconds(time_limit),
            progress=progress,
        )
    if as_json:
        print_json(fit_data(report))
    else:
        show(fit_table(report))
    require_believed(report.found, kinds)
    reasons = [f"{one.label}: {one.reason}" for one in report.found if not one.fits]
    if reasons:
        raise Refused(f"with {ram} of memory, not every file fits:", reasons)
    require_all_ran(report.skipped)
