"""The command line: all commands, and how each end becomes an exit code.

stdout is the result, stderr progress and errors.
"""

import os
import signal
import sys
import tempfile
import traceback
from typing import Any, NoReturn

import click

from edgeslim.cli.bench import bench, compare, probe
from edgeslim.cli.build import build, check, sensitivity
from edgeslim.cli.calibrate import calibrate
from edgeslim.cli.emulate import profile
from edgeslim.cli.inspect import devices, doctor, inspect, verify
from edgeslim.cli.options import STDERR
from edgeslim.errors import DeviceFailed, EdgeslimError
from edgeslim.resources import HUGE_PAGES


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="edgeslim")
def commands() -> None:
    """Compress a CNN for one device and hand over an artifact in which nothing is believed before it ran."""


for command in (
    build, bench, compare, inspect, verify, check, sensitivity, devices, probe, profile, calibrate, doctor,
):  # fmt: skip
    commands.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with the code of what happened."""
    os.environ.setdefault(*HUGE_PAGES)
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
