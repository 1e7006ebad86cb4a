"""`show`, `inspect`, `verify`, `devices` and `doctor`: what an artifact, a device and this machine are."""

from dataclasses import asdict
from pathlib import Path

import click

import edgeslim
from edgeslim.cli import words
from edgeslim.cli.help import Command
from edgeslim.cli.options import AS_JSON, echo, print_json, show, tell
from edgeslim.devices.new_profile import write_new_profile
from edgeslim.devices.profile import all_profiles, describe, load_profile
from edgeslim.errors import BadInput


@click.command("show", cls=Command, examples=("edgeslim show ARTIFACT", "edgeslim show ARTIFACT.tar.gz --json"))
@click.argument("artifact", type=click.Path(path_type=Path))
@AS_JSON
def show_artifact(artifact: Path, as_json: bool) -> None:
    """Print the summary that the build of ARTIFACT ended with, from its folder or its archive alone.

    Times differ in every run: they lie beside the archive, in the folder, and an archive has none.
    """
    from edgeslim.report.summary import shown_data, shown_table

    found = edgeslim.show(artifact)
    if found.changed is not None:
        tell("warning", found.changed)
    if as_json:
        print_json(shown_data(found))
    else:
        show(shown_table(found))


@click.command(cls=Command, examples=("edgeslim inspect ARTIFACT", "edgeslim inspect ARTIFACT --all --plot depth.png"))
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Every row, not only what departs from the plan.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw trials and error by depth: .svg, .png or .pdf.")
@AS_JSON
def inspect(artifact: Path, everything: bool, plot: Path | None, as_json: bool) -> None:
    """Show what pruning tried for ARTIFACT, where quantization errs, layer by layer, and its ledger.

    The ledger: per layer and edge what was planned and what each file holds, read back from it.
    """
    from edgeslim.report.inspection_tables import inspection_data, inspection_view
    from edgeslim.report.plots import inspection_plot, require_drawable

    if plot is not None:
        require_drawable(plot)
    found = edgeslim.inspect(artifact)
    if found.changed is not None:
        tell("warning", found.changed)
    if plot is not None:
        inspection_plot(found, plot)
    if as_json:
        print_json(inspection_data(found))
    else:
        show(inspection_view(found, everything=everything))


@click.command(cls=Command, examples=("edgeslim verify ARTIFACT", "edgeslim verify ARTIFACT.tar.gz --expect SHA256"))
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--expect", metavar="SHA256", help="What the archive's SHA-256 must be, as its maker told it.")
@AS_JSON
def verify(artifact: Path, expect: str | None, as_json: bool) -> None:
    """Check ARTIFACT: every hash, its preprocessing, its golden vectors in every runtime present.

    An artifact that passes is whole. That it comes from its maker, only --expect says.
    """
    from edgeslim.artifact.verify import ReplayFailed
    from edgeslim.report.inspection_tables import verify_data, verify_text

    failed = None
    try:
        report = edgeslim.verify(artifact, expect=expect)
    except ReplayFailed as error:
        report, failed = error.report, error
    if as_json:
        print_json(verify_data(report))
    else:
        show(verify_text(report))
    if failed is not None:
        raise failed


@click.command(
    cls=Command, examples=("edgeslim devices", "edgeslim devices raspberry-pi --all", "edgeslim devices --new my-board")
)
@click.argument("name", type=words.DEVICE, required=False)
@click.option("--validate", type=click.Path(path_type=Path), help="Check a profile file of your own.")
@click.option("--new", metavar="NAME", help="Write NAME.yaml here, a commented profile to fill in for another board.")
@click.option("--all", "everything", is_flag=True, help="Every fact about a device, with its source.")
@AS_JSON
def devices(name: str | None, validate: Path | None, new: str | None, everything: bool, as_json: bool) -> None:
    """List the devices, or say what is known about one."""
    if everything and name is None:
        raise BadInput("--all says everything about one device: name it")
    if new is not None and (name is not None or validate is not None):
        raise BadInput("--new stands alone: without a device's name and without --validate")
    if new is not None:
        file = write_new_profile(new, Path())
        if as_json:
            print_json({"profile": str(file)})
        else:
            echo(f"{file}: fill in what you know, then edgeslim devices --validate {file}")
        return
    if validate is not None:
        device = load_profile(validate).name
        if as_json:
            print_json({"profile": str(validate), "valid": True, "device": device})
        else:
            echo(f"{validate}: a valid profile of {device}")
        return
    if as_json:
        profiles = [load_profile(name)] if name else all_profiles()
        print_json([{"device": p.name, "facts": [asdict(fact) for fact in describe(p)]} for p in profiles])
        return
    from edgeslim.report.devices import brief_table, devices_table, facts_table

    if name is None:
        show(devices_table(all_profiles()))
    else:
        show((facts_table if everything else brief_table)(load_profile(name)))


@click.command(cls=Command, examples=("edgeslim doctor",))
@AS_JSON
def doctor(as_json: bool) -> None:
    """Show what is installed and usable here, and the command that would enable what is not."""
    from edgeslim.report.devices import findings_table
    from edgeslim.report.doctor import diagnose

    findings = diagnose()
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        show(findings_table(findings))
