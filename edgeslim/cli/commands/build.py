"""`build` and `sensitivity`: from a model to an artifact, and where it can give."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import edgeslim
from edgeslim.cli import words
from edgeslim.cli.defaults import WithDefaults
from edgeslim.cli.help import heading
from edgeslim.cli.options import (
    AS_JSON,
    FORMATS,
    echo,
    model_options,
    print_json,
    progress_options,
    quantity,
    show,
    tell,
)
from edgeslim.cli.progress import progress_on
from edgeslim.devices.profile import load_profile
from edgeslim.errors import BadInput, try_diagnostic
from edgeslim.recipe import RECIPE_SCHEMA
from edgeslim.strict_yaml import editor_line

if TYPE_CHECKING:
    from edgeslim.recipe import Recipe


@click.command(
    cls=WithDefaults,
    examples=(
        "edgeslim build --device raspberry-pi",
        "edgeslim build model.py:make -d rpi5 --weights net.safetensors --data images/",
        "edgeslim build model.py:make -d rpi5 --data images/ --max-drop 0.5 --dry-run",
    ),
)
@heading("Model and data")
@model_options
@heading("What to build")
@click.option("--recipe", "recipe_file", type=click.Path(path_type=Path), help="A recipe file in place of the default.")
@FORMATS
@click.option(
    "--logits/--no-logits", "cut_probabilities", default=None, help="Cut a final softmax, log-softmax or sigmoid."
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the runtimes (default 1).")
@click.option("--seed", type=click.IntRange(0), help="Seed of all that is random (default 0).")
@heading("Demands")
@click.option(
    "--max-drop",
    type=float,
    help="Points of accuracy a file may lose (default 1.0).",
)
@click.option("--max-latency", metavar="TIME", help="What an inference may take on the device: 30ms.")
@click.option("--max-size", metavar="SIZE", help="What the primary INT8 file may take: 5MB.")
@click.option(
    "--strict/--no-strict",
    default=None,
    help="Fail when a file departs from the plan without a stated reason, or too few images judge.",
)
@heading("Pruning and quantization")
@click.option(
    "--prune",
    metavar="UNIT=SHARE",
    type=words.PRUNING,
    help="Keep this share of the macs, parameters, channels or latency; auto (default): as the recipe says.",
)
@click.option("--no-prune", is_flag=True, help="Leave every channel; by default the fastest within --max-drop is kept.")
@click.option(
    "--train-time",
    metavar="TIME",
    help="Train what pruning left for so long, to answer as the whole network: 2min (default 0s: not at all).",
)
@click.option(
    "--train", type=words.DATA, metavar="DATA", help="Images to train on, labelled or not (default: what calibrates)."
)
@click.option(
    "--operator-times",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Prune by these times (operator_times.json, or an artifact that carries it), and measure none.",
)
@click.option("--keep-float", multiple=True, metavar="PATTERN", help="Layers to leave in float (regular expression).")
@click.option("--half-weights", multiple=True, metavar="PATTERN", help="Layers whose weights are held in fp16.")
@click.option("--weights-only", multiple=True, metavar="PATTERN", help="Layers of which only the weights become INT8.")
@click.option(
    "--dynamic", multiple=True, metavar="PATTERN", help="Likewise, but LiteRT rounds each image's activations."
)
@click.option(
    "--rewrite",
    type=words.REWRITE,
    multiple=True,
    metavar="WHAT",
    help="For an NPU: auto (default: what its rules ask for), none, NAME=yes or NAME=no; may be repeated.",
)
@heading("Output")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="The artifact's folder (default artifacts/MODEL-DEVICE)."
)
@click.option("--overwrite/--no-overwrite", help="Replace an artifact that is there.")
@click.option(
    "--estimate/--no-estimate", default=True, help="Estimate what the primary file takes on the device (default)."
)
@click.option("--origin", metavar="TEXT", help="Where the network came from, for model card and manifest.")
@click.option(
    "--licence", metavar="SPDX", help="Its licence, likewise: Apache-2.0, `MIT OR Apache-2.0`, LicenseRef-OURS."
)
@click.option("--dry-run", is_flag=True, help="Print the recipe with every setting, and stop.")
@AS_JSON
@progress_options
@click.option("-v", "--verbose", is_flag=True, help="Show how the model changed, step by step.")
def build(
    model: str | None, device: str, dry_run: bool, as_json: bool, quiet: bool, verbose: bool, **wishes: Any
) -> None:
    """Build MODEL for a device: compress, export, run each export, pack.

    MODEL is FILE.py:NAME, torchvision:NAME, timm:NAME, or the folder of an image classifier of Hugging Face's; without
    it the bundled default is built.
    """
    recipe = _recipe(device, wishes)
    if dry_run:
        _tell_dry_run(recipe, device, model, wishes["out"], as_json=as_json)
        return
    from edgeslim.pipeline.result import Incomplete, Rejected

    untrained = wishes["train_time"] is not None and all(call.step != "distill" for call in recipe.steps)
    with progress_on(quiet=quiet or as_json, of=("build", model, device)) as progress:
        try:
            report = edgeslim.build(
                model,
                device=device,
                weights=wishes["weights"],
                data=wishes["data"],
                calibration=wishes["calibration"],
                selection=wishes["selection"],
                evaluation=wishes["evaluation"],
                recipe=recipe,
                out=wishes["out"],
                overwrite=wishes["overwrite"],
                skip_bad=wishes["skip_bad"],
                trust_labels=wishes["trust_labels"],
                train=None if untrained else wishes["train"],
                operator_times=wishes["operator_times"],
                estimate=wishes["estimate"],
                origin=wishes["origin"],
                licence=wishes["licence"],
                progress=progress,
            )
            rejected = None
        except (Rejected, Incomplete) as error:
            report, rejected = error.report, error
    from edgeslim.report.summary import shown_data, shown_table

    folder = report.artifact.folder
    made = edgeslim.show(folder)
    if as_json:
        print_json({**shown_data(made), "advice": list(report.advice)})
    else:
        show(shown_table(made))
        if verbose:
            echo((folder / "CHANGELOG.md").read_text())
    if rejected is not None:
        raise rejected


def _tell_dry_run(recipe: "Recipe", device: str, model: str | None, out: Path | None, *, as_json: bool) -> None:
    """Print what a build would do: a recipe in which every setting stands, or all of it as JSON."""
    from edgeslim.pipeline.build import place_of
    from edgeslim.pipeline.preflight.dry_run import dry_run

    profile = load_profile(device)
    found = dry_run(recipe, profile, model, place_of(out, model, profile))
    if not as_json:
        echo(editor_line(RECIPE_SCHEMA.as_uri()) + found.text(), nl=False)
        return
    left = [{"step": recipe.steps[at].step, "setting": name, "why": why} for (at, name), why in found.left.items()]
    print_json(
        {
            "device": found.device,
            "model": found.source,
            "out": str(found.out),
            "archive": str(found.archive),
            "recipe": found.recipe.model_dump(mode="json"),
            "left_to_the_build": left,
        }
    )


def _recipe(device: str, wishes: dict[str, Any]) -> "Recipe":
    """Return the recipe of the flags: the file's or the device's default, with what was asked for on top."""
    from edgeslim.pipeline.recipes import recipe_for
    from edgeslim.recipe import with_pruning, with_step_settings, with_training

    recipe = recipe_for(
        load_profile(device),
        wishes["recipe_file"],
        formats=wishes["formats"] or None,
        max_drop_points=wishes["max_drop"],
        max_latency_s=quantity(wishes["max_latency"], "seconds", "--max-latency"),
        max_size_bytes=quantity(wishes["max_size"], "bytes", "--max-size"),
        cut_probabilities=wishes["cut_probabilities"],
        strict=wishes["strict"],
        threads=wishes["threads"],
        seed=wishes["seed"],
    )
    if wishes["no_prune"] and wishes["prune"]:
        raise BadInput("--prune and --no-prune contradict each other")
    recipe = with_pruning(recipe, False if wishes["no_prune"] else wishes["prune"])
    recipe = with_training(recipe, quantity(wishes["train_time"], "seconds", "--train-time"))
    if wishes["rewrite"]:
        recipe = with_step_settings(recipe, "legalize", rewrite=list(wishes["rewrite"]))
    for wish in ("keep_float", "half_weights", "weights_only", "dynamic"):
        if wishes[wish]:
            recipe = with_step_settings(recipe, "quantize", **{wish: list(wishes[wish])})
    return recipe


@click.command(
    cls=WithDefaults,
    examples=(
        "edgeslim sensitivity --device raspberry-pi",
        "edgeslim sensitivity model.py:make -d rpi5 --data images/ --out curves",
    ),
)
@heading("Model and data")
@model_options
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of all that is random (default 0).")
@heading("Output")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="Folder of the files (default sensitivity/MODEL-DEVICE)."
)
@click.option("--plot", type=click.Path(path_type=Path), help="The figure: .svg, .png or .pdf (default: .png there).")
@AS_JSON
@progress_options
def sensitivity(
    model: str | None, device: str, out: Path | None, plot: Path | None, as_json: bool, quiet: bool, **wishes: Any
) -> None:
    """Show where MODEL can give: what each group of channels loses at each width, and each layer as INT8.

    Writes sensitivity.json and sensitivity.png. What was found is kept for the next call; `build` uses curves and
    times.
    """
    from edgeslim.model.load import name_of
    from edgeslim.pipeline.sensitivity import save
    from edgeslim.report.plots import require_drawable, sensitivity_plot
    from edgeslim.report.sensitivity import sensitivity_table

    folder = out or Path("sensitivity") / f"{name_of(model)}-{load_profile(device).name}"
    figure = plot or folder / "sensitivity.png"
    require_drawable(figure)
    with progress_on(quiet=quiet or as_json, of=("sensitivity", model, device)) as progress:
        report = edgeslim.sensitivity(model, device=device, progress=progress, **wishes)
    files = [str(save(report, folder)), str(figure)]
    _, not_drawn = try_diagnostic("the figure", lambda: sensitivity_plot(report, figure))
    if as_json:
        print_json({"folder": str(folder), **asdict(report)})
    else:
        show(sensitivity_table(report, files[: 2 - len(not_drawn)]))
    for line in not_drawn:
        tell("warning", line)
