"""C programs of the project's own, built with whatever compiler is there, once for every compiler and source."""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from edgeslim.errors import ToolFailed
from edgeslim.resources import default_store, python_command
from edgeslim.sealed import sealed_folder
from edgeslim.work_folders import work_folder

GLIBC = "2.28"  # the oldest that the runtimes' own wheels ask for
COMPILE_TIMEOUT_S = 300.0


def compiled(
    name: str,
    store: str,
    architecture: str,
    sources: Sequence[Path],
    flags: Sequence[str],
    libraries: Sequence[str] = (),
) -> Path:
    """Return a program or library made of C sources for an architecture, built now or kept from an earlier call.

    It lies as `name` in a folder that its content names, in the folder `store` of kept results; headers are among
    `sources`. Raises ToolFailed where no compiler is there (the message says which commands bring one), where the
    compiler fails (the message has its words) or where the result cannot be kept.
    """
    compiler = _compiler(architecture)
    fingerprint = _fingerprint([*compiler, *flags, *libraries], compiler, sources)
    code = [str(source) for source in sources if source.suffix == ".c"]

    def build(folder: Path) -> None:
        with work_folder(folder.parent) as temporary:
            _run([*compiler, *flags, *code, "-o", str(folder / name), *libraries], temporary)

    return sealed_folder(default_store(), store, f"{architecture}-{fingerprint}", build) / name


def _compiler(architecture: str) -> list[str]:
    """Return the command that compiles for `architecture`; ToolFailed where there is none.

    For this machine its own compiler comes first: the program then fits this machine's libc and needs nothing else. For
    another one `ziglang` comes first: it builds for a chosen, old glibc, while a Debian cross compiler builds for the
    one it came with, which is newer than many a board's.
    """
    ziglang = python_command("-m", "ziglang", "cc", "-target", f"{architecture}-linux-gnu.{GLIBC}")
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


def _fingerprint(command: list[str], compiler: list[str], sources: Sequence[Path]) -> str:
    """Return the hash of everything the result depends on: the command, the compiler's version, the sources."""
    digest = hashlib.sha256(repr((command, _run([*compiler, "--version"]))).encode())
    for source in sources:
        digest.update(f"{source.name}\0".encode() + hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _run(command: list[str], temporary: Path | None = None) -> str:
    """Return what a compiler prints, its temporary files in a folder; ToolFailed with its words when it fails."""
    own = {} if temporary is None else {"TMPDIR": str(temporary)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=COMPILE_TIMEOUT_S,
            env={**os.environ, **own},
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailed(f"{command[0]} was not finished after {COMPILE_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise ToolFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise ToolFailed(f"{' '.join(command[:4])} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
