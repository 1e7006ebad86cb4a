"""Load a model, run it, time it and report, in the order of the protocol.

A runtime is a module `runtime_NAME.py` beside this file with

    PACKAGE, VERSION             what is installed
    load(options, fit)           -> the call that runs the model: one array for each input -> one for each output
    graph(options, fit, sample)  -> one dict for each node that the runtime executed
    too_old(model, text)         -> the versions, where the failure `text` of loading says that the runtime is too old

`options` is the command line.
`fit` takes (name, shape, dtype) of each input that the model has, None for an open dimension, and returns the shapes
that it will be given.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from time import monotonic
from typing import TYPE_CHECKING, Any

from measure_times import measure_times, timed
from messages import AgentError
from model_inputs import Source, require_file
from model_outputs import save_outputs
from own_process import memory_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from messages import Channel

_OUT_OF_MEMORY = re.compile(
    r"bad.?alloc|out of memory|(failed|could not|cannot|unable)( to)? alloc"
    r"|array is too big|maximum allowed size exceeded",  # numpy, of a tensor larger than any memory
    re.IGNORECASE,
)
_MULTIPLIES = re.compile(r"conv(?!ert)|mat_?mul|gemm|fully_?connected", re.IGNORECASE)


def run_session(options: argparse.Namespace, channel: Channel) -> None:
    """Do what the command line asks for; AgentError says why it could not be done."""
    runtime = _import_runtime(options.runtime, channel)
    require_file(options.model)
    source = Source(options.inputs, options.seed)
    rss_before_load_bytes = memory_bytes("VmRSS")

    started = monotonic()
    with _failing_as("unreadable-model", runtime, options.model):
        run = runtime.load(options, source.fit)
    channel.emit("init", seconds=monotonic() - started)
    with _failing_as("runtime-failed", runtime):
        channel.emit("first", seconds=timed(run, source.samples[0]))
        if options.iterations > 0 or options.min_duration_s > 0:
            copies = [run, *(runtime.load(options, source.fit) for _ in range(options.streams - 1))]
            measure_times(copies, source.samples, options, channel)
        if options.outputs:
            save_outputs(run, source.samples, options.outputs, channel)
    channel.emit(
        "memory",
        peak_rss_bytes=memory_bytes("VmHWM"),
        rss_before_load_bytes=rss_before_load_bytes,
        arena_bytes=None,  # none of the packages says it
    )
    if options.graph:
        with _failing_as("runtime-failed", runtime):
            nodes = runtime.graph(options, source.fit, source.samples[0])
        channel.emit("graph", nodes=nodes)
        channel.emit("precision", requested=options.precision, actual=precision_of(nodes))
    channel.emit("done")


def precision_of(nodes: list[dict[str, Any]]) -> str:
    """Return the precisions in which convolutions and matrix products ran (all nodes, if there are none of these)."""
    multiplying = [node for node in nodes if _MULTIPLIES.search(node["op"])]
    return "+".join(sorted({node["precision"] for node in multiplying or nodes}))


def _import_runtime(name: str, channel: Channel) -> Any:
    """Import the runtime's module and say hello; `missing-runtime` if its package cannot be imported."""
    try:
        runtime = importlib.import_module("runtime_" + name)
    except ImportError as error:
        channel.hello(name)
        raise AgentError("missing-runtime", f"{name} cannot be imported: {error}") from error
    channel.hello(name, runtime.PACKAGE, runtime.VERSION)
    return runtime


@contextlib.contextmanager
def _failing_as(reason: str, runtime: Any, model: Any = None) -> Iterator[None]:
    """Turn whatever a runtime raises into a failure of the protocol; `model` where it is being read."""
    where = "" if model is None else f"{model}: "
    try:
        yield
    except (AgentError, BrokenPipeError):
        raise
    except ImportError as error:  # some runtimes import their binary parts only now
        raise AgentError("missing-runtime", str(error)) from error
    except MemoryError as error:
        raise AgentError("out-of-memory", f"{where}memory ran out") from error
    except Exception as error:  # runtimes raise types of their own straight from Exception
        text = " ".join(str(error).split())
        versions = None if model is None else runtime.too_old(str(model), text)
        if versions is not None:
            runtime_words = f"{runtime.PACKAGE} {runtime.VERSION} is too old"
            raise AgentError("old-runtime", f"{where}{runtime_words}: {versions}") from error
        raise AgentError("out-of-memory" if _OUT_OF_MEMORY.search(text) else reason, where + text) from error
