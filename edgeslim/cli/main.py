"""The command line: all commands, and how each end becomes an exit code.

stdout is the result, stderr progress and errors.
"""

import _thread
import atexit
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from typing import Any, NoReturn

import click

from edgeslim.cli.commands.bench import bench, compare, probe
from edgeslim.cli.commands.build import build, sensitivity
from edgeslim.cli.commands.cache import cache
from edgeslim.cli.commands.calibrate import calibrate
from edgeslim.cli.commands.check import check, init
from edgeslim.cli.commands.emulate import profile
from edgeslim.cli.commands.inspect import devices, doctor, inspect, show_artifact, verify
from edgeslim.cli.complete import VARIABLE, answer
from edgeslim.cli.help import Commands
from edgeslim.cli.options import LOG, begin, keep_stdout, print_json, printed_json, tell
from edgeslim.deploy.installed import version_of
from edgeslim.errors import BadModel, DeviceFailed, EdgeslimError, Recomputed
from edgeslim.formats import RUNTIMES
from edgeslim.resources import HUGE_PAGES, LIBRARY_FOLDERS, default_store, require_room

INTERRUPTED_WORDS = "interrupted; nothing half-written was left"
WITHOUT_WORK = ("cache", "devices", "doctor")
USAGE, INTERRUPTED = 2, 130  # exit codes beside those of errors.py


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version of edgeslim and of all that computes or writes files here, and end."""
    if wanted:
        names = ("torch", *dict.fromkeys(package for one in RUNTIMES.values() for package in one.packages))
        found = [f"{name} {installed}" for name in names if (installed := version_of(name))]
        click.echo(f"edgeslim {version_of('edgeslim')} (Python {platform.python_version()}; {', '.join(found)})")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of edgeslim and of the runtimes that are installed.",
)
def commands() -> None:
    """Compress a CNN for one device and hand over an artifact in which nothing is believed before it ran."""


for command in (
    build,
    bench,
    compare,
    show_artifact,
    inspect,
    verify,
    check,
    init,
    sensitivity,
    devices,
    probe,
    profile,
    calibrate,
    cache,
    doctor,
):
    commands.add_command(command)


def run() -> NoReturn:
    """Be the program: keep stdout for results, and run the command line."""
    if VARIABLE in os.environ:
        _complete(os.environ[VARIABLE])
    keep_stdout()
    sys.unraisablehook = _interrupted_again(sys.unraisablehook)
    warnings.showwarning = _shown(warnings.showwarning)
    for name, command in commands.commands.items():
        command.callback = _apart(name, command.callback)
    try:
        main()
    except KeyboardInterrupt as error:  # one more, while the first is told
        _fail(error, INTERRUPTED_WORDS, INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave_interrupted()
        raise
    finally:
        sys.stdout = sys.stderr  # for what the user's code asked to be called at the end


def _complete(instruction: str) -> NoReturn:
    """Answer a shell that asks while a command is typed, and end."""
    try:
        sys.exit(answer(commands, instruction))
    except EdgeslimError as error:
        tell("error", str(error))
        sys.exit(error.exit_code)


def _leave_interrupted() -> NoReturn:
    """End with our exit code. Python would send itself SIGINT where the interrupt came inside an `exec` of text.

    It notes one there as unhandled (as of dataclasses, which make their methods so), whoever catches it later.
    """
    sys.stdout = sys.stderr
    atexit._run_exitfuncs()
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr] # None where it was closed
    os._exit(INTERRUPTED)


def _interrupted_again(otherwise: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a hook that interrupts once more: Python drops an interrupt that comes while it destroys an object."""

    def hook(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            otherwise(dropped)

    return hook


def _shown(otherwise: Callable[..., None]) -> Callable[..., None]:
    """Return what shows a warning: our own as a line of ours, others as `otherwise` does."""

    def show_warning(message: Any, category: type[Warning], *where: Any) -> None:
        if issubclass(category, Recomputed):
            tell("warning", str(message))
        else:
            otherwise(message, category, *where)

    return show_warning


def _apart(name: str, command: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a command during which `print` writes to stderr: results go to stdout by other ways.

    One that works has room for it, or does not begin.
    """

    def called(*words: Any, **named: Any) -> Any:
        with redirect_stdout(sys.stderr):
            if name not in WITHOUT_WORK:
                require_room()
            return None if command is None else command(*words, **named)

    return called


def main() -> NoReturn:
    """Run the command line and exit with the code of what happened."""
    os.environ.setdefault(*HUGE_PAGES)
    variable, name = LIBRARY_FOLDERS
    os.environ.setdefault(variable, str(default_store() / name))
    begin()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _interrupt)
    try:
        commands.main(standalone_mode=False)
        LOG.info("done")
    except DeviceFailed as error:
        _fail(error, f"{error.message}\nstatus: {error.status}", error.exit_code, error.next_step)
    except EdgeslimError as error:
        _fail(error, error.message, error.exit_code, error.next_step)
    except click.ClickException as error:
        _misused(error)
    except SystemExit as error:
        _fail(error, "code of the model's ended the program before it was done", BadModel.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        _fail(error, INTERRUPTED_WORDS, INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read stdout has gone, and Python would complain about it at its exit
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - our bug: the one place that must catch everything
        with tempfile.NamedTemporaryFile("w", prefix="edgeslim-report-", suffix=".txt", delete=False) as report:
            report.write(f"edgeslim {sys.argv[1:]}\n{traceback.format_exc()}")
        _fail(error, f"a bug in edgeslim; please report it with {report.name}", 1)
    sys.exit(0)


def _misused(error: click.ClickException) -> NoReturn:
    """End for words that no command takes; none at all are answered with the help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        _end(error, "no command was named", USAGE)
    context = getattr(error, "ctx", None)
    help_of = "" if context is None else f"`{context.command_path} --help` shows every option, with examples"
    _fail(error, error.format_message(), USAGE, help_of)


def _interrupt(number: int, frame: Any) -> NoReturn:  # noqa: ARG001 - the signature of a signal handler
    raise KeyboardInterrupt


def _fail(error: BaseException, message: str, code: int, next_step: str = "") -> NoReturn:
    tell("error", message)
    for line in next_step.splitlines():
        tell("help", line)
    _end(error, message, code, next_step)


def _end(error: BaseException, message: str, code: int, next_step: str = "") -> NoReturn:
    """Exit; with --json, and nothing printed yet, what happened is the document."""
    LOG.info("ended with exit code %d", code)
    if "--json" in sys.argv[1:] and not printed_json():
        print_json(
            {
                "kind": "interrupted" if code == INTERRUPTED else _words(type(error).__name__),
                "exit_code": code,
                "message": message,
                "reasons": list(getattr(error, "reasons", ())),
                "next": next_step or None,
            }
        )
    sys.exit(code)


def _words(name: str) -> str:
    """Return the name of a class in words ("bad-input")."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
