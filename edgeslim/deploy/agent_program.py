"""The native agent: built from its C sources with whatever compiler is there, and kept."""

from pathlib import Path

from edgeslim.deploy.compile_c import compiled
from edgeslim.errors import BadInput
from edgeslim.resources import bundled

ARCHITECTURES = ("x86_64", "aarch64")
FLAGS = ("-std=c11", "-O2", "-s", "-Wall", "-Wextra")
LIBRARIES = ("-lm", "-lpthread", "-ldl")


def agent_program(architecture: str) -> Path:
    """Return the agent's executable for "x86_64" or "aarch64", built now or kept from an earlier call.

    Raises BadInput for another architecture, and ToolFailed as `compiled` does.
    """
    if architecture not in ARCHITECTURES:
        raise BadInput(f"architecture {architecture}: {' or '.join(ARCHITECTURES)} was expected")
    sources = sorted(bundled("runtimes").joinpath("agent").glob("*.[ch]"))
    return compiled("edgeslim-agent", "agents", architecture, sources, FLAGS, LIBRARIES)
