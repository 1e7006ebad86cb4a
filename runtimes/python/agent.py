"""Run one model on this device, or watch its small files, and report in JSON lines what happened (../PROTOCOL.md).

Needs the files beside this one and, to run a model, numpy and one runtime package. Of the `runtime_NAME.py` only the
one that is asked for must be there. Nothing but the standard library is loaded before stdout is taken away and the
process has its CPUs.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from command_line import arguments
from messages import EXIT_CODES, AgentError, Channel
from own_process import be_first_to_go, keep_to_cpus
from watch import watch


def main(argv: list[str]) -> int:
    """Run the session that `argv` asks for and return the exit code."""
    channel = Channel()
    be_first_to_go()
    try:
        options = arguments(argv)
        if options.log is not None:
            channel.keep_log(options.log)
        if options.affinity is not None:
            keep_to_cpus(options.affinity)
        if options.sample is not None:
            watch(options, channel)
        else:
            _model_session(options.runtime, channel).run_session(options, channel)
    except AgentError as failure:
        channel.emit("error", reason=failure.reason, message=str(failure))
        return EXIT_CODES[failure.reason]
    return 0


def _model_session(runtime: str, channel: Channel) -> Any:
    """Import what needs numpy only now: it starts threads, which take over the CPUs that the process may use."""
    try:
        return importlib.import_module("model_session")
    except ImportError as error:
        channel.hello(runtime)
        raise AgentError("missing-runtime", f"the Python agent needs numpy: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
