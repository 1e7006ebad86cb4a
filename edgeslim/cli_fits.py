"""What `bench --on emulator --ram SIZE` does: which files fit into so much memory."""

from pathlib import Path

import click

import edgeslim
from edgeslim.cli_common import STDOUT, print_json, progress_on, quantity
from edgeslim.cli_emulator import require_all_ran, require_believed, time_limit_seconds
from edgeslim.errors import Refused
from edgeslim.measure.measurement import Kind

RAM = click.option(
    "--ram", metavar="SIZE", help="Of an emulator: does each file fit into a machine with so much? 512MiB."
)


def bench_fits(
    ram: str, artifact: Path, device: str | None, threads: int, time_limit: str | None, kinds: tuple[Kind, ...], *,
    as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Run every file of an artifact with so much memory and print what fits; Refused where one does not."""
    from edgeslim.report.emulation import fit_data, fit_table

    with progress_on(quiet=quiet or as_json) as progress:
        report = edgeslim.fits(
            artifact, quantity(ram, "bytes", "--ram"), device=device, threads=threads,
            time_limit_s=time_limit_seconds(time_limit),
            progress=lambda label, done, total: progress(f"running {label}", done / total),
        )  # fmt: skip
    if as_json:
        print_json(fit_data(report))
    else:
        STDOUT.print(fit_table(report))
    require_believed(report.found, kinds)
    reasons = [f"{one.label}: {one.reason}" for one in report.found if not one.fits]
    if reasons:
        raise Refused(f"with {ram} of memory, not every file fits:", reasons)
    require_all_ran(report.skipped)
