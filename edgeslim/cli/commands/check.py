"""`check` and `init`: what is known before a build, and a first model.py for those who have none."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import edgeslim
from edgeslim.cli import words
from edgeslim.cli.defaults import WithDefaults
from edgeslim.cli.options import (
    AS_JSON,
    DEVICE,
    FORMATS,
    SKIP_BAD,
    TRUST_LABELS,
    WEIGHTS,
    echo,
    images_options,
    model_options,
    print_json,
    show,
    tell,
)
from edgeslim.devices.profile import load_profile
from edgeslim.errors import BadInput, Refused
from edgeslim.model.sources.known import holds_weights
from edgeslim.resources import whole_file

if TYPE_CHECKING:
    from edgeslim.formats import FormatName
    from edgeslim.pipeline.preflight.check import CheckReport

SETS = ("calibration", "selection", "evaluation")  # of images, which may be given each by itself


@click.command(
    cls=WithDefaults,
    examples=(
        "edgeslim check model.py:make --device raspberry-pi",
        "edgeslim check model.py:make -d nxp-imx93 --data images/ --json",
    ),
)
@model_options
@FORMATS
@AS_JSON
def check(model: str | None, device: str, formats: tuple["FormatName", ...], as_json: bool, **wishes: Any) -> None:
    """Say in seconds what is known of MODEL, a device and images before a build.

    Every reason why the device cannot have it (exit code 3); input, outputs, size and layers; with images how they are
    split, how good the float model is on some of them, and what a build would take.
    """
    found = edgeslim.check(model, device=device, formats=formats or None, **wishes)
    shown = model or "the bundled default"
    if as_json:
        print_json(found.to_dict())
    else:
        _tell(found, shown, device)
    _require_possible(found, shown, device)


@click.command(
    cls=WithDefaults,
    examples=(
        "edgeslim init net.py:Net --device raspberry-pi",
        "edgeslim init weights.pt -d rpi5 --data images/",
    ),
)
@click.argument("source", type=words.MODEL)
@DEVICE
@WEIGHTS
@images_options
@SKIP_BAD
@TRUST_LABELS
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The file (default: model.py beside SOURCE).")
@AS_JSON
def init(source: str, device: str, out: Path | None, as_json: bool, **wishes: Any) -> None:
    """Write a commented model.py for SOURCE, and check it for a device.

    SOURCE is FILE.py:NAME, a module that says nothing of its images yet, or the weights of a torchvision classifier.
    What was guessed of the images stands in the file, and is said.
    """
    from edgeslim.model.sources.starter import starter

    load_profile(device)
    of_weights = holds_weights(source)
    file = out or Path(source if of_weights else source.rpartition(":")[0]).parent / "model.py"
    if file.suffix != ".py":
        raise BadInput(f"--out {file}: a Python file is written; name it so (.py)")
    if of_weights:
        if wishes["weights"]:
            raise BadInput(f"{source} and --weights both name weights; leave one of them out")
        wishes["weights"] = source
    made = starter(source, file, lambda text: click.echo(text, err=True))
    try:
        with whole_file(file) as part:
            part.write_text(made.text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}") from error
    model = f"{file}:{made.name}"
    try:
        found = edgeslim.check(model, device=device, **wishes)
    except BaseException:  # what was wrong with weights or images is put right by the same call
        file.unlink(missing_ok=True)
        raise
    if not as_json:
        echo(f"wrote {file}: {made.network}")
    for line in made.guessed:
        tell("warning", f"guessed: {line}; look at PREPROCESSING in {file}")
    if as_json:
        print_json({"file": str(file), "guessed": list(made.guessed), "model": model, "check": found.to_dict()})
    else:
        _tell(found, model, device)
    _require_possible(found, model, device)
    if not as_json:
        echo(f"next: {shlex.join(['edgeslim', 'build', model, '--device', device, *_said(wishes)])}")


def _said(wishes: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of a call as they are typed, and where its images are if nobody said."""
    for name, value in wishes.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            yield from [option] if value else []
        elif value is not None:
            yield from (option, str(value))
    if wishes["data"] is None and None in (wishes[name] for name in SETS):
        yield from ("--data", "IMAGES")


def _tell(found: "CheckReport", shown: str, device: str) -> None:
    """Print what was found."""
    from edgeslim.report.check import check_lines, check_table

    if found.possible:
        echo(f"{shown} can be built for {device}")
    show(check_table(found))
    for line in check_lines(found):
        echo(line)


def _require_possible(found: "CheckReport", shown: str, device: str) -> None:
    """Raise Refused where the device cannot have the model."""
    from edgeslim.pipeline.rules import way_out

    if not found.possible:
        raise Refused(f"{shown} cannot be built for {device}:", found.reasons, way_out(load_profile(device)))
