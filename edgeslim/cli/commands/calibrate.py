"""The command `calibrate`."""

from dataclasses import replace
from pathlib import Path

import click

import edgeslim
from edgeslim.cli import words
from edgeslim.cli.defaults import WithDefaults
from edgeslim.cli.options import AS_JSON, DEVICE, print_json, progress_options, show
from edgeslim.cli.progress import progress_on
from edgeslim.errors import BadInput


@click.command(
    cls=WithDefaults, examples=("edgeslim calibrate --on ssh://pi@board -d raspberry-pi-4 --out my-board.yaml",)
)
@click.option("--on", type=words.BOARD, required=True, help="The board: ssh://user@host:port, or local.")
@DEVICE
@click.option(
    "--runtime",
    type=click.Choice(["litert", "onnxruntime"]),
    default="litert",
    show_default=True,
    help="The runtime in which models are timed there.",
)
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="The profile to write: my-board.yaml."
)
@click.option("--processes", type=click.IntRange(5), default=5, show_default=True, help="For each of the 24 models.")
@click.option("--accept", metavar="KINDS", default="", help="Cautions that may pass: noisy, throttled, clocks.")
@click.option("--overwrite/--no-overwrite", help="Replace a file that is there.")
@AS_JSON
@progress_options
def calibrate(
    on: str,
    device: str,
    runtime: str,
    out: Path,
    processes: int,
    accept: str,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fit the estimator of a device on your own board, and write it as a profile laid over the device's."""
    from edgeslim.emulation.calibrate import REFUSED, WORKLOAD

    kinds = [name.strip() for name in accept.split(",") if name.strip()]
    for name in kinds:
        if name not in REFUSED:
            raise BadInput(f"--accept `{name}`: expected some of {', '.join(REFUSED)}")
    with progress_on(quiet=quiet or as_json) as progress:
        found = edgeslim.calibrate(
            on,
            device=device,
            out=out,
            runtime=runtime,
            workload=replace(WORKLOAD, processes=processes),
            accept=[kind for kind in REFUSED if kind in kinds],
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json(
            {
                "out": str(out),
                "base": found.base,
                "calibrated": found.calibrated.model_dump(mode="json"),
                "estimator": found.estimator.model_dump(mode="json"),
            }
        )
    else:
        from edgeslim.report.emulation import calibration_lines

        show(*calibration_lines(found))
