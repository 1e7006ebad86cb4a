"""The command line: parse, call one function, print. stdout is the result, stderr progress and errors."""

import signal
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import click

import edgeslim
from edgeslim.cli_calibrate import calibrate
from edgeslim.cli_common import AS_JSON, DEVICE, QUIET, STDERR, STDOUT, print_json, progress_on, quantity
from edgeslim.cli_emulator import profile
from edgeslim.cli_measure import bench, compare, probe
from edgeslim.devices.profile import all_profiles, describe, load_profile
from edgeslim.errors import BadInput, DeviceFailed, EdgeslimError, try_diagnostic

WEIGHTS = click.option("--weights", help="random, default (torchvision's local cache), or a .safetensors or .pt file.")
FORMATS = click.option(
    "--format", "formats", multiple=True, help="onnx, openvino or tflite; may be repeated. Default: all."
)
TRUST_LABELS = click.option(
    "--trust-labels", is_flag=True, help="Do not hold the labels against what the model answers before the work."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="edgeslim")
def commands() -> None:
    """Compress a CNN for one device and hand over an artifact in which nothing is believed before it ran."""


@commands.command()
@click.argument("model", required=False)
@DEVICE
@WEIGHTS
@click.option("--data", help="A folder of images by class, an .npz of images and labels, or `synthetic`.")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), help="A recipe file in place of the default.")
@FORMATS
@click.option("--max-drop", type=float, help="Points of top-1 an INT8 file may lose (default 1.0).")
@click.option("--max-latency", metavar="TIME", help="What an inference may take on the device: 30ms.")
@click.option("--max-size", metavar="SIZE", help="What the primary INT8 file may take: 5MB.")
@click.option("--prune", metavar="UNIT=SHARE", help="Keep this share of the macs, parameters, channels or latency.")
@click.option("--no-prune", is_flag=True, help="Leave every channel; by default the fastest within --max-drop is kept.")
@click.option("--keep-float", multiple=True, metavar="PATTERN", help="Layers to leave in float (regular expression).")
@click.option(
    "--rewrite",
    multiple=True,
    metavar="WHAT",
    help="For an NPU: auto (default: what its rules ask for), none, NAME=yes or NAME=no; may be repeated.",
)
@click.option("--strict", is_flag=True, help="Fail when a file departs from the plan without a stated reason.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the runtimes (default 1).")
@click.option("--seed", type=click.IntRange(0), help="Seed of all that is random (default 0).")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="The artifact's folder (default artifacts/MODEL-DEVICE)."
)
@click.option("--overwrite", is_flag=True, help="Replace an artifact that is there.")
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@TRUST_LABELS
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and stop.")
@AS_JSON
@QUIET
@click.option("-v", "--verbose", is_flag=True, help="Show how the model changed, step by step.")
def build(
    model: str | None, device: str, dry_run: bool, as_json: bool, quiet: bool, verbose: bool, **wishes: Any
) -> None:
    """Build MODEL for a device: compress, export, run each export, pack.

    MODEL is FILE.py:FACTORY or torchvision:NAME; without it the bundled default is built.
    """
    recipe = _recipe(device, wishes)
    from edgeslim.compress import resolve
    from edgeslim.pipeline.result import Incomplete, Rejected

    if dry_run:
        for call in recipe.steps:
            resolve(call)
        if as_json:
            print_json(recipe.model_dump(mode="json"))
        else:
            click.echo(recipe.text(), nl=False)
        return

    with progress_on(quiet=quiet or as_json) as progress:
        try:
            report = edgeslim.build(
                model, device=device, weights=wishes["weights"], data=wishes["data"], recipe=recipe, out=wishes["out"],
                overwrite=wishes["overwrite"], skip_bad=wishes["skip_bad"], trust_labels=wishes["trust_labels"],
                progress=progress,
            )  # fmt: skip
            rejected = None
        except (Rejected, Incomplete) as error:
            report, rejected = error.report, error
    from edgeslim.report.summary import build_summary, summary_data

    artifact = report.artifact
    if as_json:
        print_json(
            {
                "folder": str(artifact.folder),
                **summary_data(artifact.manifest, report.measurements, report.warnings, report.times),
                "class_order": report.class_order,
            }
        )
    else:
        summary = build_summary(
            artifact.folder, artifact.manifest, report.profile, report.measurements, report.warnings, report.times,
            report.class_order,
        )  # fmt: skip
        STDOUT.print(summary)
        if verbose:
            click.echo((artifact.folder / "CHANGELOG.md").read_text())
    if rejected is not None:
        raise rejected


