"""What every command shares: where results and progress go, and options that mean the same everywhere."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.text import Text

from edgeslim.cli import words
from edgeslim.errors import BadInput
from edgeslim.report.tables import UNKNOWN_WIDTH, rendered
from edgeslim.table import Table
from edgeslim.units import parse, plain

PIPED_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNKNOWN_WIDTH
STDOUT = Console(width=PIPED_WIDTH, highlight=False, markup=False)
STDERR = Console(stderr=True, soft_wrap=True, markup=False)

LOG = logging.getLogger("edgeslim")  # what --log-file holds
LOG.propagate = False
LOG.addHandler(logging.NullHandler())  # without one Python writes errors to stderr once more


def _open_log(_context: click.Context, _option: click.Parameter, file: Path | None) -> None:
    """Write the log to a file from here on, behind what it holds."""
    if file is None:
        return
    try:
        handler = logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--log-file: cannot write {file}: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.info("edgeslim %s", shlex.join(sys.argv[1:]))


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress.")
LOG_FILE = click.option(
    "--log-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    expose_value=False,
    callback=_open_log,
    help="Add every step, warning and error to this file, each with its time.",
)


def progress_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where its progress goes."""
    return QUIET(LOG_FILE(command))


MODEL = click.argument("model", type=words.MODEL, required=False)
FORMATS = click.option(
    "--format",
    "formats",
    multiple=True,
    type=words.FORMAT,
    help="onnx, openvino or tflite; may be repeated. Default: all.",
)
SKIP_BAD = click.option("--skip-bad/--no-skip-bad", help="Leave out images that cannot be read.")
TRUST_LABELS = click.option(
    "--trust-labels/--no-trust-labels", help="Do not hold the labels against what the model answers before the work."
)
WEIGHTS = click.option(
    "--weights",
    type=words.WEIGHTS,
    help="random, default (the local cache of torchvision or timm), or a .safetensors or .pt file.",
)
DEVICE = click.option(
    "--device",
    "-d",
    required=True,
    type=words.DEVICE,
    help="A device's name or alias, or a profile file.",
)
_IMAGES = (
    ("--data", None, "A folder of images by class, an .npz of images and labels, or `synthetic`."),
    ("--calibration", "DATA", "Images that calibrate, in place of a part of --data."),
    ("--selection", "DATA", "Images by which widths and float layers are chosen, likewise."),
    ("--evaluation", "DATA", "Images that judge and choose nothing, likewise."),
)


def images_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where its images are."""
    for name, metavar, told in reversed(_IMAGES):
        command = click.option(name, type=words.DATA, metavar=metavar, help=told)(command)
    return command


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command its model, its device and its images, with what is said of them."""
    for one in reversed((MODEL, DEVICE, WEIGHTS, images_options, SKIP_BAD, TRUST_LABELS)):
        command = one(command)
    return command


def keep_stdout() -> None:
    """Keep stdout for results: from here on what else writes to it, the user's own code too, writes to stderr."""
    STDOUT.file = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    sys.stdout = STDOUT.file
    os.dup2(2, 1)


def echo(text: str, *, nl: bool = True) -> None:
    """Print text on stdout as it is."""
    click.echo(text, file=STDOUT.file, nl=nl)


def show(*shown: Table | str | Sequence[Table | str]) -> None:
    """Print tables and lines on stdout."""
    for one in shown:
        STDOUT.print(rendered(one))


def tell(kind: Literal["error", "warning", "help"], text: str) -> None:
    """Say on stderr what went wrong or may, and what to do: in colour on a terminal, unless NO_COLOR is set."""
    style = {"error": "bold red", "warning": "yellow", "help": "cyan"}[kind]
    level = {"error": logging.ERROR, "warning": logging.WARNING, "help": logging.INFO}[kind]
    LOG.log(level, "%s", plain(text))
    STDERR.print(Text.assemble((f"{kind}:", style), " ", plain(text)), highlight=False)


_documents: list[Any] = []  # what was printed as JSON: one document at most is


def begin() -> None:
    """Forget what was printed and logged: a command begins."""
    _documents.clear()
    for handler in LOG.handlers[1:]:
        LOG.removeHandler(handler)
        handler.close()


def printed_json() -> bool:
    """Tell whether a document was printed."""
    return bool(_documents)


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    _documents.append(value)
    echo(json.dumps(value, indent=2, sort_keys=True))


def quantity(text: str | None, kind: str, option: str) -> Any:
    """Return what an option like `--max-size 5MB` says, in the base unit: seconds as float, bytes as int."""
    if text is None:
        return None
    try:
        value = parse(text, kind)
    except ValueError as error:
        raise BadInput(f"{option}: {error}") from error
    return round(value) if kind == "bytes" else value
