"""The native agent: built from its C sources with whatever compiler is there, once for every compiler and source."""

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from edgeslim.bundled import bundled, default_store
from edgeslim.errors import BadInput, ToolFailed

ARCHITECTURES = ("x86_64", "aarch64")
FLAGS = ("-std=c11", "-O2", "-s", "-Wall", "-Wextra")
LIBRARIES = ("-lm", "-lpthread", "-ldl")
GLIBC = "2.28"  # the oldest that the runtimes' own wheels ask for
COMPILE_TIMEOUT_S = 300.0


def agent_program(architecture: str) -> Path:
    """Return the agent's executable for "x86_64" or "aarch64", built now or kept from an earlier call.

    Raises BadInput for another architecture, ToolFailed where no compiler is there (the message says which commands
    bring one), where the compiler fails (the message has its words) or where the program cannot be kept.
    """
    if architecture not in ARCHITECTURES:
        raise BadInput(f"architecture {architecture}: {' or '.join(ARCHITECTURES)} was expected")
    compiler = _compiler(architecture)
    sources = sorted(bundled("runtimes").joinpath("agent").glob("*.[ch]"))
    folder = default_store() / "agents" / f"{architecture}-{_fingerprint(compiler, sources)}"
    program = folder / "edgeslim-agent"
    try:
        if not program.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _build(compiler, [str(source) for source in sources if source.suffix == ".c"], program)
    except OSError as error:
        raise ToolFailed(
            f"cannot keep the agent in {folder}: {error.strerror}; name another folder in EDGESLIM_CACHE"
        ) from error
    return program


def _compiler(architecture: str) -> list[str]:
    """Return the command that compiles for `architecture`; ToolFailed where there is none.

    For this machine its own compiler comes first: the program then fits this machine's libc and needs nothing else. For
    another one `ziglang` comes first: it builds for a chosen, old glibc, while a Debian cross compiler builds for the
    one it came with, which is newer than many a board's.
    """
    ziglang = [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture}-linux-gnu.{GLIBC}"]
    zig = [ziglang] if find_spec("ziglang") else []
    if architecture == platform.machine():
        candidates = [*_found("cc", "gcc", "clang"), *zig]
        advice = "apt-get install gcc"
    else:
        candidates = [*zig, *_found(f"{architecture}-linux-gnu-gcc")]
        advice = f"apt-get install gcc-{architecture.replace('_', '-')}-linux-gnu"
    if not candidates:
        raise ToolFailed(f"no C compiler for {architecture}: `pip install ziglang` or `{advice}` brings one")
    return candidates[0]


def _found(*names: str) -> list[list[str]]:
    return [[path] for path in map(shutil.which, names) if path]


def _fingerprint(compiler: list[str], sources: list[Path]) -> str:
    """Return the hash of everything the program depends on: the command, the compiler's version, the sources."""
    digest = hashlib.sha256(repr((compiler, FLAGS, LIBRARIES, _run([*compiler, "--version"]))).encode())
    for source in sources:
        digest.update(f"{source.name}\0".encode() + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _build(compiler: list[str], sources: list[str], program: Path) -> None:
    """Compile into a folder beside the program and give it its name only when it is whole."""
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        part = Path(folder) / "agent"
        _run([*compiler, *FLAGS, *sources, "-o", str(part), *LIBRARIES])
        part.replace(program)


def _run(command: list[str]) -> str:
    """Return what a compiler prints; ToolFailed with its words when it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=COMPILE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"{command[0]} was not finished after {COMPILE_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise ToolFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise ToolFailed(f"{' '.join(command[:4])} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
