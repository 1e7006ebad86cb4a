"""The agent's command line: which words it takes, and what is wrong with those it does not."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from messages import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable

RUNTIMES = ("onnxruntime", "openvino", "litert")
CPU_PROVIDER = "CPUExecutionProvider"
SEEDS = 2**64
MOST_THREADS = 1024
MOST_INFERENCES = 2**63 - 1
MOST_CPUS = 1024  # what the kernel's usual set of CPUs has room for
SHORTEST_PERIOD_S, LONGEST_S = 0.001, 1e9


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as the protocol's `usage` failure."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and leaving."""
        raise AgentError("usage", message)


def arguments(argv: list[str]) -> argparse.Namespace:
    """Return the parsed command line; `sample` is None where a model is to be run, else the files to watch.

    Raises AgentError ("usage").
    """
    watching = any(word.partition("=")[0] in ("--sample", "--sample-command") for word in argv)
    parser = _watching() if watching else _running()
    options = parser.parse_args(argv)
    if options.sample is None:
        _settle_provider(parser, options)
    return options


def _settle_provider(parser: Parser, options: argparse.Namespace) -> None:
    """Put the default in place of no provider, and report what has no meaning."""
    for word, given in (("--provider", options.provider is not None), ("--no-fallback", options.no_fallback)):
        if given and options.runtime != "onnxruntime":
            parser.error(f"{word} has a meaning only with --runtime onnxruntime")
    options.provider = options.provider or CPU_PROVIDER
    if options.no_fallback and options.provider == CPU_PROVIDER:
        parser.error(
            f"--no-fallback needs a --provider other than {CPU_PROVIDER}: from that there is nothing to fall back"
        )


def _running() -> Parser:
    parser = _parser("Run one model on this device.")
    parser.set_defaults(sample=None)
    parser.add_argument("--runtime", required=True, choices=RUNTIMES)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--library", type=_no_library, help="of the C agent alone")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="what the model is")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--inputs", type=Path, action="append", help="samples, one .npy file for each input")
    given.add_argument("--seed", type=_whole(0, SEEDS - 1), help="one random sample instead")
    parser.add_argument("--threads", type=_whole(1, MOST_THREADS), default=1, help="of each copy of the model")
    parser.add_argument("--streams", type=_whole(1, MOST_THREADS), default=1, help="copies of the model side by side")
    parser.add_argument("--affinity", type=_cpus, help="the CPUs to use, such as 0,2-3")
    parser.add_argument("--iterations", type=_whole(0, MOST_INFERENCES), default=0, help="time at least so many")
    parser.add_argument("--min-duration-s", type=_seconds, default=0.0, help="and for at least this long")
    parser.add_argument("--max-duration-s", type=_positive_seconds, default=float("inf"), help="but no longer")
    parser.add_argument("--warmup", type=_whole(0, MOST_INFERENCES), help="untimed inferences; absent: until steady")
    parser.add_argument(
        "--outputs", type=Path, action="append", default=[], help="run every sample once and save an output here"
    )
    parser.add_argument("--graph", action="store_true", help="report which nodes the runtime executed")
    parser.add_argument("--provider", metavar="NAME", help="ONNX Runtime's execution provider")
    parser.add_argument("--no-fallback", action="store_true", help="fail where it leaves a node to the CPU")
    parser.add_argument("--log", type=Path, help="keep every message here too, and work on without a listener")
    return parser


def _watching() -> Parser:
    parser = _parser("Read small files again and again.")
    parser.set_defaults(log=None, affinity=None)
    parser.add_argument("--sample", type=Path, action="append", default=[], help="a small file")
    parser.add_argument("--sample-command", type=_words, help="its stdout is one more value")
    parser.add_argument("--period-s", required=True, type=_period_s)
    parser.add_argument("--max-duration-s", type=_positive_seconds, default=float("inf"))
    return parser


def _parser(what: str) -> Parser:
    return Parser(description=f"{what} The messages on stdout are described in PROTOCOL.md.", allow_abbrev=False)


def _no_library(path: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"{path}: the Python agent runs its own package; only the C agent takes a library")


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    if not words:
        raise argparse.ArgumentTypeError("a program's name was expected")
    return words


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} to {most}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to {LONGEST_S:.0f}")
    return value


def _positive_seconds(text: str) -> float:
    value = _seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError("more than 0 seconds were expected")
    return value


def _period_s(text: str) -> float:
    value = _seconds(text)
    if value < SHORTEST_PERIOD_S:
        raise argparse.ArgumentTypeError(f"{SHORTEST_PERIOD_S} seconds or more were expected")
    return value


def _cpus(text: str) -> set[int]:
    """Return the CPUs of a list as Linux writes them: 0,2-3."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) >= MOST_CPUS:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of CPUs such as 0,2-3")
        cpus.update(range(int(first), int(last or first) + 1))
    if not cpus:
        raise argparse.ArgumentTypeError(f"{text!r} names no CPU")
    return cpus
