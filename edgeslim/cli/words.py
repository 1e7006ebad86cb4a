"""What the words of options and arguments may be, as far as that is known: shells complete them by it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from edgeslim.devices.profile import all_profiles
from edgeslim.formats import FORMATS
from edgeslim.kept import KINDS
from edgeslim.measure.meters import METERS
from edgeslim.recipe import PRUNING_UNITS

Known = Callable[[str], Iterable[str]]  # what has been typed -> the words that may begin so


class Word(click.ParamType):  # type: ignore[type-arg] # generic from click 8.5 on
    """A text that is completed to the words that are known, with `or_file` to files where none of them begins so."""

    name = "text"

    def __init__(self, known: Known, *, or_file: bool = False) -> None:
        self.known, self.or_file = known, or_file

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - as click calls it
        param: click.Parameter,  # noqa: ARG002 - likewise
        incomplete: str,
    ) -> list[CompletionItem[str]]:
        """Return what may follow."""
        found = [CompletionItem(word) for word in self.known(incomplete) if word.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if self.or_file else [])


def _devices(_: str) -> Iterator[str]:
    for profile in all_profiles():
        yield from (profile.name, *profile.aliases)


def _models(incomplete: str) -> Iterator[str]:
    from edgeslim.model.sources.known import factories_in, torchvision_classifiers

    file, colon, _ = incomplete.rpartition(":")
    if file == "torchvision":
        yield from (f"torchvision:{name}" for name in torchvision_classifiers())
    elif colon:
        with suppress(OSError, SyntaxError, ValueError):
            yield from (f"{file}:{name}" for name in factories_in(Path(file)))
    else:
        yield "torchvision:"
        yield from _python_files(incomplete)


def _python_files(incomplete: str) -> Iterator[str]:
    """Yield the Python files of the folder that was typed so far, and the folders in it."""
    begun = incomplete[: incomplete.rfind("/") + 1]
    with suppress(OSError):
        for place in sorted(Path(begun or ".").iterdir()):
            if place.is_dir() and not place.name.startswith((".", "__")):
                yield f"{begun}{place.name}/"
            elif place.suffix == ".py":
                yield f"{begun}{place.name}:"


def _rewrites(_: str) -> Iterator[str]:
    from edgeslim.compress.legalize.rewrites import known_rewrites

    yield from ("auto", "none")
    yield from (f"{name}={answer}" for name in known_rewrites() for answer in ("yes", "no"))


def _boards(_: str) -> Iterator[str]:
    yield from ("local", "ssh://", "fake:")


def _emulators(_: str) -> Iterator[str]:
    yield "emulator"
    yield from (f"emulator:{profile.name}" for profile in all_profiles() if profile.emulation is not None)


def _boards_and_emulators(incomplete: str) -> Iterator[str]:
    yield from (*_boards(incomplete), *_emulators(incomplete))


def _one_of(*words: str) -> Known:
    return lambda _: words


def listed(*words: str) -> Word:
    """Return the type of a list such as `noisy,throttled`, whose last word is completed."""

    def known(incomplete: str) -> Iterator[str]:
        before = incomplete[: incomplete.rfind(",") + 1]
        return (f"{before}{word}" for word in words if word not in before.split(","))

    return Word(known)


MODEL = Word(_models)
DEVICE = Word(_devices, or_file=True)
WEIGHTS = Word(_one_of("random", "default"), or_file=True)
DATA = Word(_one_of("synthetic"), or_file=True)
FORMAT = Word(_one_of(*FORMATS))
PRUNING = Word(_one_of(*(f"{unit}=" for unit in PRUNING_UNITS)))
REWRITE = Word(_rewrites)
BOARD = Word(_boards)
EMULATOR = Word(_emulators)
BOARD_OR_EMULATOR = Word(_boards_and_emulators)
METER = Word(_one_of("auto", *METERS, "csv:"))
KIND = Word(_one_of(*KINDS))