def _recipe(device: str, wishes: dict[str, Any]) -> Any:
    """Return the recipe of the flags: the file's or the device's default, with what was asked for on top."""
    from edgeslim.backends.cpu import default_recipe
    from edgeslim.recipe import load_recipe, with_settings, with_step_settings, without_step

    file = wishes["recipe_file"]
    recipe = load_recipe(file) if file else default_recipe(load_profile(device))
    given = {
        "formats": wishes["formats"] or None,
        "max_drop_points": wishes["max_drop"],
        "max_latency_s": quantity(wishes["max_latency"], "seconds", "--max-latency"),
        "max_size_bytes": quantity(wishes["max_size"], "bytes", "--max-size"),
        "strict": wishes["strict"] or None,
        "threads": wishes["threads"],
        "seed": wishes["seed"],
    }
    recipe = with_settings(recipe, **{name: value for name, value in given.items() if value is not None})
    if wishes["no_prune"]:
        if wishes["prune"]:
            raise BadInput("--prune and --no-prune contradict each other")
        recipe = without_step(recipe, "prune")
    if wishes["prune"]:
        recipe = with_step_settings(recipe, "prune", **_amount(wishes["prune"]))
    if wishes["rewrite"]:
        recipe = with_step_settings(recipe, "legalize", rewrite=list(wishes["rewrite"]))
    if wishes["keep_float"]:
        recipe = with_step_settings(recipe, "quantize", keep_float=list(wishes["keep_float"]))
    return recipe


def _amount(text: str) -> dict[str, float]:
    """Return the setting that `--prune macs=0.5` names."""
    unit, _, share = text.partition("=")
    known = ("macs", "parameters", "channels", "latency")
    try:
        if unit not in known:
            raise ValueError(unit)
        return {f"keep_{unit}": float(share)}
    except ValueError as error:
        raise BadInput(
            f"--prune `{text}`: expected UNIT=SHARE, a share to keep, UNIT one of {', '.join(known)}: macs=0.5"
        ) from error


@commands.command()
@click.argument("model", required=False)
@DEVICE
@WEIGHTS
@click.option("--data", help="Images that must fit the model too.")
@FORMATS
@TRUST_LABELS
@AS_JSON
def check(model: str | None, device: str, formats: tuple[str, ...], as_json: bool, **wishes: Any) -> None:
    """Say in seconds whether a device can have MODEL: every reason why not, before any work (exit code 3).

    For an NPU: every layer that breaks one of its rules, with the rewrite that cures it.
    """
    from edgeslim.backends.cpu import default_recipe
    from edgeslim.errors import Refused
    from edgeslim.recipe import with_settings

    chosen = with_settings(default_recipe(load_profile(device)), **({"formats": formats} if formats else {})).formats
    found = edgeslim.check(model, device=device, formats=chosen, **wishes)
    shown = model or "the bundled default"
    if as_json:
        print_json({"possible": not found.reasons, "reasons": found.reasons, "rewrites": found.rewrites})
    else:
        if not found.reasons:
            click.echo(f"{shown} can be built for {device}")
        for line in found.rewrites:
            click.echo(f"  rewritten by default: {line}")
    if found.reasons:
        raise Refused(f"{shown} cannot be built for {device}:", found.reasons)


@commands.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Every row, not only what departs from the plan.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw trials and error by depth into this .png.")
@AS_JSON
def inspect(artifact: Path, everything: bool, plot: Path | None, as_json: bool) -> None:
    """Show what pruning tried for ARTIFACT, where quantization errs, layer by layer, and its ledger.

    The ledger: per layer and edge what was planned and what each file holds, read back from it.
    """
    from edgeslim.backends.ethos_u.tables import simulation_table
    from edgeslim.backends.tensorrt.tables import fp16_table
    from edgeslim.report.inspection_tables import depth_table, inspection_data, ledger_table, trials_table
    from edgeslim.report.plots import inspection_plot, require_matplotlib

    if plot is not None:
        require_matplotlib()
    found = edgeslim.inspect(artifact)
    if plot is not None:
        inspection_plot(found, plot)
    if as_json:
        print_json(inspection_data(found))
    else:
        STDOUT.print(trials_table(found.trials))
        STDOUT.print(depth_table(found.error_by_depth, found.error_images))
        if found.half:
            STDOUT.print(fp16_table(found.half))
        if found.simulation is not None:
            STDOUT.print(simulation_table(found.simulation))
        STDOUT.print(ledger_table(found.ledger, everything=everything))


@commands.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@AS_JSON
def verify(artifact: Path, as_json: bool) -> None:
    """Check ARTIFACT: every hash, its preprocessing, its golden vectors in every runtime present."""
    from edgeslim.artifact.verify import ReplayFailed
    from edgeslim.report.inspection_tables import verify_data, verify_text

    failed = None
    try:
        report = edgeslim.verify(artifact)
    except ReplayFailed as error:
        report, failed = error.report, error
    if as_json:
        print_json(verify_data(report))
    else:
        STDOUT.print(verify_text(report))
    if failed is not None:
        raise failed


@commands.command()
@click.argument("model", required=False)
@DEVICE
@WEIGHTS
@click.option("--data", help="A folder of images by class, an .npz of images and labels, or `synthetic`.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of all that is random (default 0).")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="Folder of the files (default sensitivity/MODEL-DEVICE)."
)
@click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read.")
@TRUST_LABELS
@AS_JSON
@QUIET
def sensitivity(model: str | None, device: str, out: Path | None, as_json: bool, quiet: bool, **wishes: Any) -> None:
    """Show where MODEL can give: what each group of channels loses at each width, and each layer as INT8.

    Writes sensitivity.json and sensitivity.png. What was found is kept for the next call; `build` uses curves and
    times.
    """
    from edgeslim.model.load import name_of
    from edgeslim.pipeline.sensitivity import save
    from edgeslim.report.plots import require_matplotlib, sensitivity_plot
    from edgeslim.report.sensitivity import sensitivity_table

    require_matplotlib()
    folder = out or Path("sensitivity") / f"{name_of(model)}-{load_profile(device).name}"
    with progress_on(quiet=quiet or as_json) as progress:
        report = edgeslim.sensitivity(model, device=device, progress=progress, **wishes)
    figure = folder / "sensitivity.png"
    files = [str(save(report, folder)), str(figure)]
    _, not_drawn = try_diagnostic("the figure", lambda: sensitivity_plot(report, figure))
    if as_json:
        print_json({"folder": str(folder), **asdict(report)})
    else:
        STDOUT.print(sensitivity_table(report, files[: 2 - len(not_drawn)]))
    for line in not_drawn:
        STDERR.print("warning:", line, highlight=False)


@commands.command()
@click.argument("name", required=False)
@click.option("--validate", type=click.Path(path_type=Path), help="Check a profile file of your own.")
@AS_JSON
def devices(name: str | None, validate: Path | None, as_json: bool) -> None:
    """List the devices, or everything known about one, with sources."""
    if validate is not None:
        device = load_profile(validate).name
        if as_json:
            print_json({"profile": str(validate), "valid": True, "device": device})
        else:
            click.echo(f"{validate}: a valid profile of {device}")
        return
    if as_json:
        profiles = [load_profile(name)] if name else all_profiles()
        print_json([{"device": p.name, "facts": [asdict(fact) for fact in describe(p)]} for p in profiles])
        return
    from edgeslim.report.devices import devices_table, facts_table

    STDOUT.print(facts_table(load_profile(name)) if name else devices_table(all_profiles()))


@commands.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """Show what is installed and usable here, and the command that would enable what is not."""
    from edgeslim.report.devices import findings_table
    from edgeslim.report.doctor import diagnose

    findings = diagnose()
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        STDOUT.print(findings_table(findings))


for command in (bench, compare, probe, profile, calibrate):
    commands.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with the code of what happened."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _interrupt)
    try:
        commands.main(standalone_mode=False)
    except DeviceFailed as error:
        _fail(f"{error}\nstatus: {error.status}; {error.next_step}", error.exit_code)
    except EdgeslimError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; nothing half-written was left", 130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read stdout has gone, and Python would complain about it at its exit
        sys.exit(0)
    except Exception:  # noqa: BLE001 - our bug: the one place that must catch everything
        with tempfile.NamedTemporaryFile("w", prefix="edgeslim-report-", suffix=".txt", delete=False) as report:
            report.write(f"edgeslim {sys.argv[1:]}\n{traceback.format_exc()}")
        _fail(f"a bug in edgeslim; please report it with {report.name}", 1)
    sys.exit(0)


def _interrupt(number: int, frame: Any) -> NoReturn:  # noqa: ARG001 - the signature of a signal handler
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    STDERR.print("error:", message, markup=False, highlight=False)
    sys.exit(code)
